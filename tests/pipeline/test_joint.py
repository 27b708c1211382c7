"""Faces and landmarks from one network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr_plugin.archs.jasrnet_arch import JASRNet
from facesr_plugin.cards import get_card
from facesr_plugin.data.annotations import read_landmarks
from facesr_plugin.ops.heatmap_targets import decode_centroid
from facesr_plugin.pipeline.joint import Found, Restored, find_landmarks, restore_with_landmarks, write_found
from facesr_plugin.pipeline.restorer import Restorer
from facesr_plugin.utils.imageio import read_image
from facesr_plugin.utils.visualize import draw_points
from helpers.faces import make_image
from helpers.tiny import tiny_sparnet

CARD = get_card("jasrnet")


def make_restorer(**args: int) -> Restorer:
    torch.manual_seed(0)
    network = JASRNet(num_feat=4, num_block=1, num_landmarks=5, init_type="torch", **args)
    return Restorer(network, CARD.sized(64), device="cpu")


def test_images_are_those_of_the_restorer_and_points_those_of_the_last_stage() -> None:
    restorer, faces = make_restorer(), [make_image(seed, side) for seed, side in ((0, 8), (1, 30), (2, 8), (3, 90))]
    found = restore_with_landmarks(restorer, faces, batch=2)
    for face, restored, image in zip(faces, found, restorer(faces), strict=True):
        assert np.array_equal(restored.image, image)
        lq = torch.from_numpy(restorer.fit(face)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            peaks = decode_centroid(restorer.network(lq, heads="landmarks")[-1][:, :-1])
        assert np.allclose(restored.landmarks.points, peaks.points[0], atol=1e-3)
        assert np.allclose(restored.landmarks.score, peaks.score[0], atol=1e-5)


def test_landmarks_alone_are_in_pixels_of_the_face_given_and_restore_nothing() -> None:
    restorer, faces = make_restorer(), [make_image(0, 8), make_image(1, 30, 45)]
    both = restore_with_landmarks(restorer, faces)
    calls: list[int] = []
    restorer.network.sr_tail.register_forward_hook(lambda *_: calls.append(1))
    found = find_landmarks(restorer, faces)
    assert not calls
    assert both[1].image.shape == (64, 96, 3)
    assert np.allclose(found[0].points, (both[0].landmarks.points + 0.5) / 8 - 0.5, atol=1e-3)
    assert np.allclose(found[1].points, (both[1].landmarks.points + 0.5) * 30 / 64 - 0.5, atol=1e-3)


def test_points_follow_a_result_that_is_smaller_than_the_input() -> None:
    full, half = (restore_with_landmarks(make_restorer(upscale=upscale), [make_image(0, 8)])[0] for upscale in (8, 4))
    assert half.image.shape == (32, 32, 3)
    assert half.landmarks.points.min() >= -0.5
    assert half.landmarks.points.max() <= 31.5
    assert full.landmarks.points.max() > 31.5


@pytest.mark.parametrize("function", [restore_with_landmarks, find_landmarks])
def test_a_network_without_landmark_head_is_refused(function) -> None:
    restorer = Restorer(tiny_sparnet(), replace(get_card("sparnet"), lq_size=4), device="cpu")
    with pytest.raises(ValueError, match="landmarks must be of a network that finds them beside .* got one of sparnet"):
        function(restorer, [make_image(0, 8)])


def test_write_found_draws_the_points_and_writes_their_file(tmp_path: Path) -> None:
    points = np.array([[3, 4], [30.25, 8], [33, 5]], np.float32)
    restored = Restored(make_image(0, 32), Found(points, np.float32([0.5, 0.25, 0.75])))
    write_found(tmp_path / "a.png", "face.png", restored)
    read = read_landmarks(tmp_path / "a.json")
    assert read.names == ("face.png",)
    assert np.array_equal(read.points[0], points)
    assert read.visible.tolist() == [[True, True, False]]
    assert (read.score.tolist(), read.image_size.tolist()) == ([0.5], [[32, 32]])
    assert np.array_equal(read_image(tmp_path / "a.png"), draw_points(restored.image, points))
    with pytest.raises(
        ValueError, match="existing result of 32 x 32 is of another network. Restore it with --overwrite"
    ):
        write_found(tmp_path / "b.png", "face.png", Restored(restored.image))
