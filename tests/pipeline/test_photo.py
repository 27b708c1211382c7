from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch import Tensor, nn

from facesr_plugin.cards import CARDS, FRAMINGS, SystemCard, get_card
from facesr_plugin.data.synthetic import generate_face
from facesr_plugin.ops.affine import FFHQ_TEMPLATE, invert, transform
from facesr_plugin.ops.align import bounds, crop_face
from facesr_plugin.ops.landmark import five_points
from facesr_plugin.pipeline.aligner import alignment
from facesr_plugin.pipeline.face import Face
from facesr_plugin.pipeline.landmark_file import read_faces
from facesr_plugin.pipeline.paste import enlarge, paste_face
from facesr_plugin.pipeline.photo import PhotoOptions, restore_photos
from facesr_plugin.pipeline.restorer import Restorer
from facesr_plugin.utils.imageio import read_image
from helpers.photos import Constant, Negative, group_photo
from helpers.tiny import tiny_sparnet

HD = replace(get_card("sparnethd"), lq_size=128)
SPARNET = get_card("sparnet")
PHOTO, POINTS = group_photo()
PICTURES = Path(__file__).parents[1] / "data" / "pictures"


def restorer(network: nn.Module, card=HD) -> Restorer:
    return Restorer(network, card, device="cpu")


def far_from_faces(shape: tuple[int, int], card=HD) -> np.ndarray:
    """Return (H, W) bool: pixels beyond every crop."""
    far = np.ones(shape, bool)
    for points in POINTS:
        box = bounds(invert(alignment(points, card)), card.lq_size).within(shape)
        far[box.top : box.bottom, box.left : box.right] = False
    return far


def changed(image: np.ndarray, before: np.ndarray) -> np.ndarray:
    difference = np.abs(image.astype(int) - before)
    return difference.max(-1) if image.ndim == 3 else difference


def test_restore_looks_like_the_reference_picture() -> None:
    """``group.png`` is a ``group_photo``; ``group_restored.png`` was looked at: faces in place, no seam."""
    photo, expected = (read_image(PICTURES / name) for name in ("group.png", "group_restored.png"))
    faces = read_faces(PICTURES / "group.csv")["group"]
    result = restorer(Negative()).restore(photo, detector=lambda _: faces)
    difference = changed(result.image, expected)
    assert difference.max() <= 3  # OpenCV's releases place taps by 1/32 pixel differently
    assert difference.mean() < 0.1


def test_alignment_brings_the_points_to_the_template() -> None:
    matrix = alignment(np.array(FFHQ_TEMPLATE) * 0.3 + [50, 9], HD)
    points = transform(np.array(FFHQ_TEMPLATE) * 0.3 + [50, 9], matrix)
    np.testing.assert_allclose((points + 0.5) * 4 - 0.5, FFHQ_TEMPLATE, atol=1e-9)


def test_loose_alignment_keeps_the_photo_upright_and_the_face_in_the_middle() -> None:
    matrix = alignment(POINTS[0], SPARNET)
    assert matrix[0, 1] == matrix[1, 0] == 0
    assert matrix[0, 0] == matrix[1, 1] > 0
    assert np.abs(transform(POINTS[0].mean(0), matrix) - 7.5).max() < 1.5


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_every_system_finds_its_crop_in_a_photo(card: SystemCard) -> None:
    side = card.lq_size
    places = (transform(POINTS[0], alignment(POINTS[0], card)) + 0.5) / side
    np.testing.assert_allclose(places.mean(0), 0.5, atol=0.15)
    assert 0.15 < places[1, 0] - places[0, 0] < 0.5  # eyes
    assert places[3, 1] > places[2, 1] > places[0, 1]


def test_every_framing_has_an_alignment() -> None:
    matrices = [alignment(POINTS[0], replace(HD, framing=framing)) for framing in FRAMINGS]
    assert len({matrix.tobytes() for matrix in matrices}) == len(FRAMINGS)


