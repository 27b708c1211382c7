"""``facesr prepare``: photographs of faces, or drawn ones, to what training reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesr_plugin.commands import prepare_landmarks
from facesr_plugin.utils.cliargs import add_common, add_detector, non_negative_int, positive_int, say, warn

if TYPE_CHECKING:
    from facesr_plugin.data.prepare import Report
    from facesr_plugin.data.prepare_ffhq import Search

_FACES = """\
Write square faces into an LMDB in BasicSR's format (data.mdb, meta_info.txt). The keys are the files' names without
extension; in them every byte other than letters, digits, _ - ~ is written %XX.

With --train-list and/or --val-list, OUT itself is not written: X.lmdb becomes X_train.lmdb and X_val.lmdb, which hold
the images that the lists name; others are left out.

A run that was stopped, even killed, continues when the same command is given again. Images that cannot be used are
listed in OUT/skipped.txt, and the exit status is 1."""

_FFHQ = """\
Write faces that are aligned as FFHQ's into an LMDB: eyes, nose tip and mouth corners are brought to the FFHQ template.

Where these points come from:
  photos               a detector finds the faces (weights: facesr weights list), on the CPU. Keys are <stem>_00 for
                       the largest face of a photo, <stem>_01, ..., or <stem> with --only-largest. Left out are faces
                       below --min-face, and those with over a quarter of the crop beyond the photo.
  --landmarks FILE     5, 68 or 98 points, one face per image; keys are <stem>
  --aligned            FFHQ itself and other aligned squares: they are only resized; keys are <stem>

