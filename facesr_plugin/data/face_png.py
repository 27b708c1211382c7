"""PNG and JPEG files that carry the landmarks of their face: an interrupted run knows those of finished images."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, PngImagePlugin

from facesr_plugin.data.lmdb_store import COMPRESS_LEVEL

_CHUNK = "facesr-landmarks"
_JPEG_QUALITY = 95


def encode_face(image: np.ndarray, points: np.ndarray | None = None, encoding: str = "png") -> bytes:
    """Encode a face; the same input gives the same bytes.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        points: ``(K, 2)`` (x, y) in its pixels, kept in a text chunk or comment that other readers ignore.
        encoding: ``png`` (no loss) or ``jpeg`` (quality 95, 4:4:4).
    """
    text = "" if points is None else base64.b64encode(points.astype("<f4").tobytes()).decode("ascii")
    buffer = io.BytesIO()
    _ENCODERS[encoding](Image.fromarray(image), text, buffer)
    return buffer.getvalue()


def _write_png(image: Image.Image, text: str, buffer: io.BytesIO) -> None:
    info = PngImagePlugin.PngInfo()
    if text:
        info.add_text(_CHUNK, text)
    image.save(buffer, format="PNG", compress_level=COMPRESS_LEVEL, pnginfo=info)


def _write_jpeg(image: Image.Image, text: str, buffer: io.BytesIO) -> None:
    comment = {"comment": f"{_CHUNK}:{text}"} if text else {}
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling=0, **comment)


_ENCODERS = {"png": _write_png, "jpeg": _write_jpeg}


def landmarks_of(data: bytes) -> np.ndarray | None:
    """Return the ``(K, 2)`` float32 points of a file that ``encode_face`` made, or None if it has none."""
    with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
        text = image.info.get(_CHUNK) if image.format == "PNG" else _comment_of(image)
    return None if text is None else np.frombuffer(base64.b64decode(text), dtype="<f4").reshape(-1, 2).copy()


def _comment_of(image: Image.Image) -> str | None:
    label, _, text = image.info.get("comment", b"").decode("ascii", "replace").partition(":")
    return text if label == _CHUNK else None
