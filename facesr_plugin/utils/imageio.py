"""Read and write 8-bit RGB images: every kind of file that a user has, one kind of array.

What differs from BasicSR's ``imfrombytes``: Pillow instead of OpenCV, RGB instead of BGR, 16-bit greys and
orientation handled for every format, and an error that names the file instead of ``None``.
"""

from __future__ import annotations

import io
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from facesr_plugin.utils.files import atomic_write

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
MAX_PIXELS = 100_000_000
MAX_SIDE = 65_535  # of JPEG; each row costs memory too

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # never EPS and others that start programs
_ORIENTATION_TAG = 0x0112
_JPEG_BLOCKS = 8 * 64  # pixels of a byte at most: a block of 8 x 8 has a Huffman code, so a bit or more
_STRIP = 1024  # rows that are converted at a time: a whole photograph would be in memory four times
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_rgb(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image file to 8-bit RGB.

    Grey is repeated, a palette is looked up, CMYK is converted without a colour profile, 16 bits keep their upper 8,
    an EXIF orientation is applied, of an animation the first frame is taken. Alpha is dropped and the colour stored
    under it is used, as OpenCV (so BasicSR and GFPGAN) does.

    Args:
        data: Content of the file.
        name: For messages.
        max_pixels: Larger images are refused before they are decoded.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        ValueError: If the data is not an image, damaged, too large, or has 32-bit samples.
    """
    image = open_image(data, name, max_pixels)
    try:
        image.load()
        image = upright(image)
        return _rgb_pixels(image, name)
    except _UnsupportedSamplesError:
        raise
    except Exception as error:  # Pillow's decoders raise many types on damaged data
        raise ValueError(f"{name} is damaged: {error}. Copy it again or remove it.") from error


def read_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image file as ``(H, W, 3)`` uint8 RGB; see ``decode_rgb``.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If its content cannot be decoded.
    """
    return decode_rgb(Path(path).read_bytes(), str(path), max_pixels)


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write ``(H, W, 3)`` uint8 RGB as PNG, whole or not at all.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If ``image`` has another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
    picture = Image.fromarray(np.ascontiguousarray(image))
    atomic_write(path, lambda file: picture.save(file, format="PNG"))


def list_images(source: str | os.PathLike) -> list[Path]:
    """Return the image files that a file, a folder (one level, as BasicSR's) or a glob names, sorted.

    A file that is named itself is taken whatever its extension; hidden files of a folder are not. In a glob ``**``
    goes through sub-folders.

    Raises:
        FileNotFoundError: If there is no such file or folder and nothing fits the glob.
        ValueError: If the folder holds no image, or ``source`` is empty (an unset variable of a shell).
    """
    if not str(source):
        raise ValueError("the input must be a file, a folder or a glob, got an empty text")
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [entry for entry in path.iterdir() if _is_image(entry)]
        if not found:
            raise ValueError(f"{path} must hold images ({' '.join(EXTENSIONS)}), got none (sub-folders are not read)")
        return sorted(found)
    pattern = path.relative_to(path.anchor)
    found = [entry for entry in Path(path.anchor).glob(str(pattern)) if _is_image(entry)]
    if not found:
        raise FileNotFoundError(f"no such file or folder, and no image fits it as a glob: {source}")
    return sorted(found)


def composed_stem(path: Path) -> str:
    """Return a file's stem as composed (NFC) Unicode: programs write one name in two ways."""
    return unicodedata.normalize("NFC", path.stem)


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Return files by their ``composed_stem``, to be paired with others of the same stems.

    Raises:
        ValueError: If two files have one stem.
    """
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(composed_stem(path), path)
        if other is not path:
            raise ValueError(
                f"there must be one image per stem, got {str(other)!r} and {str(path)!r}. Remove or rename one."
            )
    return found


def png_path(folder: str | os.PathLike, name: str) -> Path:
    """Return where the result for an image called ``name`` goes: ``folder/<stem>.png``.

    Raises:
        ValueError: If ``name`` (it may come from an archive or an LMDB) is more than a plain file name.
    """
    if Path(name).name != name or name in ("", "..") or any(char in name for char in "/\\\0"):
        raise ValueError(f"name must be a plain file name, got {name!r}. Rename it; nothing was written.")
    return Path(folder) / f"{Path(name).stem}.png"


def png_paths(inputs: Iterable[Path], folder: str | os.PathLike) -> list[Path]:
    """Return the output of each input, ``png_path``, no two alike.

    Raises:
        ValueError: If two inputs have one stem.
    """
    taken: dict[str, Path] = {}
    outputs = []
    for source in inputs:
        output = png_path(folder, source.name)
        other = taken.setdefault(os.path.normcase(output), source)
        if other is not source:
            raise ValueError(
                f"inputs must have different stems, got {other} and {source}. Rename one, or run them apart."
            )
        outputs.append(output)
    return outputs


def check_apart(inputs: Iterable[Path], folder: str | os.PathLike) -> None:
    """Refuse an output that is a file, or a folder that holds an input, which a result could replace.

    Raises:
        ValueError: If ``folder`` is a file, or an input lies in it.
    """
    if Path(folder).exists() and not Path(folder).is_dir():
        raise ValueError(f"the output must be a folder, got the file {folder}. Choose another.")
    root = Path(folder).resolve()
    for source in inputs:
        if root in (source.resolve().parent, source.parent.resolve()):
            raise ValueError(f"the output folder must not be the one of the input {source}. Choose another.")


def open_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read the header of an image file; its pixels are not decoded yet.

    Raises:
        ValueError: If the data is not an image, or it has more than ``max_pixels`` or sides of more than 65,535.
    """
    if not data:
        raise ValueError(f"{name} must be an image, got an empty file. Copy it again or remove it.")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"{name} must have at most {max_pixels:,} pixels. Reduce it first.") from error
    except Exception as error:  # Pillow's plug-ins raise many types on damaged headers
        kinds = ", ".join(_FORMATS)
        raise ValueError(
            f"{name} must be an image ({kinds}), got something else or a damaged one. Remove it."
        ) from error
    width, height = image.size
    if width * height > max_pixels:
        raise TooLargeError(f"{name} must have at most {max_pixels:,} pixels, got {width} x {height}. Reduce it first.")
    if max(width, height) > MAX_SIDE:
        raise TooLargeError(f"{name} must have sides of at most {MAX_SIDE:,}, got {width} x {height}. Reduce it first.")
    if image.format == "JPEG" and len(data) * _JPEG_BLOCKS < width * height:  # libjpeg would make up the rest
        raise ValueError(
            f"{name} is damaged: {len(data)} bytes are too few for a JPEG of {width} x {height}. "
            "Copy it again or remove it."
        )
    return image