The points of the stored faces are in OUT/landmarks.npz. Lists (of images), skipped images (here: without a face) and
interrupted runs: as facesr prepare faces."""

_SYNTHETIC = """\
Draw faces with exact 68-point landmarks: no download, no photograph of a real person. OUT is a folder of PNG files
with landmarks.npz, or X.lmdb with landmarks.npz inside. With --val M there are N faces for training and M others:
OUT/train and OUT/val, or X_train.lmdb and X_val.lmdb. The same seed gives the same faces. A run that was stopped
continues when the same command is given again."""


def add_parser(subparsers: Any) -> None:
    """Add the command to the ``facesr`` parser."""
    parser = subparsers.add_parser("prepare", help="make training data", description="Make training data.")
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    _add_faces(kinds)
    _add_ffhq(kinds)
    _add_synthetic(kinds)
    prepare_landmarks.add_kind(kinds)


def _add_faces(kinds: Any) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = kinds.add_parser("faces", help="images to LMDB", description=_FACES, formatter_class=raw)
    _add_paths(parser)
    parser.add_argument(
        "--size",
        type=_side_or_native,
        default=128,
        metavar="S|native",
        help="side in pixels; native: what each face has, for data sets with any_size: true (default: 128)",
    )
    parser.add_argument(
        "--crop",
        default="none",
        metavar="none|center|celeba178|dic|box:MARGIN",
        help="none: the images are square faces; center: largest centred square; celeba178: centred 178x178 of "
        "CelebA's aligned images; dic: the boxes of --landmarks as they are, from DIC's annotations; box:MARGIN: "
        "square about each face of --landmarks, its longer side enlarged by MARGIN (such as 0.3) at each end "
        "(default: none)",
    )
    parser.add_argument("--kernel", choices=["bicubic", "bilinear"], default="bicubic", help="(default: bicubic)")
    parser.set_defaults(func=run_faces)


def _side_or_native(text: str) -> int | None:
    return None if text == "native" else positive_int(text)


def _add_ffhq(kinds: Any) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = kinds.add_parser("ffhq", help="photos to aligned faces", description=_FFHQ, formatter_class=raw)
    _add_paths(parser)
    parser.add_argument("--size", type=positive_int, default=512, metavar="S", help="side in pixels (default: 512)")
    parser.add_argument("--aligned", action="store_true", help="the images are aligned already: only resize them")
    parser.add_argument(
        "--encoding", choices=["png", "jpeg"], default="png", help="jpeg: quality 95, 4:4:4 (default: png)"
    )
    add_detector(parser)
    parser.add_argument("--only-largest", action="store_true", help="take the largest face of a photo only")
    parser.add_argument(
        "--min-face",
        type=float,
        metavar="PX",
        help="leave out smaller faces; longer side of the face, about 0.7 of its crop's (default: half of --size, so "
        "that no crop is enlarged more than about 1.4 times)",
    )
    parser.set_defaults(func=run_ffhq)


def _add_paths(parser: argparse.ArgumentParser) -> None:
    """Add what ``faces`` and ``ffhq`` have in common."""
    parser.add_argument(
        "source", metavar="IN", type=Path, help="folder, .zip, or .txt list of images (JPEG, PNG, WebP)"
    )
    parser.add_argument("--out", metavar="X.lmdb", type=Path, required=True, help="LMDB to write")
    parser.add_argument("--train-list", metavar="FILE", type=Path, help="names of the images of X_train.lmdb")
    parser.add_argument("--val-list", metavar="FILE", type=Path, help="names of the images of X_val.lmdb")
    parser.add_argument(
        "--landmarks",
        metavar="FILE",
        type=Path,
        help="points of the faces in IN (.npz or .json); those of the crops are written to OUT/landmarks.npz",
    )
    add_common(parser, "workers", "overwrite")


def _add_synthetic(kinds: Any) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = kinds.add_parser("synthetic", help="drawn faces", description=_SYNTHETIC, formatter_class=raw)
    parser.add_argument("--out", metavar="DIR|X.lmdb", type=Path, required=True, help="where to write")
    parser.add_argument("--num", type=positive_int, required=True, metavar="N", help="number of faces")
    parser.add_argument("--val", type=positive_int, metavar="M", help="number of other faces, for validation")
    parser.add_argument("--size", type=positive_int, default=128, metavar="S", help="side in pixels (default: 128)")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="(default: 0)")
    add_common(parser, "workers", "overwrite")
    parser.set_defaults(func=run_synthetic)


def run_faces(args: argparse.Namespace) -> int:
    """Make one or two LMDBs; return 1 if images were left out."""
    from facesr_plugin.data.prepare import FaceRecipe, prepare_faces

    reports = prepare_faces(
        args.source,
        args.out,
        FaceRecipe(args.size, args.crop, args.kernel),
        train_list=args.train_list,
        val_list=args.val_list,
        landmarks=args.landmarks,
        workers=args.workers,
        overwrite=args.overwrite,
    )
    return _tell_all(reports)


def run_ffhq(args: argparse.Namespace) -> int:
    """Make one or two LMDBs of aligned faces; return 1 if images were left out."""
    from facesr_plugin.data.prepare_ffhq import FFHQRecipe, prepare_ffhq

    lists = {"train": args.train_list, "val": args.val_list}
    reports = prepare_ffhq(
        args.source,
        args.out,
        FFHQRecipe(args.size, args.aligned, args.encoding),
        landmarks=args.landmarks,
        search=_search(args),
        lists={name: path for name, path in lists.items() if path is not None},
        workers=args.workers,
        overwrite=args.overwrite,
    )
    return _tell_all(reports)


def _search(args: argparse.Namespace) -> Search | None:
    if args.landmarks or args.aligned:
        flags = {"--detector-weights": args.detector_weights, "--only-largest": args.only_largest}
        given = [flag for flag, value in {**flags, "--min-face": args.min_face is not None}.items() if value]
        if given:
            raise ValueError(
                f"nothing is detected with --landmarks or --aligned, got {', '.join(given)}. Leave it out."
            )
        return None
    from facesr_plugin.data.prepare_ffhq import Search
    from facesr_plugin.pipeline.detector import FaceDetector
    from facesr_plugin.utils.download import file_sha256
    from facesr_plugin.utils.weights import resolve_weights

    weights = resolve_weights(f"retinaface_{args.detector}", args.detector_weights)
    identity = f"{args.detector} {file_sha256(weights)[:16]}"
    return Search(FaceDetector(args.detector, weights), identity, args.min_face, args.only_largest)


def run_synthetic(args: argparse.Namespace) -> int:
    """Draw the faces."""
    from facesr_plugin.data.prepare_synthetic import prepare_synthetic

    for report in prepare_synthetic(
        args.out, args.num, args.size, seed=args.seed, val=args.val, workers=args.workers, overwrite=args.overwrite
    ):
        _tell(report)
    return 0


def _tell_all(reports: list[Report]) -> int:
    for report in reports:
        _tell(report)
    return int(any(report.skipped for report in reports))


def _tell(report: Report) -> None:
    say(f"{report.path}: {report.stored} faces")
    for name, reason in report.skipped[:5]:
        warn(f"skipped {name}: {reason}")
    if report.skipped:
        warn(f"{len(report.skipped)} images were left out, all listed in {report.path / 'skipped.txt'}")
