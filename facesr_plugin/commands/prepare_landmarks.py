"""``facesr prepare landmarks``: find the landmarks of faces, or bring those of other programs to one format."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesr_plugin.utils.cliargs import EXIT_DONE, EXIT_SOME_FAILED, add_common, add_detector, positive_int, say, warn

if TYPE_CHECKING:
    from facesr_plugin.data.annotations import Landmarks
    from facesr_plugin.pipeline.landmarker import Landmarker

MODELS = ("fan98", "fan68", "compressed_fan", "stacked_hourglass", "jasrnet")  # pipeline.landmark_heads.HEADS
FORMATS = ("pts", "dic", "300w", "aflw", "wflw", "celeba", "helen")  # data.landmark_readers.READERS
_DESCRIPTION = """\
Write the landmarks of faces to OUT, .json or .npz (the same content): what training and restore --landmarks read.

--model NAME   finds them in images (IN: folder, .zip, or .txt list)
  fan98            98 points of WFLW, facexlib's network
  fan68            68 points of iBUG/300-W: 2DFAN of face-alignment (pip install face-alignment), or from --weights
  compressed_fan   68 points, the small network of progressive face super-resolution: quick and coarse
  stacked_hourglass  68 points, the network that measures restored faces of 128 pixels in DIC's evaluation
  jasrnet          points of faces of 16 x 16 pixels, or as the network in --weights was trained
The faces of photos are found by a detector; with --aligned each image is one square face, of which little more than
the head is seen.

--from NAME    reads the landmarks of another program (IN: file or folder)
  pts              .pts file, or folder of them         dic     pickle of DIC; nothing in it is run
  300w, aflw       list: image annotation x1 y1 x2 y2   wflw    list_98pt_rect_attr_....txt
  celeba           list_landmarks_align_celeba.txt      helen   .txt file of an image, or folder of them
--images has the images' names and sizes, and points that lie outside are refused.

A run that was stopped, even killed, continues when the same command is given again. Images without landmarks are listed
in OUT.skipped.txt, and the exit status is 1."""
_MODEL_FLAGS = ("weights", "aligned", "side", "only_largest", "detector_weights")


def add_kind(kinds: Any) -> None:
    """Add the command to ``facesr prepare``."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = kinds.add_parser("landmarks", help="points of faces", description=_DESCRIPTION, formatter_class=raw)
    add = parser.add_argument
    add("source", metavar="IN", type=Path, help="images, or with --from landmarks")
    add("--out", metavar="FILE", type=Path, required=True, help=".json or .npz")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--model", choices=MODELS, help="network that finds the landmarks")
    way.add_argument("--from", choices=FORMATS, dest="form", help="format of the landmarks to read")
    add("--weights", metavar="FILE", type=Path, help="of the model (default: see facesr weights list)")
    add("--aligned", action="store_true", help="the images are aligned faces: nothing is detected")
    add(
        "--side",
        type=positive_int,
        metavar="N",
        help="with --aligned, compressed_fan: pixels of the face before the network, which knows one scale (default: "
        "50, for the authors' network and faces with eyes 0.28 sides apart); jasrnet: pixels of the small face "
        "(default: as trained)",
    )
    add_detector(parser)
    add("--only-largest", action="store_true", help="take the largest face of a photo only")
    add("--images", metavar="DIR", type=Path, help="with --from: folder, .zip or .txt list of the images")
    add("--overlay", metavar="DIR", type=Path, help="write sheets of faces with their points, to be looked at")
    add_common(parser, "device", "workers", "overwrite")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Write the landmark file; return 1 if images were left out."""
    _check(args)
    landmarks, skipped = _find(args) if args.model else (_read(args), [])
    say(f"{args.out}: {len(landmarks.names)} faces of {landmarks.num_points} points")
    images = args.source if args.model else args.images
    if args.overlay:
        from facesr_plugin.pipeline.landmark_sheets import write_sheets

        say(f"{args.overlay}: {len(write_sheets(landmarks, images, args.overlay))} sheets")
    for name, reason in skipped[:5]:
        warn(f"skipped {name}: {reason}")
    if skipped:
        warn(f"{len(skipped)} images were left out, all listed in {args.out}.skipped.txt")
    return EXIT_SOME_FAILED if skipped else EXIT_DONE


def _check(args: argparse.Namespace) -> None:
    if args.form:
        _refuse(args, _MODEL_FLAGS, "--from reads landmarks and finds none")
        if args.overlay and not args.images:
            raise ValueError("--overlay draws on images, got landmarks alone. Give the images with --images.")
    else:
        _refuse(args, ("images",), "--model takes the images as IN")
    if args.aligned:
        _refuse(args, ("only_largest", "detector_weights"), "nothing is detected with --aligned")
    else:
        _refuse(args, ("side",), "the faces of photos are framed as the model wants them")


def _refuse(args: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    given = ["--" + name.replace("_", "-") for name in names if getattr(args, name)]
    if given:
        raise ValueError(f"{why}, got {', '.join(given)}. Leave it out.")


def _find(args: argparse.Namespace) -> tuple[Landmarks, list[tuple[str, str]]]:
    from facesr_plugin.pipeline.landmark_files import prepare_landmarks

    landmarker, plan = _landmarker(args)
    return prepare_landmarks(
        args.source, args.out, landmarker, plan=plan, workers=args.workers, overwrite=args.overwrite
    )


def _landmarker(args: argparse.Namespace) -> tuple[Landmarker, dict[str, Any]]:
    """Build what finds the landmarks, and the plan that tells its results from others'."""
    from facesr_plugin.pipeline.compute import resolve_device
    from facesr_plugin.pipeline.detector import FaceDetector
    from facesr_plugin.pipeline.landmark_heads import HEADS
    from facesr_plugin.pipeline.landmarker import Landmarker
    from facesr_plugin.utils.download import file_sha256
    from facesr_plugin.utils.weights import resolve_weights

    kind, device = HEADS[args.model], resolve_device(args.device)
    if args.side and not kind.any_side:
        raise ValueError(f"{args.model} takes faces of {kind.framing.ready_side} pixels only, got --side {args.side}")
    named = args.weights is not None or kind.weights is not None
    weights = resolve_weights(kind.weights or args.model, args.weights) if named else None
    plan = {"model": args.model, "aligned": args.aligned, "side": args.side, "only_largest": args.only_largest}
    plan["weights"] = None if weights is None else file_sha256(weights)[:16]
    detector = None
    if not args.aligned:
        found = resolve_weights(f"retinaface_{args.detector}", args.detector_weights)
        detector = FaceDetector(args.detector, found, device=device)
        plan["detector"] = [args.detector, file_sha256(found)[:16]]
    head = kind.load(weights, device)
    framing = head.framing or kind.framing
    framing = replace(framing, ready_side=args.side) if args.side else framing
    return Landmarker(head, framing, detector, only_largest=args.only_largest), plan


def _read(args: argparse.Namespace) -> Landmarks:
    from facesr_plugin.data.annotations import check_suffix, write_landmarks
    from facesr_plugin.data.inputs import list_items
    from facesr_plugin.data.landmark_readers import read_foreign, with_images

    check_suffix(args.out)
    if args.out.exists() and not args.overwrite:
        raise FileExistsError(f"{args.out} exists. Replace it with --overwrite, or choose another output.")
    landmarks = read_foreign(args.form, args.source)
    if args.images:
        landmarks = with_images(landmarks, list_items(args.images))
    write_landmarks(args.out, landmarks)
    return landmarks
