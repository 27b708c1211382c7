import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesr_plugin.utils.imageio import check_apart, decode_rgb, list_images, png_path, png_paths, read_image, write_png

RAMP = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in chunks)


def coarse(image: np.ndarray) -> np.ndarray:
    """Colour of the four quarters, so that a lossy file can be compared."""
    height, width = image.shape[:2]
    return image.reshape(2, height // 2, 2, width // 2, 3).mean((1, 3)).round().astype(int)


def quarters() -> Image.Image:
    """A 32 x 16 picture whose four quarters have different colours."""
    colours = np.array([[[200, 40, 40], [40, 200, 40]], [[40, 40, 200], [200, 200, 40]]], np.uint8)
    return Image.fromarray(np.repeat(np.repeat(colours, 8, 0), 16, 1))


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM"])
def test_decode_rgb_keeps_the_pixels_of_lossless_files(file_format: str) -> None:
    image = decode_rgb(encoded(Image.fromarray(RAMP), file_format), "a")
    assert image.dtype == np.uint8
    assert image.flags.writeable
    np.testing.assert_array_equal(image, RAMP)


def test_decode_rgb_reads_lossless_webp() -> None:
    np.testing.assert_array_equal(decode_rgb(encoded(Image.fromarray(RAMP), "WEBP", lossless=True), "a"), RAMP)


def test_decode_rgb_repeats_grey() -> None:
    image = decode_rgb(encoded(Image.fromarray(RAMP[..., 0])), "a")
    np.testing.assert_array_equal(image, np.repeat(RAMP[..., :1], 3, 2))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_decode_rgb_drops_alpha_and_keeps_the_colour_under_it(mode: str) -> None:
    picture = Image.fromarray(RAMP).convert("L").convert(mode)
    expected = np.asarray(picture.convert("RGB"))
    picture.putalpha(0)
    np.testing.assert_array_equal(decode_rgb(encoded(picture), "a"), expected)


@pytest.mark.filterwarnings("error")
def test_decode_rgb_looks_up_a_palette_with_alpha() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putdata([0, 1])
    image = decode_rgb(encoded(picture, transparency=bytes([0, 128])), "a")
    assert image.tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_decode_rgb_reads_one_bit() -> None:
    picture = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert decode_rgb(encoded(picture), "a").tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3)])
def test_decode_rgb_scales_16_bit_png(colour: int, channels: int) -> None:
    samples = np.array([0, 257, 128 * 257, 65535], ">u2").repeat(channels)
    image = decode_rgb(raw_png(4, 1, 16, colour, b"\0" + samples.tobytes()), "a")
    np.testing.assert_array_equal(image, np.array([[0, 1, 128, 255]])[..., None].repeat(3, 2))


def test_decode_rgb_scales_16_bit_tiff() -> None:
    data = encoded(Image.fromarray(np.array([[0, 257, 65535]], np.uint16)), "TIFF")
    np.testing.assert_array_equal(decode_rgb(data, "a")[0, :, 0], [0, 1, 255])


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_decode_rgb_refuses_samples_without_a_range(dtype: type) -> None:
    data = encoded(Image.fromarray(np.array([[-1, 70000]], dtype)), "TIFF")
    with pytest.raises(ValueError, match=r"^a\.tif has .* samples"):
        decode_rgb(data, "a.tif")


def test_decode_rgb_converts_a_cmyk_jpeg() -> None:
    data = encoded(quarters().convert("CMYK"), "JPEG", quality=95, subsampling=0)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    np.testing.assert_allclose(coarse(decode_rgb(data, "a")), coarse(np.asarray(quarters())), atol=4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_decode_rgb_applies_the_orientation(file_format: str, orientation: int) -> None:
    stored = {1: (), 2: (2,), 3: (3,), 4: (4,), 5: (5,), 6: (8,), 7: (7,), 8: (6,)}  # inverse of each
    moves = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF value -> Pillow's transpose
    picture = quarters()
    for value in stored[orientation]:
        picture = picture.transpose(moves[value])
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(file_format, {})
    image = decode_rgb(encoded(picture, file_format, exif=exif.tobytes(), **options), "a")
    assert image.shape == (16, 32, 3)
    np.testing.assert_allclose(coarse(image), coarse(np.asarray(quarters())), atol=6)


def test_decode_rgb_ignores_damaged_metadata() -> None:
    data = encoded(quarters(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01")
    assert decode_rgb(data, "a").shape == (16, 32, 3)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_decode_rgb_takes_the_first_frame(file_format: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("#ff0000", "#0000ff")]
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_allclose(decode_rgb(data, "a")[0, 0], [255, 0, 0], atol=1)


def test_decode_rgb_reads_one_pixel() -> None:
    assert decode_rgb(encoded(Image.new("RGB", (1, 1), "#010203")), "a").tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "^x.png must be an image, got an empty file"),
        (b"these are words, not pixels\n" * 9, "^x.png must be an image .* got something else or a damaged one"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "^x.png must be an image"),
        (encoded(quarters())[:30], "^x.png must be an image|^x.png is damaged"),
        (encoded(Image.effect_noise((64, 64), 50))[:-900], "^x.png is damaged: .* Copy it again"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:-900], "^x.png is damaged: .*truncated"),
        (raw_png(4, 4, 8, 2, b"\0" * 20), "^x.png is damaged"),
    ],
    ids=["empty", "text", "eps", "header", "cut png", "cut jpeg", "short png"],
)
def test_decode_rgb_reports_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_rgb(data, "x.png")