def upright(image: Image.Image) -> Image.Image:
    """Apply the orientation of the metadata to a loaded image; metadata that cannot be read has none."""
    if image.format == "TIFF":  # Pillow has turned it while loading
        return image
    orientation = orientation_of(image)
    return image.transpose(_ORIENTATIONS[orientation]) if orientation in _ORIENTATIONS else image


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8."""
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged metadata does not make the pixels unreadable
        return 1


class TooLargeError(ValueError):
    """An image with more pixels than the limit."""


class _UnsupportedSamplesError(ValueError):
    """Samples whose range is not known."""


def _rgb_pixels(image: Image.Image, name: str) -> np.ndarray:
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP):
        rows = image if height <= _STRIP else image.crop((0, top, width, min(top + _STRIP, height)))
        pixels[top : top + _STRIP] = np.asarray(_to_rgb(rows, name))
    return pixels


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert any Pillow mode to ``RGB``."""
    if image.mode.startswith("I"):
        samples = np.asarray(image)
        if samples.min() < 0 or samples.max() > 0xFFFF:
            raise _UnsupportedSamplesError(
                f"{name} has 32-bit samples, whose range is not known. Save it with 8 or 16."
            )
        return Image.fromarray((samples >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise _UnsupportedSamplesError(f"{name} has floating-point samples. Save it with 8 or 16 bits.")
    if image.mode in ("P", "PA", "La", "RGBa"):  # a palette may hold alpha; a premultiplied colour needs its alpha
        image = image.convert("RGBA")
    return image.convert("RGB")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
