"""``facesr eval``: compare restored faces with ground truth, or judge them without."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from facesr_plugin.commands.prepare_landmarks import MODELS
from facesr_plugin.utils.cliargs import EXIT_DONE, EXIT_MISSING, EXIT_SOME_FAILED, add_common, say, warn
from facesr_plugin.version import __version__

if TYPE_CHECKING:
    import torch

    from facesr_plugin.evaluation.landmarks import LandmarkSource
    from facesr_plugin.evaluation.measures import Measure, Measures
    from facesr_plugin.evaluation.result import Evaluation
    from facesr_plugin.pipeline.landmarker import Landmarker

UNPAIRED = "unpaired.txt"
_SHOWN = 5
_DESCRIPTION = """\
Compare the faces in SR_DIR with those in GT_DIR and write a report to OUT: report.md, report.html, and the values of
every face in per_image.csv. Without GT_DIR they are judged by metrics that need none. Files are paired by their names
without extensions; what has no partner is listed in OUT/unpaired.txt, and the exit status is 1.

metrics (default: psnr_rgb psnr_y ssim_rgb ssim_y lpips_alex fid identity and, with landmarks, theirs; else niqe)
  images     psnr_rgb psnr_y ssim_rgb ssim_y ms_ssim lpips_alex lpips_vgg fid identity; niqe needs no ground truth
  published  sparnet_psnr sparnet_ssim dic_psnr dic_ssim progressive_psnr progressive_ssim progressive_ms_ssim
             jasrnet_psnr jasrnet_ssim; about true landmarks jasrnet_box_psnr jasrnet_box_ssim identity_aligned
  landmarks  nme_inter_ocular nme_inter_pupil nme_box auc_inter_ocular failure_inter_ocular
             dic_nrmse_width dic_nrmse_eye_outer_width dic_nrmse_eye_dist

A metric whose weights or library are missing is reported as missing, with the command that gets them; with --strict the
exit status is then 3. Landmarks of restored faces are found by --landmark-model in square aligned faces, or read from
--sr-landmarks. The true ones are those of --landmarks, else those that the model finds in the ground truth.
A run that was stopped, even killed, continues when the same command is given again.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to ``facesr``."""
    parser = subparsers.add_parser(
        "eval",
        help="compare restored faces with ground truth",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("sr", metavar="SR_DIR", type=Path, help="folder of restored faces")
    add("gt", metavar="GT_DIR", type=Path, nargs="?", help="folder of the ground truth, same sizes")
    add("--out", metavar="DIR", type=Path, required=True, help="folder of the report")
    add("--lq", metavar="DIR", type=Path, help="folder of the inputs, shown in the report beside their enlargement")
    add("--compare", metavar="NAME=DIR", nargs="+", default=[], action="extend", help="more folders of restored faces")
    add("--metrics", metavar="A,B,...", help="what is measured, see above")
    add("--metric-weights", metavar="NAME=FILE", nargs="+", default=[], action="extend", help="network of a metric")
    add("--statistics", metavar="FILE", type=Path, help=".npz or .pth that fid compares with instead of GT_DIR")
    add("--landmarks", metavar="FILE", type=Path, help="true landmarks, .json or .npz (facesr prepare landmarks)")
    add("--landmark-model", choices=MODELS, help="network that finds landmarks")
    add("--landmark-weights", metavar="FILE", type=Path, help="of it (default: see facesr weights list)")
    add(
        "--sr-landmarks",
        metavar="[NAME=]FILE",
        nargs="+",
        default=[],
        action="extend",
        help="landmarks of the restored faces, of SR_DIR or of a folder of --compare",
    )
    add("--strict", action="store_true", help="exit with status 3 if a metric is missing")
    add_common(parser, "device", "batch", "workers", "overwrite")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Write the report; return 1 if something was not measured, 3 if with ``--strict`` a metric is missing."""
    from facesr_plugin.evaluation.pairs import pair_faces, write_unpaired
    from facesr_plugin.evaluation.report import write_report
    from facesr_plugin.evaluation.runner import evaluate
    from facesr_plugin.pipeline.compute import resolve_device
    from facesr_plugin.utils.files import check_writable
    from facesr_plugin.utils.imageio import check_apart

    folders, device = _folders(args), resolve_device(args.device)
    pairs = pair_faces(folders, args.gt, args.lq)
    face = pairs.faces[0]
    check_apart([path for path in (*face.results.values(), face.gt, face.lq) if path], args.out)
    check_writable(args.out)
    measures, landmarks, plan = _prepare(args, list(folders), device)
    evaluation = evaluate(
        pairs,
        measures,
        landmarks,
        args.out,
        plan=plan,
        settings=_settings(args, folders, device),
        batch=args.batch,
        workers=args.workers,
        overwrite=args.overwrite,
    )
    write_unpaired(args.out / UNPAIRED, pairs.unpaired)
    paths = write_report(evaluation, args.out)
    _tell(evaluation, args.out)
    say(f"report: {', '.join(map(str, paths))}")
    if args.strict and evaluation.missing:
        return EXIT_MISSING
    return EXIT_DONE if evaluation.complete else EXIT_SOME_FAILED


