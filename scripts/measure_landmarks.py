"""Measure landmark files against the true ones: NME, NRMSE, AUC, failure rate, and the cumulative curves as a picture.

python scripts/measure_landmarks.py truth.npz jasrnet=found.json [other=more.npz ...] --out ced.png

The files are those of ``facesr prepare landmarks``, with one face per image; faces are joined by the names of their
images, and every file must have the faces of the truth. Boxes, visible points and image sizes are the truth's. Points
of other image sizes, such as those of small inputs, are brought to the truth's; ``--side`` says it where its file does
not.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facesr_plugin.data.annotations import Landmarks, read_landmarks
from facesr_plugin.data.transforms import resize_landmarks
from facesr_plugin.metrics.landmark_metric import (
    calculate_landmark_auc,
    calculate_landmark_failure_rate,
    calculate_nrmse,
    ced_curve,
    landmark_errors,
)
from facesr_plugin.utils.imageio import write_png
from facesr_plugin.utils.plot import ced_figure

_THRESHOLDS = 1001


class Measured(NamedTuple):
    """``errors`` (N) of the faces, their mean as root mean square, and AUC and failure rate at the limit; fractions."""

    errors: np.ndarray
    nrmse: float
    auc: float
    failure_rate: float


def points_in_frame(found: Landmarks, truth: Landmarks, rows: list[int], wanted: list[int]) -> np.ndarray:
    """Return the ``rows`` of ``found`` in pixels of the truth's images.

    Raises:
        ValueError: If the truth does not say how large its images are, and they are larger than those of ``found``.
    """
    points = found.points[rows]
    if found.image_size is None:
        return points
    own = found.image_size[rows]
    if truth.image_size is not None:
        sizes = zip(points, own.tolist(), truth.image_size[wanted].tolist(), strict=True)
        return np.stack([resize_landmarks(face, tuple(source), tuple(target)) for face, source, target in sizes])
    if (np.nanmedian(truth.points[wanted], 1) > own[:, ::-1]).any():
        raise ValueError(
            f"found landmarks are of smaller images ({own[0, 1]} x {own[0, 0]}) than the truth, whose file has no "
            "image sizes. Say with --side how many pixels its faces have"
        )
    return points


def measure(found: Landmarks, truth: Landmarks, normaliser: str, limit: float) -> Measured:
    """Compare the faces of ``truth`` with those of the same names.

    Raises:
        ValueError: If ``found`` lacks a face, has other points or another frame that cannot be known, or the normaliser
            needs what there is not.
    """
    rows, wanted = found.rows_by_key(), truth.rows_by_key()
    missing = [key for key in wanted if key not in rows]
    if missing:
        raise ValueError(f"found landmarks must have every face of the truth, {len(missing)} lack: {missing[0]}")
    chosen = list(wanted.values())
    known = {"visible": truth.visible, "boxes": truth.boxes, "image_size": truth.image_size}
    faces = {
        "points": points_in_frame(found, truth, [rows[key] for key in wanted], chosen),
        "reference": truth.points[chosen],
        "normaliser": normaliser,
        **{name: value[chosen] for name, value in known.items() if value is not None},
    }
    auc, failures = (
        metric(**faces, limit=limit) for metric in (calculate_landmark_auc, calculate_landmark_failure_rate)
    )
    return Measured(landmark_errors(**faces), calculate_nrmse(**faces), auc, failures)


def main() -> None:
    """Print the table and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("truth", type=Path, help="landmark file of the truth")
    parser.add_argument("found", nargs="+", metavar="NAME=FILE", help="landmark files to measure")
    parser.add_argument("--normaliser", default="inter_ocular", help="(default: inter_ocular)")
    parser.add_argument("--limit", type=float, default=0.08, help="of AUC, failures and picture (default: 0.08)")
    parser.add_argument("--side", type=int, help="pixels of the truth's square faces, if its file does not say")
    parser.add_argument("--out", type=Path, help="picture of the cumulative curves")
    args = parser.parse_args()
    truth, curves = read_landmarks(args.truth), {}
    if args.side:
        truth = replace(truth, image_size=np.full((len(truth.names), 2), args.side))
    thresholds = np.linspace(0, args.limit, _THRESHOLDS)
    print(f"{'':24}{'NME':>9}{'NRMSE':>9}{'AUC':>9}{'failures':>10}")
    for entry in args.found:
        name, _, path = entry.rpartition("=")
        name = name or Path(path).stem
        errors, nrmse, auc, failures = measure(read_landmarks(path), truth, args.normaliser, args.limit)
        print(f"{name:24}{errors.mean():9.2%}{nrmse:9.2%}{auc:9.2%}{failures:10.2%}")
        curves[f"{name} (NME {errors.mean():.1%})"] = ced_curve(errors, thresholds)
    if args.out:
        write_png(args.out, ced_figure(thresholds, curves, f"NME, {args.normaliser}"))


if __name__ == "__main__":
    main()
