import numpy as np
import pytest
import torch
from torch import nn

from facesr_plugin.utils.visualize import (
    Cell,
    attention_blocks,
    attention_figure,
    capture_attention,
    choose_blocks,
    draw_points,
    heatmap_figure,
    jet,
    steps_figure,
)
from helpers.tiny import tiny_sparnet

SR = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
MAPS = {"encoder.1": np.linspace(0.25, 0.75, 64).reshape(1, 8, 8)}


def test_capture_attention_collects_the_maps_in_network_order() -> None:
    network = tiny_sparnet()
    with capture_attention(network) as maps, torch.no_grad():
        network(torch.zeros(2, 3, 64, 64))
    assert list(maps) == attention_blocks(network)
    assert maps["encoder.1"].shape == (2, 1, 32, 32)
    assert all(0 <= values.min() <= values.max() <= 1 for values in maps.values())


def test_capture_attention_leaves_no_hook_behind() -> None:
    network = tiny_sparnet()
    with pytest.raises(KeyError), capture_attention(network):
        raise KeyError
    assert not any(module._forward_hooks for module in network.modules())


def test_choose_blocks_thins_the_body() -> None:
    network = nn.Module()
    for name, count in (("encoder", 2), ("body", 10), ("decoder", 2)):
        setattr(network, name, nn.ModuleList(nn.ModuleDict({"attention": nn.Identity()}) for _ in range(count)))
    assert choose_blocks(network) == [
        "encoder.0",
        "encoder.1",
        "body.0",
        "body.4",
        "body.9",
        "decoder.0",
        "decoder.1",
    ]
    assert choose_blocks(network, ["decoder.0", "body.3"]) == ["body.3", "decoder.0"]
    with pytest.raises(ValueError, match=r"blocks must be some of encoder\.0, .*, got body\.99"):
        choose_blocks(network, ["body.99"])


def test_choose_blocks_refuses_a_network_without_attention() -> None:
    with pytest.raises(ValueError, match="network must have attention branches, got none"):
        choose_blocks(nn.Identity())


def test_jet_goes_from_blue_to_red() -> None:
    blue, green, red = jet(np.array([[0.0, 0.5, 1.0]]))[0].astype(int)
    assert blue[2] > 100 > blue[0]
    assert green[1] > 200
    assert red[0] > 100 > red[2]


def test_attention_figure_shows_the_map_on_its_own_grid() -> None:
    figure = attention_figure(SR, MAPS, before=[Cell("input", SR)])
    colours = jet((MAPS["encoder.1"][0] - 0.25) / 0.5)
    wanted = np.repeat(np.repeat(colours, 8, 0), 8, 1)
    windows = np.lib.stride_tricks.sliding_window_view(figure, (64, 64, 3))[:, :, 0]
    assert (windows == wanted).all((-1, -2, -3)).sum() == 1
    assert (windows == SR).all((-1, -2, -3)).sum() == 2


def test_attention_figure_with_a_fixed_scale_is_paler() -> None:
    spans = [np.ptp(attention_figure(SR, MAPS, fixed_scale=fixed).astype(int)[:, 8:72], 0).sum() for fixed in (0, 1)]
    assert spans[0] > spans[1]


def test_attention_figure_draws_a_flat_map() -> None:
    figure = attention_figure(SR, {"a": np.full((3, 8, 8), 0.5)})
    assert figure.dtype == np.uint8


@pytest.mark.parametrize(("maps", "resample", "message"), [({}, "nearest", "maps must"), (MAPS, "area", "resample")])
def test_attention_figure_refuses(maps: dict, resample: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention_figure(SR, maps, resample=resample)


def test_draw_points_enlarges_and_marks_each_place() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    points = np.full((5, 2), np.nan)
    points[0] = 10.0, 50.0
    drawn = draw_points(black, points)
    assert drawn.shape == (256, 256, 3)
    rows, columns = np.nonzero(drawn.any(2))
    assert rows.mean() == pytest.approx(50.5 * 4 - 0.5, abs=0.5)
    assert columns.mean() == pytest.approx(10.5 * 4 - 0.5, abs=0.5)


@pytest.mark.parametrize(("num_points", "parts"), [(5, 1), (68, 5), (98, 6)])
def test_draw_points_gives_each_part_its_colour(num_points: int, parts: int) -> None:
    points = np.stack([np.arange(num_points) % 17 * 15.0, np.arange(num_points) // 17 * 40.0], 1)
    drawn = draw_points(np.zeros((256, 256, 3), np.uint8), points)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == parts + 1  # and black


def test_draw_points_keeps_a_large_face() -> None:
    face = np.random.default_rng(1).integers(0, 256, (300, 280, 3), np.uint8)
    assert np.array_equal(draw_points(face, np.zeros((0, 2))), face)


def test_heatmap_figure_shows_the_parts_between_the_given_pictures() -> None:
    heatmaps, points = np.zeros((68, 16, 16)), np.zeros((68, 2))
    heatmaps[40, 4:6, 4:6] = 1
    wide = heatmap_figure(SR, heatmaps, points, before=[Cell("bicubic", SR)], after=[Cell("ground truth", SR)])
    plain, single = heatmap_figure(SR, heatmaps, points), heatmap_figure(SR, heatmaps[:5], points[:5])
    cell = (wide.shape[1] - plain.shape[1]) // 2
    assert cell > 256
    assert single.shape[1] == plain.shape[1] - 4 * cell


def test_heatmap_figure_refuses_other_points() -> None:
    with pytest.raises(ValueError, match="heatmaps and points must be of as many landmarks, got 68 and 5"):
        heatmap_figure(SR, np.zeros((68, 8, 8)), np.zeros((5, 2)))


def test_steps_figure_has_one_colour_scale_for_all_steps() -> None:
    face = np.full((256, 256, 3), 128, np.uint8)
    cells = [Cell("step 1", face), Cell("step 2", face)]
    maps = [np.full((3, 8, 8), value, np.float32) for value in (0.3, 0.6)]
    figure = steps_figure(cells, maps, [np.full((3, 2), 20.0)] * 2, before=[Cell("input", face)])
    windows = figure.reshape(-1, 3)
    for value in (0.5, 1.0):  # of the highest peak
        blended = (0.5 * 128 + 0.5 * jet(np.array([[value]]))[0, 0].astype(np.float32)).astype(np.uint8)
        assert (windows == blended).all(1).sum() >= 256 * 256


def test_steps_figure_marks_the_points_of_each_step() -> None:
    faces = [np.full((256, 256, 3), level, np.uint8) for level in (100, 150)]
    cells = [Cell(str(number), face) for number, face in enumerate(faces)]
    points = [np.array([[30.0, 40.0]]), np.array([[200.0, 90.0]])]
    figure = steps_figure(cells, [np.ones((1, 4, 4), np.float32)] * 2, points)
    for face, found in zip(faces, points, strict=True):
        wanted = draw_points(face, found)
        views = np.lib.stride_tricks.sliding_window_view(figure, wanted.shape)[:, :, 0]
        corner = (views[:, :, 0, 0] == wanted[0, 0]).all(-1) & (views[:, :, -1, -1] == wanted[-1, -1]).all(-1)
        assert any(np.array_equal(views[y, x], wanted) for y, x in zip(*np.nonzero(corner), strict=True))


def test_steps_figure_wants_all_of_every_step() -> None:
    with pytest.raises(ValueError, match="must be of as many steps, at least one, got 1, 0 and 1"):
        steps_figure([Cell("", SR)], [], [np.zeros((1, 2))])
