"""``facesr restore``: restore the faces of whole photos."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from facesr_plugin.utils.cliargs import (
    EXIT_DONE,
    EXIT_SOME_FAILED,
    add_common,
    add_detector,
    add_heatmaps,
    positive_int,
    say,
    warn,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from facesr_plugin.pipeline.background import Background
    from facesr_plugin.pipeline.face import Face
    from facesr_plugin.pipeline.photo_files import PhotoSummary
    from facesr_plugin.pipeline.restorer import Restorer

_DESCRIPTION = """\
Restore the faces of whole photos: every IN (file, folder or glob) becomes OUT/<stem>.png.

Faces are found, aligned as the weights' system wants them, restored, and put back under a mask that fades out. Outside
the faces nothing changes: grey stays grey, 16 bits stay 16 bits, alpha and colour profile are kept (CMYK becomes RGB).
With --bg-weights the rest of the photo goes through a network too, tile by tile, whatever --upscale is.
Files that have a result already are left alone, so an interrupted run continues.
"""
_PHOTO_FLAGS = {  # and what they are when not given; crops have no use for them
    "landmarks": None,
    "upscale": 1,
    "bg_weights": None,
    "bg_tile": None,
    "only_largest": False,
    "min_face": 0.0,
    "weight": 1.0,
    "force": False,
    "save_crops": False,
    "detector_weights": None,
    "align_weights": None,
    "align_below": None,
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to ``facesr``."""
    parser = subparsers.add_parser(
        "restore",
        help="restore the faces of whole photos",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("inputs", nargs="+", metavar="IN", help="image file, folder (without sub-folders) or glob")
    add("--weights", required=True, metavar="FILE", help=".pth or .safetensors of a generator")
    add("--out", required=True, metavar="DIR", help="folder of the results")
    add("--aligned", action="store_true", help="the inputs are aligned crops: restore each as one face")
    add("--landmarks", metavar="FILE", help="points of the faces (.csv, .npz, .json): nothing is detected")
    add_detector(parser)
    add("--align-weights", metavar="FILE", help="JASRNet that finds the points by which tiny faces are aligned")
    add("--align-below", type=float, metavar="PX", help="which faces are tiny (default: twice that JASRNet's input)")
    add("--upscale", type=positive_int, default=1, metavar="N", help="enlarge the photo N times (default: 1)")
    add("--bg-weights", metavar="FILE", help="RRDBNet or SRVGGNetCompact for what is no face (default: Lanczos)")
    add("--bg-tile", type=positive_int, metavar="PX", help="side of the background's tiles (default: 256)")
    add("--only-largest", action="store_true", help="restore the largest face of a photo only")
    add("--min-face", type=float, default=0.0, metavar="PX", help="leave smaller faces as they are (default: 0)")
    add("--weight", type=float, default=1.0, metavar="W", help="1: restored face, 0: the photo (default: 1)")
    add("--force", action="store_true", help="shrink faces larger than the input of a super-resolution network")
    add("--save-crops", action="store_true", help="write aligned inputs and results to DIR/crops")
    add("--save-grid", action="store_true", help="write comparison pictures to DIR/grid")
    add_heatmaps(parser)
    add("--max-pixels", type=positive_int, metavar="N", help="refuse larger photos and results (default: 100 million)")
    add_common(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Restore the inputs; see ``facesr_plugin.pipeline.photo_files``."""
    return _run_aligned(args) if args.aligned else _run_photos(args)


def _run_aligned(args: argparse.Namespace) -> int:
    from facesr_plugin.commands import infer

    given = [name for name, default in _PHOTO_FLAGS.items() if getattr(args, name) != default]
    if given:
        flags = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ValueError(f"--aligned takes crops, which have no use for {flags}. Leave it out.")
    parser = argparse.ArgumentParser()
    infer.add_parser(parser.add_subparsers())
    crops = parser.parse_args(["infer", "", "--weights", "", "--out", ""])  # its defaults
    return infer.run(argparse.Namespace(**vars(crops) | vars(args) | {"grid": args.save_grid}))


def _run_photos(args: argparse.Namespace) -> int:
    from PIL import Image

    from facesr_plugin.commands.infer import heatmap_finder
    from facesr_plugin.pipeline.photo import PhotoOptions
    from facesr_plugin.pipeline.photo_files import Extras, plan_photos, run_photos
    from facesr_plugin.pipeline.restorer import load
    from facesr_plugin.utils.files import check_writable
    from facesr_plugin.utils.imageio import MAX_PIXELS

    names = ("upscale", "only_largest", "min_face", "weight", "force", "batch")
    options = PhotoOptions(**{name: getattr(args, name) for name in names}, **_background(args))
    jobs = plan_photos(args.inputs, args.out, overwrite=args.overwrite)
    Image.MAX_IMAGE_PIXELS = None  # Pillow's limit; ours is checked before pixels are decoded, too
    extras = Extras(args.save_crops, args.save_grid, heatmap_finder(args))
    restorer = load(args.weights, args.device, args.precision)
    find_faces = _face_finder(args, restorer)
    if any(not job.done for job in jobs):
        check_writable(args.out)
    summary = run_photos(
        jobs,
        restorer,
        find_faces,
        options,
        extras=extras,
        workers=args.workers,
        max_pixels=args.max_pixels or MAX_PIXELS,
    )
    _report(summary, args.out)
    return EXIT_SOME_FAILED if summary.failures else EXIT_DONE


def _background(args: argparse.Namespace) -> dict[str, Background]:
    if not args.bg_weights:
        if args.bg_tile:
            raise ValueError("--bg-tile is for the network of --bg-weights, got it alone. Add --bg-weights.")
        return {}
    from facesr_plugin.pipeline.background import TILE_PX, load_background

    return {"background": load_background(args.bg_weights, args.device, args.precision, args.bg_tile or TILE_PX)}


def _face_finder(args: argparse.Namespace, restorer: Restorer) -> Callable[[Path, np.ndarray], list[Face]]:
    if args.align_below is not None and not args.align_weights:
        raise ValueError("--align-below is for the network of --align-weights, got it alone. Add --align-weights.")
    if args.landmarks:
        for flag, value in (("detector", args.detector_weights), ("align", args.align_weights)):
            if value:
                raise ValueError(f"--landmarks has the points, so --{flag}-weights has no use. Leave one of them out.")
        from facesr_plugin.pipeline.landmark_file import read_faces

        known = read_faces(args.landmarks)
        return lambda path, _photo: known.get(path.stem, [])
    from facesr_plugin.pipeline.detector import FaceDetector

    find_faces = FaceDetector(args.detector, args.detector_weights, device=restorer.device)
    if args.align_weights:
        from facesr_plugin.pipeline.tiny_faces import align_tiny_faces

        find_faces = align_tiny_faces(find_faces, args.align_weights, restorer.device, args.align_below)
    return lambda _path, photo: find_faces(photo)


def _report(summary: PhotoSummary, out: str) -> None:
    for note in summary.notes:
        warn(f"note: {note}")
    for failure in summary.failures:
        warn(f"failed: {failure.source}: {failure.reason}")
    skipped = f", {summary.skipped} had a result (--overwrite restores them again)" if summary.skipped else ""
    say(
        f"{summary.photos} photos with {summary.faces} restored faces to {out}{skipped}, {len(summary.failures)} failed"
    )
