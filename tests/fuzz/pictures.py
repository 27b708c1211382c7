"""Images of every format that is read: damaged, and with headers that declare other sizes and kinds."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from facesr_plugin.data.image_head import image_shape
from facesr_plugin.data.inputs import list_items, read_item
from facesr_plugin.data.sources import open_source
from facesr_plugin.utils.imageio import read_image
from facesr_plugin.utils.photoio import decode_photo, encode_png
from fuzz.mutate import damaged
from fuzz.sandbox import Case
from helpers.faces import make_image

_LARGE = 2**24
SIZES = (0, 1, 2, 17, 255, 256, 5000, 10_000, 30_000, 60_000, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_MODES = {
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("RGB", "L", "P", "1"),
    "TIFF": ("RGB", "L", "CMYK", "I;16", "F", "RGBA", "P", "1", "LAB", "YCbCr"),
    "GIF": ("P", "L"),
    "PPM": ("RGB", "L", "1", "I;16"),
}
KINDS = tuple((form, mode) for form, modes in _MODES.items() for mode in modes)


@cache
def whole(form: str, mode: str, extra: str = "") -> bytes:
    """A small image of a format and a mode; ``extra``: animated, meta(data), tiny, or a compression of TIFF."""
    size = 1 if extra == "tiny" else 24
    image = _of_mode(make_image(3, size, size + 3), mode)
    more: dict = {}
    if extra == "animated":
        more = {"save_all": True, "append_images": [_of_mode(make_image(i, size, size + 3), mode) for i in range(3)]}
    elif extra == "meta":
        exif = Image.Exif()
        exif[0x0112] = 6
        exif[0x010E] = "x" * 50
        more = {"exif": exif.tobytes(), "icc_profile": b"\0" * 128 + b"rubbish"}
    elif form == "TIFF" and extra:
        more = {"compression": extra}
    buffer = io.BytesIO()
    try:
        image.save(buffer, format=form, **more)
    except (OSError, ValueError, KeyError, RuntimeError):
        return whole(form, mode)
    return buffer.getvalue()


def _of_mode(pixels: np.ndarray, mode: str) -> Image.Image:
    image = Image.fromarray(pixels)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    if mode == "LA":
        return image.convert("L").convert("LA")
    return image.convert(mode)


@cache
def _deep_png() -> bytes:
    import cv2

    return cv2.imencode(".png", make_image(1, 20).astype(np.uint16) * 257)[1].tobytes()


def _wholes() -> st.SearchStrategy[bytes]:
    extras = st.sampled_from(
        ("", "", "meta", "animated", "tiny", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "group4")
    )
    return st.one_of(
        st.builds(lambda kind, extra: whole(*kind, extra), st.sampled_from(KINDS), extras), st.builds(_deep_png)
    )


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@st.composite
def _pngs(draw: Callable) -> bytes:
    """PNG chunk by chunk, every checksum right: any size, depth and colour, rubbish between."""
    width, height = draw(st.sampled_from(SIZES)), draw(st.sampled_from(SIZES))
    depth, colour = draw(st.sampled_from((1, 2, 4, 8, 16, 3))), draw(st.sampled_from((0, 2, 3, 4, 6, 5)))
    chunks = [
        png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, draw(st.sampled_from((0, 1)))))
    ]
    bodies = (
        b"",
        b"\0" * 3,
        b"\xff" * 700,
        zlib.compress(bytes(100)),
        zlib.compress(bytes(2**20)),
        b"x\0\0" + zlib.compress(bytes(2**22)),
    )
    kinds = (
        b"PLTE",
        b"tRNS",
        b"iCCP",
        b"eXIf",
        b"zTXt",
        b"tEXt",
        b"iTXt",
        b"gAMA",
        b"acTL",
        b"fcTL",
        b"fdAT",
        b"xxxx",
        b"pHYs",
        b"sRGB",
        b"cHRM",
    )
    for kind, body in draw(st.lists(st.tuples(st.sampled_from(kinds), st.sampled_from(bodies)), max_size=3)):
        chunks.append(png_chunk(kind, body))
    content = draw(st.sampled_from((b"", zlib.compress(bytes(600)), zlib.compress(bytes(2**22)), b"rubbish")))
    chunks += [png_chunk(b"IDAT", content)] * draw(st.integers(0, 2)) + [png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@st.composite
def _resized(draw: Callable) -> bytes:
    """An image whose header declares another size."""
    form, mode = draw(st.sampled_from(KINDS))
    data = bytearray(whole(form, mode))
    width, height = draw(st.sampled_from(SIZES)), draw(st.sampled_from(SIZES))
    if form == "PNG":
        header = struct.pack(">II", width, height) + bytes(data[24:29])
        data[8:33] = png_chunk(b"IHDR", header)
    elif form == "JPEG":
        at = next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC2))
        data[at + 5 : at + 9] = struct.pack(">HH", height % 65536, width % 65536)
    elif form == "GIF":
        data[6:10] = struct.pack("<HH", width % 65536, height % 65536)
    elif form == "BMP":
        data[18:26] = struct.pack("<II", width, height)
    elif form == "PPM":
        data = bytearray(data.replace(b"27 24", f"{width} {height}".encode(), 1))
    elif form == "WEBP":
        at = draw(st.integers(20, 32))
        data[at : at + 4] = struct.pack("<HH", width % 65536, height % 65536)
    else:
        for tag, number in ((256, width), (257, height)):
            at = data.find(struct.pack("<HH", tag, 3))
            at = at if at >= 0 else data.find(struct.pack("<HH", tag, 4))
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, number)
    return bytes(data)


@st.composite
def _tiffs(draw: Callable) -> bytes:
    """TIFF tag by tag."""
    order = draw(st.sampled_from("<>"))
    entries = draw(
        st.lists(
            st.tuples(
                st.sampled_from(
                    (
                        256,
                        257,
                        258,
                        259,
                        262,
                        273,
                        274,
                        277,
                        278,
                        279,
                        284,
                        317,
                        320,
                        322,
                        323,
                        324,
                        325,
                        330,
                        338,
                        339,
                        347,
                        700,
                        34675,
                        34665,
                    )
                ),
                st.sampled_from((1, 2, 3, 4, 5, 7, 11, 12, 13, 16)),
                st.sampled_from((0, 1, 2, 3, 4, 2**16, 2**31, 2**32 - 1)),
                st.sampled_from((0, 1, 2, 5, 6, 7, 8, 16, 32, 100, 60_000, 2**32 - 1)),
            ),
            max_size=12,
        )
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    body = struct.pack(f"{order}H", len(entries)) + b"".join(
        struct.pack(f"{order}HHII", *entry) for entry in sorted(entries)
    )
    return head + body + struct.pack(f"{order}I", draw(st.sampled_from((0, 8, 2**31)))) + bytes(200)


_MAGICS = (
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"RIFF\x20\0\0\0WEBPVP8 ",
    b"RIFF\x20\0\0\0WEBPVP8X",
    b"RIFF\x20\0\0\0WEBPVP8L",
    b"BM",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
    b"II+\0\x08\0\0\0",
    b"GIF89a",
    b"P6\n",
    b"P5 9999999999 1 ",
    b"P7\n",
    b"%!PS-Adobe-3.0 EPSF-3.0\n",
    b"8BPS",
    b"\0\0\x01\0",
)


@st.composite
def cases(draw: Callable) -> Case:
    random = st.builds(bytes.__add__, st.sampled_from(_MAGICS), st.binary(max_size=150))
    content = draw(st.one_of(damaged(_wholes()), damaged(_wholes()), _wholes(), _pngs(), _resized(), _tiffs(), random))
    name = draw(st.sampled_from(("x.png", "x.jpg", "x.tif", "x.webp", "x.gif")))
    return Case(
        "pictures",
        {f"in/{name}": content},
        {"entry": draw(st.sampled_from(("photo", "photo", "rgb", "folder", "head")))},
    )


def attempt(folder: Path, case: Case) -> None:
    (name,) = case.files
    path, entry = folder / name, case.arguments["entry"]
    if entry == "head":
        height, width, channels = image_shape(path.read_bytes(), str(path))
        _hold(min(height, width, channels) >= 0)
    elif entry == "rgb":
        _check_colour(read_image(path))
    elif entry == "folder":
        source = open_source(str(folder / "in"), {"type": "disk"})
        _check_colour(source.read(source.keys[0]))
        read_item(list_items(folder / "in")[0])
    else:
        photo = decode_photo(path.read_bytes(), str(path))
        _hold(photo.colour.dtype in (np.uint8, np.uint16) and photo.colour.ndim in (2, 3))
        if photo.colour.size > _LARGE:  # an image of 100 megapixels is allowed to take its time
            return
        again = decode_photo(encode_png(photo), "again.png")
        _hold(again.colour.shape[:2] == photo.colour.shape[:2] and again.colour.dtype == photo.colour.dtype)


def _check_colour(pixels: np.ndarray) -> None:
    _hold(pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8 and pixels.flags.writeable)


def _hold(true: bool) -> None:
    if not true:
        raise AssertionError("the result is not what the unit promises")
