"""``facesr infer``: restore aligned faces."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from facesr_plugin.utils.cliargs import EXIT_DONE, EXIT_SOME_FAILED, add_common, add_heatmaps, say, warn

if TYPE_CHECKING:
    from facesr_plugin.inference import Summary
    from facesr_plugin.pipeline.heatmaps import HeatmapFinder

_DESCRIPTION = """\
Restore aligned faces: every IN (file, folder or glob) becomes OUT/<stem>.png.

A square face of any size is resized to what the network takes (SPARNet: 128 x 128, bicubic; progressive: 16 x 16,
halved from 128 x 128, bilinear; DIC: 16 x 16, bicubic; JASRNet: 128 x 128, bicubic) as in the published protocol, so
give it the small image. Of other shapes the shorter side is, and the longer one follows. DIC takes images below
128 x 128 whose sides are multiples of 8 as they are.
Files that have a result already are left alone, so an interrupted run continues.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to ``facesr``."""
    parser = subparsers.add_parser(
        "infer",
        help="restore aligned faces",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", metavar="IN", help="image file, folder (without sub-folders) or glob")
    parser.add_argument("--weights", required=True, metavar="FILE", help=".pth or .safetensors of a generator")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--gt", metavar="DIR", help="ground truth under the same stems: prints PSNR and SSIM")
    parser.add_argument("--grid", action="store_true", help="write comparison pictures to DIR/grid")
    parser.add_argument("--attention", action="store_true", help="write figures of the attention to DIR/attention")
    parser.add_argument(
        "--attention-blocks", metavar="NAME,...", help="blocks of the network in the figures, such as encoder.1,body.0"
    )
    add_heatmaps(parser)
    parser.add_argument(
        "--landmarks", action="store_true", help="write JASRNet's landmarks to DIR/landmarks: drawn, and as JSON"
    )
    parser.add_argument("--steps", action="store_true", help="write every step of DIC's network to DIR/steps")
    parser.add_argument(
        "--as-is", action="store_true", help="resize nothing: every image enters the network in its own size"
    )
    add_common(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Restore the inputs; see ``facesr_plugin.inference``."""
    from facesr_plugin.inference import plan_jobs, run_jobs
    from facesr_plugin.pipeline.restorer import load
    from facesr_plugin.utils.files import check_writable

    if args.attention_blocks and not args.attention:
        raise ValueError("--attention-blocks chooses what --attention draws, got it alone. Add --attention.")
    blocks = args.attention_blocks.split(",") if args.attention_blocks else None
    pictures = {name: getattr(args, name) for name in ("grid", "attention", "heatmaps", "steps", "landmarks")}
    jobs = plan_jobs(args.inputs, args.out, gt=args.gt, overwrite=args.overwrite, **pictures)
    finder = heatmap_finder(args)
    restorer = load(args.weights, args.device, args.precision, as_is=args.as_is)
    if any(not job.done for job in jobs):
        check_writable(args.out)
    summary = run_jobs(jobs, restorer, batch=args.batch, workers=args.workers, blocks=blocks, find_heatmaps=finder)
    _report(summary, args.out, restorer.card.metric_protocol)
    return EXIT_SOME_FAILED if summary.failures else EXIT_DONE


def heatmap_finder(args: argparse.Namespace) -> HeatmapFinder | None:
    """Return what ``--heatmaps`` finds landmarks with, None without it."""
    if not args.heatmaps:
        if args.fan_weights or args.fan_side:
            raise ValueError("--fan-weights and --fan-side are for --heatmaps, got them alone. Add --heatmaps.")
        return None
    from facesr_plugin.pipeline.heatmaps import HeatmapFinder

    return HeatmapFinder(args.fan_weights, args.device, args.fan_side or 64)


def _report(summary: Summary, out: str, protocol: str) -> None:
    for failure in summary.failures:
        warn(f"failed: {failure.source}: {failure.reason}")
    failed = len(summary.failures)
    skipped = f", {summary.skipped} had a result (--overwrite restores them again)" if summary.skipped else ""
    say(f"{summary.restored} restored to {out}{skipped}, {failed} failed")
    if summary.compared:
        result, bicubic = summary.means
        say(f"mean of {summary.compared}, {protocol} protocol:")
        say(f"  result   PSNR {result.psnr:.2f} dB  SSIM {result.ssim:.4f}")
        say(f"  bicubic  PSNR {bicubic.psnr:.2f} dB  SSIM {bicubic.ssim:.4f}")
