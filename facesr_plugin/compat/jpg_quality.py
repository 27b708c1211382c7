"""``jpg-quality``: BasicSR draws JPEG qualities as fractions, which OpenCV 4.5.4 and later refuses."""

from __future__ import annotations

import functools
from typing import Any

from facesr_plugin.compat.patch import Patch, rebind


def _degradations() -> Any:
    import basicsr.data.degradations as degradations

    return degradations


def _refuses_fractions() -> bool:
    import cv2
    import numpy as np

    try:
        _degradations().add_jpg_compression(np.zeros((8, 8, 3), dtype=np.float32), 90.5)
    except (cv2.error, TypeError):
        return True
    return False


def _apply() -> None:
    import numpy as np

    original = _degradations().add_jpg_compression

    @functools.wraps(original)
    def add_jpg_compression(img: np.ndarray, quality: float = 90) -> np.ndarray:
        levels = np.rint(np.clip(img, 0, 1) * 255).astype(np.uint8)
        return original(levels / np.float32(255), int(np.rint(quality)))

    rebind(original, add_jpg_compression)


JPG_QUALITY = Patch(
    name="jpg-quality",
    reason="add_jpg_compression gives OpenCV a fraction as quality: cv2.error in OpenCV 4.5.4 and later",
    needed=_refuses_fractions,
    apply=_apply,
)