def test_celeba_alignment_brings_the_eyes_where_aligned_celeba_has_them() -> None:
    """Pupils are 13.9 of 64 pixels apart there."""
    eyes = transform(POINTS[0], alignment(POINTS[0], replace(HD, framing="celeba", lq_size=64)))[:2]
    assert eyes[1, 0] - eyes[0, 0] == pytest.approx(13.9, abs=1.5)
    assert eyes[:, 1] == pytest.approx([33, 33], abs=2)


def test_box_alignment_frames_a_face_as_the_training_crops_of_jasrnet_do() -> None:
    """The points fill the middle 1 / 1.4 of both sides, as the box that ``cut_box`` enlarges."""
    _, points = generate_face(3, 128)
    matrix = alignment(five_points(points.astype(np.float64)), replace(HD, framing="box", lq_size=128))
    found = transform(points, matrix)
    low, high = found.min(0), found.max(0)
    assert (low + high) / 2 == pytest.approx([63.5, 63.5], abs=6)
    assert high - low == pytest.approx([128 / 1.4, 128 / 1.4], rel=0.12)


def test_crop_face_resamples_the_photo() -> None:
    y, x = np.mgrid[:200, :200]
    slope = np.stack([x, y, 255 - x], -1).astype(np.uint8)
    matrix = alignment(POINTS[0] + [50, 40], HD)
    crop = crop_face(slope, matrix, 128)
    places = transform(np.stack(np.mgrid[:128, :128][::-1], -1), invert(matrix))
    inside = ((places > 2) & (places < 197)).all(-1)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(crop[inside][:, :2], places[inside], atol=0.6)


def test_crop_face_reduces_large_faces_without_aliasing() -> None:
    grain = np.zeros((600, 600, 3), np.uint8)
    grain[::2, ::2] = grain[1::2, 1::2] = 254
    crop = crop_face(grain, np.array([[0.1, 0, 0], [0, 0.1, 0]]), 60)
    assert np.abs(crop[3:-3, 3:-3].astype(int) - 127).max() <= 1


def test_crop_face_mirrors_beyond_the_photo() -> None:
    crop = crop_face(np.full((40, 40, 3), 90, np.uint8), np.array([[1.0, 0, 20], [0, 1.0, 20]]), 64)
    assert (crop == 90).all()


def test_crop_face_refuses_a_face_beside_the_photo() -> None:
    with pytest.raises(ValueError, match="face must lie in the photo"):
        crop_face(PHOTO, np.array([[1.0, 0, 900], [0, 1.0, 0]]), 64)


def test_crop_face_refuses_points_that_ask_for_far_more_than_the_photo() -> None:
    with pytest.raises(ValueError, match="ask for 64007 pixels. Check the landmarks"):
        crop_face(PHOTO, np.array([[1e-3, 0, 32], [0, 1e-3, 32]]), 64)


def test_restore_tells_all_about_a_face() -> None:
    known = Face(POINTS[0], box=np.array([20, 30, 116, 126]), score=0.9)
    (face,) = restorer(Negative()).restore(PHOTO, detector=lambda _: [known]).faces
    assert (face.score, face.skipped) == (0.9, None)
    np.testing.assert_array_equal(face.box, [20, 30, 116, 126])
    np.testing.assert_array_equal(face.landmarks, POINTS[0])
    assert face.crop.shape == face.restored.shape == (128, 128, 3)
    np.testing.assert_array_equal(face.crop, crop_face(PHOTO, alignment(POINTS[0], HD), 128))


def test_restore_keeps_every_bit_outside_the_faces() -> None:
    result = restorer(Negative()).restore(PHOTO, landmarks=POINTS)
    difference = changed(result.image, PHOTO)
    assert difference[far_from_faces(PHOTO.shape[:2])].max() == 0
    assert [face.skipped for face in result.faces] == [None] * 3
    for face in result.faces:
        x, y = face.landmarks[2].round().astype(int)
        np.testing.assert_allclose(result.image[y, x], 255 - PHOTO[y, x].astype(int), atol=60)
        assert np.abs(face.restored + face.crop.astype(int) - 255).max() <= 1  # the card truncates


