"""The size of an image from the head of its file, PNG or JPEG, without decoding it."""

from __future__ import annotations

import struct

HEAD_BYTES = 4096  # enough for the files that the package writes

_PNG_HEADER = struct.Struct(">8s4x4sIIBB")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_FRAME = struct.Struct(">5xHHB")


def image_shape(data: bytes, name: str) -> tuple[int, int, int]:
    """Return ``(height, width, channels)`` from the head of a PNG or JPEG file.

    Raises:
        ValueError: If the data does not begin as one of them does.
    """
    shape = _jpeg_shape(data) if data[:2] == b"\xff\xd8" else _png_shape(data)
    if shape is None:
        raise ValueError(f"image {name!r} must be a PNG or JPEG, got {bytes(data[:8])!r}")
    return shape


def _png_shape(data: bytes) -> tuple[int, int, int] | None:
    if len(data) < _PNG_HEADER.size:
        return None
    signature, chunk, width, height, _, colour = _PNG_HEADER.unpack_from(data)
    if signature != b"\x89PNG\r\n\x1a\n" or chunk != b"IHDR" or colour not in _PNG_CHANNELS:
        return None
    return height, width, _PNG_CHANNELS[colour]


def _jpeg_shape(data: bytes) -> tuple[int, int, int] | None:
    """Go from segment to segment until the one that starts the frame."""
    place = 2
    while place + 10 <= len(data) and data[place] == 0xFF:
        if data[place + 1] in _JPEG_FRAMES:
            height, width, channels = _JPEG_FRAME.unpack_from(data, place)
            return height, width, channels
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
