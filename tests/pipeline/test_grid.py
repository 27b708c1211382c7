import numpy as np
import pytest
from PIL import Image, ImageFont

from facesr_plugin.pipeline.grid import Comparison, comparison_grid, resize_bicubic


def flat(height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
ROW = Comparison(flat(4, 4, RED), flat(32, 96, GREEN), flat(32, 96, BLUE))


def columns_of(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Number of columns that hold the colour."""
    return int((picture == colour).all(-1).any(0).sum())


def rows_of(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(-1).any(1).sum())


def test_comparison_grid_shows_every_picture_whole() -> None:
    picture = comparison_grid([ROW, ROW])
    assert picture.dtype == np.uint8
    assert columns_of(picture, RED) == 2 * 96  # input and bicubic
    assert columns_of(picture, GREEN) == columns_of(picture, BLUE) == 96
    assert rows_of(picture, RED) == rows_of(picture, GREEN) == 2 * 32


def test_comparison_grid_leaves_out_a_column_without_ground_truth() -> None:
    with_gt, without = comparison_grid([ROW]), comparison_grid([ROW._replace(gt=None)])
    assert without.shape[1] == (with_gt.shape[1] - 8) * 3 // 4 + 8
    assert columns_of(without, BLUE) == 0


def test_comparison_grid_enlarges_the_input_by_nearest_and_bicubic_beside_it() -> None:
    lq = np.random.default_rng(0).integers(0, 200, (4, 4, 3), np.uint8)
    picture = comparison_grid([Comparison(lq, flat(128, 128, GREEN))])
    top = picture.shape[0] - 8 - 128
    np.testing.assert_array_equal(picture[top : top + 128, 8:136], lq.repeat(32, 0).repeat(32, 1))
    expected = np.asarray(Image.fromarray(lq).resize((128, 128), Image.BICUBIC))
    np.testing.assert_array_equal(picture[top : top + 128, 144:272], expected)


def test_comparison_grid_centres_results_of_other_sizes() -> None:
    rows = [Comparison(flat(4, 4, RED), flat(size, 128, GREEN)) for size in (64, 32)]
    picture = comparison_grid(rows)
    green = (picture[:, -20] == GREEN).all(-1)
    assert rows_of(picture, GREEN) == 96
    assert not green[-8 - 16 :].any()
    assert green[-8 - 17]


@pytest.mark.parametrize("font", ["new", "bitmap"])
def test_comparison_grid_does_not_clip_captions(font: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if font == "bitmap":  # Pillow before 10.1
        bitmap = getattr(ImageFont, "load_default_imagefont", ImageFont.load_default)()
        monkeypatch.setattr(ImageFont, "load_default", lambda: bitmap)
    picture = comparison_grid([Comparison(flat(4, 4, RED), flat(8, 8, GREEN), flat(8, 8, BLUE))])
    header = picture[: -8 - 8]
    ink = (header < 128).all(-1)
    columns = ink.any(0)
    assert ink.sum() > 50
    assert not columns[:6].any()
    assert not columns[-6:].any()
    assert not ink[-3:].any()


def test_comparison_grid_refuses_no_rows_and_other_sizes() -> None:
    with pytest.raises(ValueError, match="rows must hold at least one comparison"):
        comparison_grid([])
    with pytest.raises(ValueError, match=r"gt must have the size of its result \(32, 96\), got \(32, 32\)"):
        comparison_grid([ROW._replace(gt=flat(32, 32, BLUE))])


def test_resize_bicubic_is_pillows() -> None:
    image = np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8)
    np.testing.assert_array_equal(
        resize_bicubic(image, (20, 30)), np.asarray(Image.fromarray(image).resize((30, 20), Image.BICUBIC))
    )
