"""SPARNet's network: layout, errors, and mistakes that the reference cases hardly see."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facesr_plugin.archs.arch_util import (
    ACTIVATIONS,
    NORMS,
    ConvLayer,
    LayerStyle,
    ScaledConv2d,
    SpectralConv2d,
)
from facesr_plugin.archs.sparnet_arch import AttentionHourglass, FaceAttentionUnit, SPARNet
from facesr_plugin.registry import ARCH_REGISTRY

TINY = {"min_ch": 8, "max_ch": 16, "in_size": 32, "out_size": 32, "res_depth": 0, "bottleneck_size": 16}
HD = {"max_ch": 512, "in_size": 512, "out_size": 512, "min_feat_size": 32, "norm_type": "in"}


def tiny(**args):
    torch.manual_seed(0)
    return SPARNet(**{**TINY, **args})


def image(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def count(net):
    return sum(value.numel() for value in net.parameters())


# Layout


@pytest.mark.parametrize(
    ("args", "parameters", "entries", "convolutions"),
    [
        ({}, 10_518_867, 1154, 195),
        ({"att_name": "spar3d"}, 11_562_083, 1154, 195),
        ({"res_depth": 1, "att_name": "spar3d"}, 5_242_211, 605, 105),
        ({"res_depth": 1}, 4_858_506, 605, 105),
        ({"relu_type": "prelu"}, 10_531_411, 1325, 195),
        (HD, 85_793_412, 538, 177),
        ({**HD, "att_name": "spar3d"}, 90_093_793, 538, 177),
        ({**HD, "spectral_norm": True}, 85_793_412, 892, 177),
    ],
)
def test_sparnet_has_the_published_counts(args, parameters, entries, convolutions):
    with torch.device("meta"):
        net = SPARNet(**args)
    assert count(net) == parameters
    assert len(net.state_dict()) == entries
    assert sum(isinstance(module, nn.Conv2d) for module in net.modules()) == convolutions


def test_sparnet_blocks_have_the_published_counts():
    with torch.device("meta"):
        net = SPARNet()
    assert [count(block) for block in net.encoder] == [896, 555_585, 739_905, 776_513]
    assert [count(block) for block in net.body] == [628_929] * 10
    assert [count(block) for block in net.decoder] == [887_489, 666_369, 601_953]
    assert count(net.tail) == 867


def test_sparnet_limits_widths_only_where_they_are_used():
    with torch.device("meta"):
        net = SPARNet(**HD)
    assert [block.conv1.conv.out_channels for block in net.encoder[1:]] == [204, 408, 512, 512]
    assert [block.conv1.conv.out_channels for block in net.decoder] == [512, 408, 204, 102]


def test_sparnet_with_other_output_size_has_more_doublings():
    net = SPARNet(min_ch=8, max_ch=64, in_size=32, out_size=128, res_depth=3, bottleneck_size=16)
    assert (len(net.encoder), len(net.body), len(net.decoder)) == (2, 5, 3)
    assert net(image(1, 3, 16, 12)).shape == (1, 3, 64, 48)


def test_sparnet_attention_depths_may_reach_zero():
    with torch.device("meta"):
        net = SPARNet(bottleneck_size=16)
    blocks = [*net.encoder[1:], *net.body[:1], *net.decoder]
    assert [len(block.attention.down) if block.attention else 0 for block in blocks] == [2, 1, 0, 0, 1, 2, 3]


def test_sparnet_without_halvings_keeps_the_size():
    net = SPARNet(min_ch=4, max_ch=8, in_size=16, out_size=16, res_depth=0, bottleneck_size=32)
    assert net(image(1, 3, 5, 6)).shape == (1, 3, 5, 6)


def test_sparnet_is_registered():
    assert ARCH_REGISTRY.get("SPARNet") is SPARNet


# Options


@pytest.mark.parametrize("norm_type", sorted(NORMS))
@pytest.mark.parametrize("att_name", ["spar", "spar3d"])
def test_sparnet_runs_and_trains_with_every_norm(norm_type, att_name):
    net = tiny(norm_type=norm_type, att_name=att_name, min_ch=32, max_ch=32)
    out = net(image(2, 3, 24, 20))
    out.abs().mean().backward()
    assert out.shape == (2, 3, 24, 20)
    assert all(value.grad is not None and value.grad.isfinite().all() for value in net.parameters())


@pytest.mark.parametrize("relu_type", sorted(ACTIVATIONS))
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_sparnet_runs_and_trains_with_every_activation(relu_type, spectral_norm):
    net = tiny(relu_type=relu_type, norm_type="in", spectral_norm=spectral_norm)
    net(image(1, 3, 16, 16)).abs().mean().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in net.parameters())


def test_sparnet_names_are_case_insensitive():
    net = tiny(relu_type="LeakyReLU", norm_type="BN", att_name="SPAR3D")
    assert net.state_dict().keys() == tiny().state_dict().keys()
    assert net.body[0].attention.out.conv.out_channels == net.body[0].conv2.conv.out_channels


@pytest.mark.parametrize(("size", "expected"), [(33, 40), (63, 64), (100, 104)])
def test_sparnet_rounds_sides_up(size, expected):
    net = SPARNet(min_ch=2, max_ch=4, res_depth=0).eval()
    with torch.no_grad():
        assert net(image(1, 3, size, 40)).shape == (1, 3, expected, 40)


@pytest.mark.parametrize("norm_type", ["bn", "in", "gn"])
def test_conv_layer_has_a_bias_only_without_a_shifting_norm(norm_type):
    assert ConvLayer(3, 32, LayerStyle(norm_type)).conv.bias is None
    assert ConvLayer(3, 32, LayerStyle("pixel")).conv.bias is not None
    assert ConvLayer(3, 32, LayerStyle("none")).conv.bias is not None


def test_pixel_norm_gives_unit_vectors_over_channels():
    norms = NORMS["pixel"](5)(image(2, 5, 3, 4)).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(2, 3, 4))


def test_sparnet_initialises_as_published():
    torch.manual_seed(0)
    net = SPARNet(res_depth=0, spectral_norm=True)
    convs = [module for module in net.modules() if isinstance(module, SpectralConv2d)]
    weights = torch.cat([conv.weight_orig.flatten() for conv in convs])
    scales = torch.cat([module.weight for module in net.modules() if isinstance(module, nn.BatchNorm2d)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert scales.mean().item() == pytest.approx(1, abs=0.005)
    assert scales.std().item() == pytest.approx(0.02, rel=0.1)
    assert all(conv.bias is None or not conv.bias.any() for conv in convs)


# Errors


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ({"norm_type": "layer"}, ValueError, "norm_type must be one of bn, in, gn, pixel, none, got 'layer'"),
        ({"relu_type": "'relu'"}, ValueError, "relu_type must be one of leakyrelu, relu, selu, prelu, none"),
        ({"att_name": "spar2d"}, ValueError, "att_name must be one of spar, spar3d, got 'spar2d'"),
        ({"norm_type": None}, ValueError, "norm_type must be one of .*, got None"),
        ({"norm_type": "gn"}, ValueError, "multiples of 32, got 8"),
        ({"max_ch": 4}, ValueError, r"min_ch must be at most max_ch \(4\), got 8"),
        ({"min_feat_size": 64}, ValueError, r"min_feat_size must be at most in_size \(32\), got 64"),
        ({"res_depth": -1}, ValueError, "res_depth must be at least 0, got -1"),
        ({"in_size": 32.0}, TypeError, "in_size must be an integer, got 32.0"),
        ({"in_size": True}, TypeError, "in_size must be an integer, got True"),
        ({"spectral_norm": "no"}, TypeError, "spectral_norm must be true or false, got 'no'"),
        ({"bottleneck_size": 65}, ValueError, "bottleneck_size must be at most 64 .*got 65: .*negative depth"),
        ({"in_size": 512, "min_feat_size": 8}, ValueError, "res_depth must be at least 3 for 6 halvings, got 0"),
        ({"num_feat": 8}, TypeError, "num_feat"),
    ],
)
def test_sparnet_rejects_bad_options(args, error, text):
    with pytest.raises(error, match=text):
        tiny(**args)


@pytest.mark.parametrize(("size", "largest"), [(128, 16), (64, 32), (32, 64)])
def test_sparnet_refuses_negative_attention_depths(size, largest):
    with pytest.raises(ValueError, match=f"bottleneck_size must be at most {largest} "):
        SPARNet(min_ch=2, max_ch=4, in_size=size, out_size=size, bottleneck_size=largest + 1)
    SPARNet(min_ch=2, max_ch=4, in_size=size, out_size=size, bottleneck_size=largest)


def test_sparnet_takes_keywords_only():
    with pytest.raises(TypeError):
        SPARNet(32)


def test_sparnet_asks_to_upsample_a_raw_face_first():
    net = SPARNet(min_ch=2, max_ch=4, res_depth=0)
    with pytest.raises(ValueError, match=r"at least 33x33, got 16x16. Upsample .* first \(bicubic, 128x128\)"):
        net(image(1, 3, 16, 16))


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 64, 64, 3)])
def test_sparnet_rejects_other_shapes(shape):
    with pytest.raises(ValueError, match=r"lq must have shape \(N, 3, H, W\), got"):
        tiny()(torch.zeros(shape))


@pytest.mark.parametrize("args", [{}, {"bottleneck_size": 8}, {"bottleneck_size": 64}])
def test_sparnet_smallest_input_is_the_least_that_works(args):
    net = tiny(**args).eval()
    with torch.no_grad():
        assert net(image(1, 3, net.min_size, net.min_size)).isfinite().all()
    with pytest.raises(ValueError, match="Upsample"):
        net(image(1, 3, net.min_size - 1, 64))


# State


def test_sparnet_in_eval_mode_treats_samples_alone():
    net = tiny(att_name="spar3d").eval()
    batch = image(3, 3, 24, 24)
    with torch.no_grad():
        alone = torch.cat([net(sample[None]) for sample in batch])
        torch.testing.assert_close(net(batch), alone, atol=1e-6, rtol=1e-5)


def test_sparnet_keeps_no_state_between_calls():
    net = tiny(norm_type="in", spectral_norm=True).eval()
    first = net(image(1, 3, 24, 24))
    net(image(1, 3, 40, 24, seed=2))
    torch.testing.assert_close(net(image(1, 3, 24, 24)), first, atol=0, rtol=0)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])  # noqa: S301
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_sparnet_can_be_copied_after_a_training_step(copier, spectral_norm):
    net = tiny(norm_type="in", spectral_norm=spectral_norm)
    net(image(2, 3, 24, 24)).abs().mean().backward()
    torch.optim.Adam(net.parameters()).step()
    twin = copier(net).eval()
    net.eval()
    torch.testing.assert_close(twin(image(1, 3, 24, 24)), net(image(1, 3, 24, 24)), atol=0, rtol=0)


def test_sparnet_leaves_its_input_as_it_was():
    net, lq = tiny(norm_type="none", relu_type="relu"), image(1, 3, 24, 24)
    before = lq.clone()
    net(lq)
    torch.testing.assert_close(lq, before, atol=0, rtol=0)


def test_attention_map_is_what_a_hook_on_attention_sees():
    block, maps = FaceAttentionUnit(4, 6, style=LayerStyle(), scale="down", depth=1).eval(), []
    block.attention.register_forward_hook(lambda _module, _input, output: maps.append(output))
    feat = image(2, 4, 10, 14)
    out = block(feat)
    assert maps[0].shape == (2, 1, 5, 7)
    assert maps[0].min() > 0
    assert maps[0].max() < 1
    torch.testing.assert_close(out, block.shortcut(feat) + block.conv2(block.conv1(feat)) * maps[0])


# Blocks


def test_residual_block_without_norm_keeps_its_shortcut_unactivated():
    block = FaceAttentionUnit(4, 4, style=LayerStyle(act="relu"), scale="none", depth=0)
    nn.init.zeros_(block.conv2.conv.weight)
    nn.init.zeros_(block.conv2.conv.bias)
    feat = image(1, 4, 5, 5)
    torch.testing.assert_close(block(feat), feat, atol=0, rtol=0)


@pytest.mark.parametrize("scale", ["up", "down"])
def test_residual_block_that_resizes_has_a_convolution_in_its_shortcut(scale):
    block = FaceAttentionUnit(4, 4, style=LayerStyle(), scale=scale, depth=0)
    assert block.shortcut.conv.bias is not None
    assert block(image(1, 4, 6, 8)).shape[2:] == ((12, 16) if scale == "up" else (3, 4))


def test_residual_block_has_no_activation_after_its_second_convolution():
    block = FaceAttentionUnit(4, 4, style=LayerStyle("bn", "relu"), scale="none", depth=0)
    assert isinstance(block.conv2.act, nn.Identity)
    assert isinstance(block.conv1.act, nn.ReLU)


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (13, 16)])
def test_attention_hourglass_brings_odd_sizes_back_by_nearest_interpolation(size):
    block = AttentionHourglass(3, 1, LayerStyle(act="relu"), depth=1)
    feat = image(1, 3, *size)
    padded = F.pad(feat, (1, 1, 1, 1), mode="reflect")
    inner = block.up[0](block.bottleneck(block.down[0](padded)))
    expected = block.out(block.lateral[0](padded) + F.interpolate(inner, size=size, mode="nearest"))
    torch.testing.assert_close(block(feat), expected.sigmoid())


def test_scaled_conv_doubles_by_nearest_before_the_padding():
    conv = ScaledConv2d(2, 3, scale="up")
    feat = image(1, 2, 5, 7)
    enlarged = F.pad(feat.repeat_interleave(2, -1).repeat_interleave(2, -2), (1, 1, 1, 1), mode="reflect")
    torch.testing.assert_close(conv(feat), F.conv2d(enlarged, conv.weight, conv.bias))


def test_scaled_conv_halves_sizes_upwards_and_pads_by_reflection():
    conv = ScaledConv2d(1, 1, scale="down", bias=False)
    feat = image(1, 1, 7, 9)
    assert conv(feat).shape == (1, 1, 4, 5)
    reflected = F.pad(feat, (1, 1, 1, 1), mode="reflect")
    torch.testing.assert_close(conv(feat)[0, 0, 0, 0], (conv.weight[0, 0] * reflected[0, 0, :3, :3]).sum())


def test_scaled_conv_rejects_unknown_scales():
    with pytest.raises(ValueError, match="scale must be one of none, up, down, got 'half'"):
        ScaledConv2d(1, 1, scale="half")


# Spectral norm


def spectral_conv():
    torch.manual_seed(0)
    return SpectralConv2d(3, 5)


def test_spectral_norm_in_eval_mode_uses_the_stored_vectors():
    conv = spectral_conv().eval()
    before = copy.deepcopy(conv.state_dict())
    sigma = before["weight_u"] @ before["weight_orig"].flatten(1) @ before["weight_v"]
    exact = torch.linalg.matrix_norm(before["weight_orig"].flatten(1), 2)
    assert abs(sigma - exact) > 0.1 * exact  # not converged: an exact norm would be seen
    torch.testing.assert_close(conv.normalised_weight(), before["weight_orig"] / sigma)
    torch.testing.assert_close(conv.state_dict(), before, atol=0, rtol=0)


def test_spectral_norm_in_train_mode_refines_v_before_u():
    conv, twin = spectral_conv(), nn.utils.spectral_norm(nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect"))
    twin.load_state_dict(conv.state_dict())
    feat = image(2, 3, 6, 7)
    for _ in range(2):
        torch.testing.assert_close(conv(feat), twin(feat))
    for name in ("weight_u", "weight_v"):
        torch.testing.assert_close(getattr(conv, name), getattr(twin, name))


def test_spectral_norm_has_the_gradient_of_torch():
    conv, twin = spectral_conv(), nn.utils.spectral_norm(nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect"))
    twin.load_state_dict(conv.state_dict())
    for module in (conv, twin):
        (module(image(2, 3, 6, 7)) + module(image(2, 3, 6, 7, seed=2))).square().sum().backward()
    torch.testing.assert_close(conv.weight_orig.grad, twin.weight_orig.grad)


def test_spectral_norm_stays_in_float32_under_autocast():
    conv = spectral_conv()
    expected = copy.deepcopy(conv).normalised_weight()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(conv.normalised_weight(), expected)


@pytest.mark.parametrize("name", ["encoder.0", "tail", "body.0.attention.out", "decoder.0.shortcut"])
def test_spectral_norm_is_on_every_convolution(name):
    net = tiny(norm_type="in", spectral_norm=True)
    assert isinstance(net.get_submodule(name).conv, SpectralConv2d)
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert all(isinstance(module, SpectralConv2d) for module in convs)
