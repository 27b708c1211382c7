"""PNG files that carry the landmarks of their face, so that an interrupted run knows those of finished images."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, PngImagePlugin

from facesr_plugin.data.lmdb_store import COMPRESS_LEVEL

_CHUNK = "facesr-landmarks"


def encode_face(image: np.ndarray, points: np.ndarray | None = None) -> bytes:
    """Encode a face without loss; the same input gives the same bytes.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        points: ``(K, 2)`` (x, y) in its pixels, kept in a text chunk that other readers ignore.
    """
    info = PngImagePlugin.PngInfo()
    if points is not None:
        info.add_text(_CHUNK, base64.b64encode(points.astype("<f4").tobytes()).decode("ascii"))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=COMPRESS_LEVEL, pnginfo=info)
    return buffer.getvalue()


def landmarks_of(png: bytes) -> np.ndarray | None:
    """Return the ``(K, 2)`` float32 points of a file that ``encode_face`` made, or None if it has none."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        text = image.info.get(_CHUNK)
    return None if text is None else np.frombuffer(base64.b64decode(text), dtype="<f4").reshape(-1, 2).copy()
