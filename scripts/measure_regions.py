"""Measure restored faces where it counts: whole face, eyes and mouth, and the landmarks that a network finds in them.

python scripts/measure_regions.py datasets/faces_val.lmdb --weights net_g_latest.pth [more.pth ...] --fan fan.pth

The faces need 68 landmarks (``facesr prepare faces --landmarks``). Each is reduced as the weights' system says,
restored, and compared with itself in the size of the result. Printed for bicubic (Pillow) and each weight file, means
over faces:

- PSNR: RGB, 8 bits, whole image, per image.
- PSNR of eyes and mouth: the same inside the hulls of points 36-41, 42-47 and 48-59, widened by 4 % of the side.
- share: mean absolute error of these regions over that of the whole image.
- NME: of the landmarks that the compressed FAN of ``--fan`` finds in the image at 64x64, against the given ones, over
  the distance of the outer eye corners. The ground truth's own is printed as a bound.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

import facesr_plugin
from facesr_plugin.data.annotations import read_landmarks
from facesr_plugin.data.keys import key_of
from facesr_plugin.data.lmdb_store import LANDMARK_FILE
from facesr_plugin.data.sources import open_source
from facesr_plugin.data.transforms import make_lq, resize, resize_landmarks
from facesr_plugin.losses.alignment import load_aligner
from facesr_plugin.metrics.image_metric import psnr
from facesr_plugin.metrics.landmark_metric import calculate_nme
from facesr_plugin.ops.heatmap import decode_subpixel

_PARTS = (slice(36, 42), slice(42, 48), slice(48, 60))
_FAN_SIDE = 64
_HEADER = f"{'':24}{'PSNR':>8}{'eyes, mouth':>13}{'share':>8}{'NME':>8}"


def region_mask(points: np.ndarray, side: int) -> np.ndarray:
    """Return ``(side, side)`` bool: about the eyes and mouth of ``(68, 2)`` points in pixels."""
    mask = np.zeros((side, side), np.uint8)
    for part in _PARTS:
        cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points[part]).astype(np.int32)), 1)
    width = 2 * round(0.04 * side) + 1
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))) > 0


@torch.no_grad()
def find_points(aligner: torch.nn.Module, image: np.ndarray) -> np.ndarray:
    """Return the ``(68, 2)`` points of a square face in its pixels."""
    small = torch.from_numpy(resize(image, (_FAN_SIDE, _FAN_SIDE), "bilinear")).permute(2, 0, 1)[None] / 127.5 - 1
    points = decode_subpixel(aligner(small))[0].numpy()
    return resize_landmarks(points, (_FAN_SIDE, _FAN_SIDE), image.shape[:2])


def measure(image: np.ndarray, gt: np.ndarray, points: np.ndarray, aligner: torch.nn.Module) -> np.ndarray:
    """Return PSNR, PSNR of the regions, share and NME of one face."""
    mask = region_mask(points, len(gt))
    error = np.abs(image.astype(np.float64) - gt)
    share = error[mask].mean() / error.mean() if error.any() else np.nan
    nme = calculate_nme(find_points(aligner, image)[None], points[None])
    return np.array([psnr(image, gt), psnr(image[mask], gt[mask]), share, nme])


def measure_weights(weights: Path, source: Path, aligner: torch.nn.Module) -> dict[str, np.ndarray]:
    """Return the mean rows of the ground truth, of bicubic and of the weights, by name."""
    restorer = facesr_plugin.load(weights)
    images = open_source(str(source))
    found = read_landmarks(source / LANDMARK_FILE)
    given = dict(zip(map(key_of, found.names), found.points, strict=True))
    rows: dict[str, list[np.ndarray]] = {"ground truth": [], "bicubic": [], weights.stem: []}
    for key in tqdm(images.keys, unit="face", disable=None):
        face = images.read(key)
        lq = make_lq(face, len(face) // restorer.card.lq_size, restorer.card.reduction)
        (sr,) = restorer(lq)
        side = len(sr)
        gt = face if len(face) == side else make_lq(face, len(face) // side, restorer.card.reduction)
        points = resize_landmarks(given[key], face.shape[:2], (side, side))
        pictures = (gt, resize(lq, (side, side), "bicubic"), sr)
        for name, picture in zip(rows, pictures, strict=True):
            rows[name].append(measure(picture, gt, points, aligner))
    return {name: np.mean(values, 0) for name, values in rows.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="X.lmdb of square faces with landmarks")
    parser.add_argument("--weights", type=Path, nargs="+", required=True, help="generators")
    parser.add_argument("--fan", type=Path, required=True, help="compressed FAN that measures")
    args = parser.parse_args()
    aligner = load_aligner(args.fan)
    for weights in args.weights:
        print(weights)
        print(_HEADER)
        for name, (whole, regions, share, nme) in measure_weights(weights, args.source, aligner).items():
            print(f"{name:24}{whole:8.2f}{regions:13.2f}{share:8.3f}{nme:8.4f}")


if __name__ == "__main__":
    main()