def test_restore_puts_faces_back_in_place() -> None:
    """A network that changes nothing leaves the photo as it is, but for the crop's resampling."""
    photo = cv2.GaussianBlur(PHOTO, (0, 0), 1.5)
    result = restorer(nn.Identity(), replace(HD, output_rounding="round")).restore(photo, landmarks=POINTS)
    difference = changed(result.image, photo)
    assert difference.max() <= 4
    assert difference.mean() < 0.3


@pytest.mark.parametrize("upscale", [2, 3])
def test_restore_enlarges_in_place(upscale: int) -> None:
    photo = cv2.GaussianBlur(PHOTO, (0, 0), 1.5)
    card = replace(HD, output_rounding="round")
    result = restorer(nn.Identity(), card).restore(photo, landmarks=POINTS, upscale=upscale)
    background = enlarge(photo, upscale)
    assert result.image.shape == background.shape == (180 * upscale, 340 * upscale, 3)
    assert changed(result.image, background).max() <= 6


def test_restore_fades_without_a_seam_and_keeps_black() -> None:
    photo = np.full((200, 200, 3), 200, np.uint8)
    result = restorer(Constant(0)).restore(photo, landmarks=POINTS[:1] + [40, 40])
    image = result.image[..., 0].astype(int)
    assert (image == 0).sum() > 2000
    assert max(np.abs(np.diff(image, axis=axis)).max() for axis in (0, 1)) < 40
    assert np.abs(np.diff(image[100])).max() > 0


def test_restore_keeps_sixteen_bits_outside_the_faces() -> None:
    photo = PHOTO.astype(np.uint16) * 257 + np.random.default_rng(0).integers(0, 200, PHOTO.shape).astype(np.uint16)
    photo = np.minimum(photo, 65535).astype(np.uint16)
    image = restorer(Negative()).restore(photo, landmarks=POINTS).image
    assert image.dtype == np.uint16
    assert changed(image, photo)[far_from_faces(PHOTO.shape[:2])].max() == 0
    small = restorer(Negative()).restore((photo >> 8).astype(np.uint8), landmarks=POINTS).image
    assert np.abs(image / 257 - small).max() < 2  # the lower 8 bits, and the rest of a level


def test_restore_keeps_a_grey_photo_grey() -> None:
    image = restorer(Negative()).restore(PHOTO[..., 1].copy(), landmarks=POINTS).image
    assert image.shape == PHOTO.shape[:2]
    assert changed(image, PHOTO[..., 1]).max() > 100


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_restore_returns_a_photo_without_faces_as_it_is(dtype: type) -> None:
    photo = PHOTO.astype(dtype)
    result = restorer(Negative()).restore(photo, detector=lambda _: [])
    np.testing.assert_array_equal(result.image, photo)
    assert result.image is not photo
    assert result.image.dtype == dtype
    assert result.faces == []


def test_restore_blends_by_weight() -> None:
    photo = np.full((200, 200, 3), 200, np.uint8)
    points = POINTS[:1] + [40, 40]
    levels = [restorer(Constant(100)).restore(photo, landmarks=points, weight=w).image.min() for w in (0, 0.25, 1)]
    assert levels == [200, 175, 100]


def test_restore_takes_the_largest_face_only() -> None:
    faces = restorer(Negative()).restore(PHOTO, landmarks=POINTS, only_largest=True).faces
    assert [face.skipped for face in faces] == [None, "not the largest", "not the largest"]


def test_restore_leaves_small_faces() -> None:
    result = restorer(Negative()).restore(PHOTO, landmarks=POINTS, min_face=1000)
    np.testing.assert_array_equal(result.image, PHOTO)
    assert all("smaller than 1000" in face.skipped for face in result.faces)


def test_restore_with_sparnet_takes_faces_of_its_input_only() -> None:
    photo, points = group_photo(((40, 10, 96), (180, 30, 80)))
    tiny = points[:1] / 8 + [150, 130]
    result = restorer(tiny_sparnet(), SPARNET).restore(photo, landmarks=np.concatenate([points, tiny]))
    reasons = [face.skipped for face in result.faces]
    assert reasons[2] is None
    assert all("larger than the network's input" in reason for reason in reasons[:2])
    assert result.faces[2].crop.shape == (16, 16, 3)
    assert result.faces[2].restored.shape == (128, 128, 3)


