import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from facesr_plugin.utils.photoio import Photo, decode_photo, encode_png

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (6, 9, 3), np.uint16)
ALPHA = np.random.default_rng(2).integers(0, 256, (6, 9), np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def deep(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, np.ascontiguousarray(pixels))[1].tobytes()


PHOTOS = {
    "grey": Photo(RGB[..., 0].copy()),
    "rgb": Photo(RGB),
    "grey with alpha": Photo(RGB[..., 0].copy(), ALPHA),
    "rgb with alpha": Photo(RGB, ALPHA),
    "deep grey": Photo(DEEP[..., 0].copy()),
    "deep rgb": Photo(DEEP),
    "deep rgb with alpha": Photo(DEEP, ALPHA.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("photo", PHOTOS.values(), ids=PHOTOS)
def test_photo_keeps_every_bit_through_a_png(photo: Photo) -> None:
    again = decode_photo(encode_png(photo), "photo")
    assert again.colour.dtype == photo.colour.dtype
    np.testing.assert_array_equal(again.colour, photo.colour)
    assert (again.alpha is None) == (photo.alpha is None)
    if photo.alpha is not None:
        np.testing.assert_array_equal(again.alpha, photo.alpha)


@pytest.mark.parametrize("photo", [PHOTOS["rgb"], PHOTOS["deep rgb"], PHOTOS["deep grey"]])
def test_photo_keeps_its_colour_profile(photo: Photo) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encode_png(photo._replace(profile=profile))
    assert Image.open(io.BytesIO(data)).info["icc_profile"] == profile
    again = decode_photo(data, "photo")
    assert again.profile == profile
    np.testing.assert_array_equal(again.colour, photo.colour)


def test_photo_with_deep_grey_and_alpha_becomes_deep_rgb() -> None:
    again = decode_photo(encode_png(Photo(DEEP[..., 0].copy(), DEEP[..., 1].copy())), "photo")
    np.testing.assert_array_equal(again.colour, np.repeat(DEEP[..., :1], 3, -1))
    np.testing.assert_array_equal(again.alpha, DEEP[..., 1])


def test_decode_photo_keeps_sixteen_bits_of_a_tiff() -> None:
    np.testing.assert_array_equal(decode_photo(deep(DEEP[..., ::-1], ".tiff"), "photo").colour, DEEP)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [8, 16])
def test_decode_photo_turns_as_the_metadata_says(orientation: int, bits: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = encoded(Image.fromarray(RGB), exif=exif)
    expected = decode_photo(plain, "photo").colour
    np.testing.assert_array_equal(np.sort(expected, axis=None), np.sort(RGB, axis=None))
    assert (expected.shape[0] == 9) == (orientation > 4)
    if bits == 16:
        chunk = plain[plain.index(b"eXIf") - 4 :]
        chunk = chunk[: 12 + int.from_bytes(chunk[:4], "big")]
        whole = deep(RGB[..., ::-1].astype(np.uint16) * 257)
        turned = decode_photo(whole[:33] + chunk + whole[33:], "photo").colour
        np.testing.assert_array_equal(turned, expected.astype(np.uint16) * 257)


def test_decode_photo_makes_rgb_of_cmyk() -> None:
    photo = decode_photo(encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG"), "photo")
    assert photo.colour.shape == (6, 9, 3)
    assert photo.colour.dtype == np.uint8


def test_decode_photo_takes_the_first_frame() -> None:
    frames = [Image.fromarray(np.full((4, 4, 3), level, np.uint8)) for level in (10, 200)]
    photo = decode_photo(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "photo")
    assert photo.animated
    assert (photo.colour == 10).all()


def test_decode_photo_looks_a_palette_up() -> None:
    palette = Image.fromarray(RGB).quantize(16)
    photo = decode_photo(encoded(palette), "photo")
    np.testing.assert_array_equal(photo.colour, np.array(palette.convert("RGB")))
    assert photo.alpha is None
    photo = decode_photo(encoded(palette, transparency=0), "photo")
    assert photo.alpha.min() == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "got an empty file"),
        (b"text", "photo must be an image"),
        (encode_png(PHOTOS["rgb"])[:90], "photo is damaged"),
        (encode_png(PHOTOS["deep rgb"])[:90], "photo"),
        (encode_png(PHOTOS["deep rgb"])[:-5], "photo is damaged: it ends too early"),
        (encode_png(PHOTOS["rgb with alpha"])[:90], "photo is damaged"),
    ],
)
def test_decode_photo_refuses_what_is_none(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_photo(data, "photo")


def test_decode_photo_refuses_large_photos(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="photo must have at most 50 pixels, got 9 x 6"):
        decode_photo(encode_png(PHOTOS["rgb"]), "photo", max_pixels=50)


def test_decode_photo_names_a_tiff_whose_frames_cannot_be_counted() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, format="TIFF", save_all=True, append_images=[Image.new("RGB", (4, 4))])
    data = bytearray(buffer.getvalue())
    place = data.rfind(struct.pack("<HH", 256, 4))  # the width of the second frame
    place = place if place >= 0 else data.rfind(struct.pack("<HH", 256, 3))
    data[place : place + 2] = b"\xff\xff"
    with pytest.raises(ValueError, match=r"^x\.tif is damaged: "):
        decode_photo(bytes(data), "x.tif")
