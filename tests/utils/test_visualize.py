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
    jet,
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