def test_restore_with_sparnet_shrinks_by_force() -> None:
    result = restorer(nn.Identity(), SPARNET).restore(PHOTO, landmarks=POINTS, force=True)
    assert [face.skipped for face in result.faces] == [None] * 3
    difference = changed(result.image, PHOTO)
    assert difference[far_from_faces(PHOTO.shape[:2], SPARNET)].max() == 0
    assert difference.max() > 0


class Counting(Negative):
    """Writes the sizes of its batches down."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        return super().forward(images)


def test_restore_photos_keeps_few_large_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facesr_plugin.pipeline.photo._WAITING_SAMPLES", 2 * PHOTO.size)
    photos = [(PHOTO, [Face(POINTS[0])]) for _ in range(5)]
    network = Counting()
    assert len(list(restore_photos(restorer(network), photos, PhotoOptions()))) == 5
    assert network.sizes == [2, 2, 1]


def test_restore_photos_shares_batches_and_gives_the_same_results() -> None:
    photos = [(PHOTO, [Face(points) for points in POINTS]) for _ in range(3)]
    network = Counting()
    results = list(restore_photos(restorer(network), photos, PhotoOptions(batch=9)))
    assert network.sizes == [9]
    alone = restorer(Negative()).restore(PHOTO, landmarks=POINTS).image
    assert all(np.array_equal(result.image, alone) for result in results)


def test_paste_face_touches_nothing_of_a_face_beside_the_photo() -> None:
    photo = PHOTO.copy()
    paste_face(photo, np.zeros((64, 64, 3), np.uint8), np.array([[1.0, 0, 900], [0, 1.0, 0]]))
    np.testing.assert_array_equal(photo, PHOTO)


def test_paste_face_takes_a_mask_of_the_photo() -> None:
    photo, mask = PHOTO.copy(), np.zeros(PHOTO.shape[:2], np.float32)
    mask[50:60, 40:70] = 1
    paste_face(photo, np.full((128, 128, 3), 7, np.uint8), alignment(POINTS[0], HD), mask=mask)
    assert (photo[mask == 1] == 7).all()
    np.testing.assert_array_equal(photo[mask == 0], PHOTO[mask == 0])


def test_paste_face_makes_nothing_darker() -> None:
    """Truncated sums would lie half a level below the mean of both pictures."""
    photo, face = np.full((180, 340, 3), 90, np.uint8), np.full((128, 128, 3), 141, np.uint8)
    mask = np.full(photo.shape[:2], 0.5, np.float32)
    mask += np.random.default_rng(0).uniform(-0.2, 0.2, mask.shape).astype(np.float32)
    matrix = alignment(POINTS[0], HD)
    exact = photo[..., 0] + 51 * mask
    paste_face(photo, face, matrix, mask=mask)
    error = (photo[..., 0] - exact)[photo[..., 0] != 90]
    assert np.abs(error).max() < 0.52
    assert abs(error.mean()) < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upscale": 0}, "upscale must be an integer of at least 1, got 0"),
        ({"upscale": 1.5}, "upscale must be an integer of at least 1, got 1.5"),
        ({"weight": 1.1}, "weight must be from 0 to 1, got 1.1"),
        ({"min_face": -1}, "min_face must not be negative, got -1"),
    ],
)
def test_restore_refuses_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        restorer(Negative()).restore(PHOTO, landmarks=POINTS, **options)


@pytest.mark.parametrize(
    ("photo", "error"),
    [(PHOTO[..., :2], ValueError), (PHOTO / 255, TypeError), (PHOTO[:0], ValueError), ("photo.png", TypeError)],
)
def test_restore_refuses_what_is_no_photo(photo: object, error: type) -> None:
    with pytest.raises(error, match="image must"):
        restorer(Negative()).restore(photo, landmarks=POINTS)


def test_face_refuses_other_points() -> None:
    with pytest.raises(ValueError, match="landmarks must be 5 finite points"):
        Face(np.zeros((68, 2)))
