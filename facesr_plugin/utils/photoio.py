"""Read and write whole photographs: what is not a face keeps its bits, so depth, alpha and colour profile are kept.

``imageio`` gives 8-bit RGB of anything; here grey stays grey, 16 bits stay 16 bits, alpha is kept apart.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from facesr_plugin.utils.imageio import MAX_PIXELS, decode_rgb, open_image, orientation_of, upright

_PNG_HEADER = 33  # signature and IHDR
_TURNS = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels.swapaxes(0, 1), 2),
    8: np.rot90,
}
_GREY_MODES = ("1", "L", "LA", "La")


class Photo(NamedTuple):
    """A decoded photograph, upright.

    Args:
        colour: ``(H, W)`` grey or ``(H, W, 3)`` RGB, uint8 or uint16.
        alpha: ``(H, W)`` of the same type, or None.
        profile: ICC colour profile, or None.
        animated: Whether the file holds more frames; this is the first.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    profile: bytes | None = None
    animated: bool = False


def decode_photo(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode an image file without losing what a PNG can keep.

    CMYK and palettes become RGB; other kinds are kept as they are. An EXIF orientation is applied.

    Args:
        data: Content of the file.
        name: For messages.
        max_pixels: Larger images are refused before they are decoded.

    Raises:
        ValueError: If the data is not an image, damaged, too large, or has 32-bit samples.
    """
    image = open_image(data, name, max_pixels)
    profile = image.info.get("icc_profile") if image.mode != "CMYK" else None
    try:
        animated = getattr(image, "n_frames", 1) > 1
        photo = _decode(image, data, name, max_pixels)
    except Exception as error:  # Pillow's decoders raise many types on damaged data
        if isinstance(error, ValueError) and name in str(error):
            raise
        raise ValueError(f"{name} is damaged: {error}. Copy it again or remove it.") from error
    return photo._replace(profile=profile, animated=animated)


def encode_png(photo: Photo) -> bytes:
    """Return the photo as a PNG file: grey or RGB, 8 or 16 bits, with its alpha and colour profile."""
    colour, alpha = photo.colour, photo.alpha
    if alpha is not None:
        if colour.ndim == 2 and colour.dtype == np.uint16:  # OpenCV writes no grey with alpha
            colour = np.repeat(colour[:, :, None], 3, axis=2)
        colour = np.dstack([colour, alpha])
    if colour.dtype == np.uint8:
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(colour)).save(buffer, format="PNG")
        data = buffer.getvalue()
    else:
        bgr = colour if colour.ndim == 2 else colour[..., [2, 1, 0, 3][: colour.shape[2]]]
        done, encoded = cv2.imencode(".png", np.ascontiguousarray(bgr))
        if not done:
            raise ValueError(f"photo must be encodable as PNG, got {colour.shape} {colour.dtype}")
        data = encoded.tobytes()
    return data if photo.profile is None else _with_profile(data, photo.profile)


def _decode(image: Image.Image, data: bytes, name: str, max_pixels: int) -> Photo:
    if _is_deep(image, data):
        return _decode_deep(data, name, image, max_pixels)
    if image.mode in ("F", "CMYK", "YCbCr", "LAB", "HSV", "RGB", "I", "RGBX"):
        return Photo(decode_rgb(data, name, max_pixels))
    image.load()
    return _split(upright(image))


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Tell 16-bit samples; Pillow reduces those of colour PNG to 8 without a word."""
    if image.format == "PNG":
        return data[24] == 16  # bit depth in IHDR
    bits = image.tag_v2.get(258, ()) if image.format == "TIFF" else ()
    return image.mode.startswith("I;16") or (isinstance(bits, tuple) and bool(bits) and max(bits) == 16)


def _decode_deep(data: bytes, name: str, image: Image.Image, max_pixels: int) -> Photo:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None and image.format == "PNG":
        raise ValueError(f"{name} is damaged: it ends too early. Copy it again or remove it.")
    if pixels is None or pixels.dtype != np.uint16:  # a kind that OpenCV does not know: 8 bits of it
        return Photo(decode_rgb(data, name, max_pixels))
    if image.format == "PNG":  # OpenCV turns TIFF itself
        pixels = _TURNS.get(orientation_of(image), np.asarray)(pixels)
    if pixels.ndim == 2:
        return Photo(np.ascontiguousarray(pixels))
    alpha = np.ascontiguousarray(pixels[..., 3]) if pixels.shape[2] == 4 else None
    colour = np.ascontiguousarray(pixels[..., 2::-1])
    if image.mode in (*_GREY_MODES, "I", "I;16"):
        colour = np.ascontiguousarray(colour[..., 0])
    return Photo(colour, alpha)


def _split(image: Image.Image) -> Photo:
    """Take a Pillow image with or without alpha apart."""
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    if image.mode == "La":
        image = image.convert("LA")
    grey = image.mode in _GREY_MODES
    if not has_alpha:
        return Photo(np.array(image.convert("L" if grey else "RGB")))
    rgba = np.array(image.convert("RGBA"))
    alpha = np.ascontiguousarray(rgba[..., 3])
    colour = rgba[..., 0] if grey else rgba[..., :3]
    return Photo(np.ascontiguousarray(colour), None if (alpha == 255).all() and image.mode == "P" else alpha)


def _with_profile(png: bytes, profile: bytes) -> bytes:
    """Insert the colour profile after the header; OpenCV cannot write one."""
    body = b"iCCPICC profile\0\0" + zlib.compress(profile)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_PNG_HEADER] + chunk + png[_PNG_HEADER:]