def test_decode_rgb_raises_only_value_errors_on_random_damage() -> None:
    rng = np.random.default_rng(0)
    files = [encoded(quarters(), kind) for kind in ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "PPM")]
    for _ in range(300):
        data = bytearray(files[rng.integers(len(files))])
        data[rng.integers(len(data))] = rng.integers(256)
        with contextlib.suppress(ValueError):
            decode_rgb(bytes(data), "x", max_pixels=1_000_000)


def test_decode_rgb_refuses_a_jpeg_that_is_too_short_for_its_size() -> None:
    data = bytearray(encoded(quarters(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 10_000, 10_000)  # libjpeg makes up what is missing
    with pytest.raises(ValueError, match=r"^bomb.jpg is damaged: \d+ bytes are too few for a JPEG of 10000 x 10000"):
        decode_rgb(bytes(data), "bomb.jpg")


@pytest.mark.parametrize("options", [{}, {"progressive": True, "optimize": True, "subsampling": 2}])
def test_decode_rgb_reads_the_emptiest_jpeg(options: dict) -> None:
    data = encoded(Image.new("RGB", (3000, 2000), (90, 90, 90)), "JPEG", quality=1, **options)
    assert decode_rgb(data, "a").shape == (2000, 3000, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "RGBA", "LA", "I;16"])
def test_decode_rgb_gives_the_same_in_strips(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (23, 9, 3), np.uint8)
    deep = noise[..., 0].astype(np.uint16) * 257
    image = Image.fromarray(deep) if mode == "I;16" else Image.fromarray(noise).convert(mode)
    data = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    whole = decode_rgb(data, "a")
    monkeypatch.setattr("facesr_plugin.utils.imageio._STRIP", 4)
    np.testing.assert_array_equal(decode_rgb(data, "a"), whole)


@pytest.mark.parametrize("size", [(20_000, 20_000), (11_000, 10_000)])
def test_decode_rgb_refuses_a_huge_image_by_its_header(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"^bomb.png must have at most 100,000,000 pixels"):
        decode_rgb(raw_png(*size, 8, 2, b""), "bomb.png")


def test_write_png_is_read_back(tmp_path: Path) -> None:
    write_png(tmp_path / "new" / "ä ö.png", RAMP[:, ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "ä ö.png"), RAMP[:, ::-1])
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["ä ö.png"]


@pytest.mark.parametrize("image", [RAMP[..., 0], RAMP.astype(np.float32), RAMP[..., :2]])
def test_write_png_refuses_other_arrays(tmp_path: Path, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"image must be \(H, W, 3\) uint8 RGB, got"):
        write_png(tmp_path / "a.png", image)


def test_list_images_reads_one_level_sorted(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "é.webp", ".hidden.png", "notes.txt", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPG", "é.webp"]


def test_list_images_takes_a_file_and_a_glob(tmp_path: Path) -> None:
    for name in ("a[1].png", "b1.png", "b2.png", "b3.txt", "sub/b4.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_images(tmp_path / "a[1].png") == [tmp_path / "a[1].png"]
    assert list_images(tmp_path / "b*") == [tmp_path / "b1.png", tmp_path / "b2.png"]
    assert list_images(tmp_path / "**" / "b4*") == [tmp_path / "sub" / "b4.png"]


def test_list_images_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold images .* got none"):
        list_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        list_images(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "..", ".", "", "a/b.png", "a\\b.png", "a\0.png"])
def test_png_path_keeps_names_in_the_folder(name: str) -> None:
    with pytest.raises(ValueError, match="name must be a plain file name"):
        png_path("out", name)


@pytest.mark.parametrize(("name", "stem"), [("a.jpg", "a"), ("..png", "."), ("a.b.png", "a.b"), ("名.png", "名")])
def test_png_path_keeps_the_stem(name: str, stem: str) -> None:
    assert png_path("out", name) == Path("out") / f"{stem}.png"


def test_png_paths_refuses_two_inputs_with_one_stem() -> None:
    with pytest.raises(ValueError, match=r"inputs must have different stems, got x/a\.jpg and x/a\.png"):
        png_paths([Path("x/a.jpg"), Path("x/b.png"), Path("x/a.png")], "out")


def test_check_apart_refuses_to_write_beside_the_inputs(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    check_apart([tmp_path / "a.jpg"], tmp_path / "sub")
    for folder in (tmp_path, tmp_path / "sub" / "..", tmp_path / "link"):
        with pytest.raises(ValueError, match="output folder must not be the one of the input"):
            check_apart([tmp_path / "a.jpg"], folder)


def test_list_images_refuses_an_empty_text() -> None:
    with pytest.raises(ValueError, match="got an empty text"):
        list_images("")


def test_decode_rgb_refuses_endless_sides() -> None:
    data = b"P5 1 70000 255 " + bytes(70_000)
    with pytest.raises(ValueError, match=r"^strip.pgm must have sides of at most 65,535, got 1 x 70000"):
        decode_rgb(data, "strip.pgm")
