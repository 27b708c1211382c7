"""Adapter of SPARNetHD's whole-photo reference: alignment, and the official paste, which only lives here.

The plugin's own paste is feathered and geometric (``facesr_plugin.pipeline.paste``); the official one takes black for
outside and has a hard rim. It is written out here to check the matrices and the kernel in both directions.
"""

import cv2
import numpy as np

from facesr_plugin.ops.affine import fit_similarity, invert, warp_cubic
from parity.recipes import take_slice


def align_paste(case):
    """Matrix, aligned face, and the photo with the official paste of a negative in the place of a restored face."""
    meta, photo = case.meta, case.arrays["photo"]
    if meta["upscale"] != 1:
        raise ValueError(f"upscale must be 1, got {meta['upscale']}")
    template = np.array(meta["template_1024"]) / 2
    pasted = photo.astype(np.float64)
    for index, (points, expected) in enumerate(zip(meta["landmarks"], meta["matrices_photo_to_canvas"], strict=True)):
        matrix = fit_similarity(np.array(points), template)
        case.check(f"matrix {index}", matrix, np.array(expected)[:2], "align.matrix")
        aligned = warp_cubic(photo, matrix, (512, 512))
        case.check_array(f"aligned.{index}", take_slice(aligned, meta["aligned_slice"]), "align.image")
        negative = np.clip(255 - aligned, 1, 255).astype(np.uint8)
        pasted = _paste(pasted, negative, matrix)
    case.check_array("pasted", pasted.astype(np.uint8), "align.image")


def _paste(photo, restored, matrix):
    back = warp_cubic(restored, invert(matrix), photo.shape[:2])
    outside = cv2.blur((back == 0).astype(np.float32), (5, 5)) > 0
    return np.where(outside, photo, back)