def _folders(args: argparse.Namespace) -> dict[str, Path]:
    """Folders of restored faces by name; that of SR_DIR is its own."""
    from facesr_plugin.evaluation.pairs import printable

    own = printable(args.sr.resolve().name)
    others = _by_name(args.compare, "--compare")
    if own in others:
        raise ValueError(f"--compare must give other names than that of SR_DIR, got {own!r}. Choose another.")
    return {own: args.sr, **others}


def _by_name(entries: Iterable[str], flag: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for entry in entries:
        name, _, path = entry.partition("=")
        if not name.isprintable() or not name or not path:
            raise ValueError(f"{flag} takes NAME=PATH, got {entry!r}")
        if found.setdefault(name, Path(path)) != Path(path):
            raise ValueError(f"{flag} must give each name once, got {name!r} twice")
    return found


def _prepare(
    args: argparse.Namespace, results: Sequence[str], device: torch.device
) -> tuple[Measures, LandmarkSource, dict[str, Any]]:
    """Build the metrics and what finds landmarks, and the plan that tells their values from others'."""
    from facesr_plugin.evaluation.landmarks import FOUND_KEYS, TRUE_KEYS, LandmarkFile, LandmarkSource
    from facesr_plugin.evaluation.measures import build_measures, choose_metrics, sections_of
    from facesr_plugin.utils.download import file_sha256

    finder = _load_finder(args, device)
    files = _sr_landmarks(args, results)
    truth = LandmarkFile(args.landmarks) if args.landmarks else None
    landmarks = LandmarkSource(truth, {name: LandmarkFile(path) for name, path in files.items()}, finder.find)
    true = args.landmarks or (args.landmark_model and args.gt)
    points = args.landmark_model or files.keys() >= set(results)
    given = {"img"} | ({"img2"} if args.gt else set())
    given |= (TRUE_KEYS if true else set()) | (FOUND_KEYS if points else set())
    named = [name.strip() for name in args.metrics.split(",")] if args.metrics else None
    names = named or choose_metrics(given, statistics=bool(args.statistics), num_points=truth and truth.num_points)
    weights = _by_name(args.metric_weights, "--metric-weights")
    sections = sections_of(names, weights, args.statistics)
    lost = (frozenset() if truth else TRUE_KEYS) | (frozenset() if files.keys() >= set(results) else FOUND_KEYS)
    out_of_reach = dict.fromkeys(lost, finder.missing) if finder.missing else {}
    measures = build_measures(sections, results, given, device, out_of_reach=out_of_reach)
    used = {**weights, "statistics": args.statistics, "landmarks": args.landmarks, "landmark_weights": finder.weights}
    used |= {f"landmarks of {name}": path for name, path in files.items()}
    hashes = {name: file_sha256(path)[:16] for name, path in used.items() if path}
    return measures, landmarks, {"version": __version__, "landmark_model": args.landmark_model, "files": hashes}


class _Finder(NamedTuple):
    """What finds landmarks, its file, and why there is none."""

    find: Landmarker | None = None
    weights: Path | None = None
    missing: str = ""


def _load_finder(args: argparse.Namespace, device: torch.device) -> _Finder:
    from facesr_plugin.evaluation.landmarks import MISSING_HEAD, load_finder
    from facesr_plugin.pipeline.landmark_heads import HEADS
    from facesr_plugin.utils.weights import resolve_weights

    model, path = args.landmark_model, args.landmark_weights
    if model is None:
        if path:
            raise ValueError("--landmark-weights is for --landmark-model, got it alone. Add --landmark-model.")
        return _Finder()
    if model == "jasrnet" and not path:
        raise ValueError("--landmark-model jasrnet has no published weights. Name yours with --landmark-weights.")
    try:
        if path or HEADS[model].weights:
            path = resolve_weights(HEADS[model].weights or model, path)
        return _Finder(load_finder(model, path, device), path)
    except MISSING_HEAD as error:
        return _Finder(missing=str(error))


def _sr_landmarks(args: argparse.Namespace, results: Sequence[str]) -> dict[str, Path]:
    """Landmark files of restored faces by result; one without a name is of the first."""
    found: dict[str, Path] = {}
    for entry in args.sr_landmarks:
        name, equals, path = entry.partition("=")
        name, path = (name, path) if equals and name in results else (results[0], entry)
        if found.setdefault(name, Path(path)) != Path(path):
            raise ValueError(f"--sr-landmarks must give one file for each folder, got two for {name!r}")
    return found


def _settings(args: argparse.Namespace, folders: dict[str, Path], device: torch.device) -> dict[str, str]:
    """What the numbers depend on, in words."""
    from facesr_plugin.evaluation.pairs import GT, LQ, printable

    model = args.landmark_model and f"found by {args.landmark_model}"
    rows = {f"restored ({name})": folder for name, folder in folders.items()}
    rows |= {GT: args.gt, LQ: args.lq, "statistics for fid": args.statistics}
    rows |= {"true landmarks": args.landmarks or (args.gt and model)}
    rows |= {
        f"landmarks ({name})": path
        for name, path in (dict.fromkeys(folders, model) | _sr_landmarks(args, [*folders])).items()
    }
    rows |= {"device": device, "facesr-plugin": __version__}
    return {name: printable(str(value)) for name, value in rows.items() if value}


def _tell(evaluation: Evaluation, out: Path) -> None:
    """Print the table, and what was not measured."""
    from facesr_plugin.evaluation.words import counted

    say(counted(len(evaluation.faces), "face", "faces"))
    for measure in evaluation.measures:
        for result in evaluation.results:
            say(f"{measure.name:26}{result:20}{_value_text(evaluation, measure, result)}")
    for name, reason in evaluation.missing.items():
        warn(f"missing: {name}: {reason}")
    for problem in evaluation.problems[:_SHOWN]:
        warn(f"not measured: {problem.face} of {problem.result}: {problem.reason}")
    if evaluation.problems:
        count = counted(len(evaluation.problems), "restored face was", "restored faces were")
        warn(f"{count} not or not fully measured, see {out / 'per_image.csv'}")
    if evaluation.unpaired:
        warn(f"{counted(len(evaluation.unpaired), 'file has', 'files have')} no partner, see {out / UNPAIRED}")


def _value_text(evaluation: Evaluation, measure: Measure, result: str) -> str:
    from facesr_plugin.evaluation.words import counted

    digits, unit = measure.digits, f" {measure.unit}" if measure.unit else ""
    if not measure.per_face:
        count, value, problem = evaluation.set_values[measure.name][result]
        faces = counted(count, "face", "faces")
        return f"{value:.{digits}f}{unit} ({faces})" if value is not None else f"not measured: {problem}"
    found = evaluation.statistics[measure.name][result]
    interval = "" if found.low is None else f", {found.low:.{digits}f} to {found.high:.{digits}f}"
    faces = counted(found.count, "face", "faces")
    return f"{found.mean:.{digits}f}{unit} ({faces}{interval})" if found.count else "not measured"
