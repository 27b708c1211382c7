"""Compare our paste with facexlib's ``paste_faces_to_input_image``: time, and difference under the same mask.

    OMP_NUM_THREADS=1 python scripts/benchmark/paste.py

Photo and faces are synthetic: 3840 x 2160, five faces of different sizes and angles. facexlib's constructor is gone
around, since it loads a detector and ParseNet that pasting does not need. One thread for both.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import cv2
import numpy as np
from facexlib.utils import face_restoration_helper as facexlib

from facesr_plugin.ops.affine import invert
from facesr_plugin.pipeline.paste import paste_face

HEIGHT, WIDTH, SIDE = 2160, 3840, 512
# centre x, centre y, side in photo pixels, angle in degrees
FACES = ((500, 600, 700, 8), (1400, 700, 560, -15), (2300, 500, 420, 3), (3200, 900, 900, 20), (1900, 1600, 640, 0))


def main() -> int:
    """Run both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="runs of each; the median is reported (default: 5)")
    repeats = parser.parse_args().repeats
    cv2.setNumThreads(1)
    photo, restored, matrices = make_scene()
    masks: list[np.ndarray] = []
    theirs = paste_with_facexlib(photo, restored, matrices, masks)
    ours = paste_with_ours(photo, restored, matrices, masks)
    inside = np.maximum.reduce(masks) > 0
    difference = np.abs(ours.astype(int) - theirs).max(-1)
    times = {
        "facexlib": measure(lambda: paste_with_facexlib(photo, restored, matrices, []), repeats),
        "ours": measure(lambda: paste_with_ours(photo, restored, matrices), repeats),
    }
    print(f"photo {WIDTH} x {HEIGHT}, {len(FACES)} faces, OpenCV {cv2.__version__}, one thread, median of {repeats}")
    for name, seconds in times.items():
        print(f"{name:10}{seconds * 1000:10.1f} ms")
    print(f"ratio     {times['facexlib'] / times['ours']:10.1f}")
    print(
        f"same mask: largest difference {difference[inside].max()} levels inside, {difference[~inside].max()} outside"
    )
    return 0


def make_scene() -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Return the photo, restored faces with detail, and the matrices from the photo to them."""
    rng = np.random.default_rng(0)
    photo = textured(rng, HEIGHT, WIDTH)
    matrices = []
    for x, y, side, angle in FACES:
        back = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), angle, side / SIDE)
        back[:, 2] += (x - SIDE / 2, y - SIDE / 2)
        matrices.append(invert(back))
    return photo, [textured(rng, SIDE, SIDE) for _ in FACES], matrices


def textured(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return (H, W, 3) uint8 with structures of a few pixels and more."""
    image = np.zeros((height, width, 3), np.float32)
    for cell, strength in ((64, 120), (16, 60), (4, 40)):
        coarse = rng.random((height // cell + 1, width // cell + 1, 3), np.float32)
        image += strength * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255).astype(np.uint8)


def paste_with_facexlib(
    photo: np.ndarray, restored: list[np.ndarray], matrices: list[np.ndarray], masks: list[np.ndarray]
) -> np.ndarray:
    """Run facexlib's method on a helper without networks; its soft masks are added to ``masks``."""
    helper = facexlib.FaceRestoreHelper.__new__(facexlib.FaceRestoreHelper)
    helper.upscale_factor, helper.face_size, helper.use_parse = 1, (SIDE, SIDE), False
    helper.input_img, helper.restored_faces = photo, restored
    helper.inverse_affine_matrices = [invert(matrix) for matrix in matrices]

    def blur(*args: object) -> np.ndarray:
        masks.append(cv2.GaussianBlur(*args))
        return masks[-1]

    original = facexlib.cv2
    facexlib.cv2 = SimpleNamespace(**{**vars(cv2), "GaussianBlur": blur})
    try:
        return helper.paste_faces_to_input_image()
    finally:
        facexlib.cv2 = original


def paste_with_ours(
    photo: np.ndarray,
    restored: list[np.ndarray],
    matrices: list[np.ndarray],
    masks: list[np.ndarray] | None = None,
) -> np.ndarray:
    """Copy the photo and paste every face, under our own mask or the given ones."""
    image = photo.copy()
    for index, (face, matrix) in enumerate(zip(restored, matrices, strict=True)):
        paste_face(image, face, matrix, mask=None if masks is None else masks[index])
    return image


def measure(function: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
