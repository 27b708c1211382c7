"""DIC's generator: counts, the formulas written out, what is computed and kept, gradients, errors."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from facesr_plugin.archs.dic_arch import DICNet
from facesr_plugin.archs.hourglass_arch import FeedbackHourglass
from helpers.dic_literal import count_saved, literal_twin
from helpers.tiny_dic import tiny_dic


def tiny(**args):
    """A tiny generator whose hourglass is wide enough to see its image."""
    return tiny_dic(**{"hourglass_feat": 16, **args})


def image(*shape, seed=1, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) - 0.4


def count(module):
    return sum(value.numel() for value in module.parameters())


def loss_of(sr, heatmaps):
    """A scalar that every step's results change."""
    return sum(x.abs().mean() for x in sr) + sum(x.square().mean() for x in heatmaps)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, 21_803_849),
        ({"num_landmarks": 194}, 21_836_231),
        ({"num_landmarks": 5}, 21_787_658),
        ({"num_groups": 3}, 17_669_297),
    ],
)
def test_generator_has_the_published_counts(args, expected):
    with torch.device("meta"):
        assert count(DICNet(**args)) == expected


def test_parts_of_the_generator_have_the_published_counts():
    with torch.device("meta"):
        net = DICNet()
    assert {name: count(part) for name, part in net.named_children()} == {
        "head": 5_377,
        "first_block": 4_090_776,
        "block": 5_559_720,
        "tail_up": 147_505,
        "tail": 1_299,
        "hourglass": 11_999_172,
    }
    assert count(net.block.fusion) == 1_466_640


@pytest.mark.parametrize("num_landmarks", [5, 68, 194])
def test_generator_gives_the_image_and_the_heatmaps_of_every_step(num_landmarks):
    output = tiny(num_landmarks=num_landmarks)(image(2, 3, 8, 16), every_step=True)
    assert [x.shape for x in output.sr] == [(2, 3, 64, 128)] * 3
    assert [x.shape for x in output.heatmaps] == [(2, num_landmarks, 16, 32)] * 3


def test_generator_gives_the_last_image_unless_asked_for_more():
    net, lq = tiny(), image(1, 3, 8, 8)
    assert torch.equal(net(lq), net(lq, every_step=True).sr[-1])


@pytest.mark.parametrize("detach", [False, True])
def test_generator_does_what_the_specification_says(detach):
    net, lq = tiny(num_groups=3, detach_attention=detach), image(2, 3, 8, 16)
    with torch.no_grad():
        found, expected = (sum(results, []) for results in (net(lq, every_step=True), literal_twin(net)(lq)))
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 1e-6 * other.abs().max()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("detach", [False, True])
def test_gradients_are_those_of_the_specification(detach, checkpointing):
    net = tiny(detach_attention=detach, checkpointing=checkpointing).double()
    lq = image(1, 3, 8, 8, dtype=torch.float64)
    grads = [
        torch.autograd.grad(loss_of(*results), list(net.parameters()))
        for results in (net(lq, every_step=True), literal_twin(net)(lq))
    ]
    for found, expected in zip(*grads, strict=True):
        assert (found - expected).norm() <= 1e-9 * expected.norm() + 1e-15


@pytest.mark.parametrize("detach", [False, True])
def test_detached_attention_keeps_the_loss_of_images_from_the_heatmaps(detach):
    net = tiny(detach_attention=detach)
    net(image(1, 3, 8, 8)).square().mean().backward()
    assert all((value.grad is None) == detach for value in net.hourglass.heatmaps.parameters())


@pytest.mark.parametrize(("steps", "every_step", "calls"), [(3, False, 2), (3, True, 3), (1, False, 0), (1, True, 1)])
def test_generator_skips_heatmaps_that_nobody_asked_for(steps, every_step, calls):
    net, seen = tiny(num_steps=steps), []
    net.hourglass.register_forward_hook(lambda *_args: seen.append(1))
    net(image(1, 3, 8, 8), every_step)
    assert len(seen) == calls


def test_generator_computes_once_what_later_steps_share():
    net, seen = tiny(num_steps=4), []
    for layer in (net.head, net.first_block):
        layer.register_forward_hook(lambda *_args: seen.append(1))
    prepare = net.block.prepare
    net.block.prepare = lambda x: seen.append(1) or prepare(x)
    net(image(1, 3, 8, 8))
    assert len(seen) == 3


def test_weights_do_not_depend_on_the_number_of_steps():
    few, many = tiny(num_steps=2), tiny(num_steps=4, seed=1)
    many.load_state_dict(few.state_dict())
    found = [net(image(1, 3, 8, 8), every_step=True).sr for net in (few, many)]
    for one, other in zip(found[0], found[1], strict=False):
        assert torch.equal(one, other)


def _saved(checkpointing=False, literal=False):
    """Bytes kept for the backward of one 16x16 image by the published generator; nothing is computed."""
    with FakeTensorMode():
        net = DICNet(checkpointing=checkpointing)
        run = literal_twin(net) if literal else net
        with count_saved(net.parameters()) as saved:
            kept = run(torch.rand(1, 3, 16, 16), every_step=True)
        assert kept
    return saved.total


def test_training_keeps_less_than_the_literal_form():
    literal = _saved(literal=True)
    assert literal == pytest.approx(2.1e9, rel=0.01)
    assert _saved() <= 0.65 * literal
    assert _saved(checkpointing=True) <= 0.15 * literal


def test_checkpointing_changes_no_result():
    one, other = tiny(), tiny(checkpointing=True)
    lq = image(1, 3, 8, 8)
    results = [net(lq, every_step=True) for net in (one, other)]
    for found in results:
        loss_of(*found).backward()
    assert all(torch.equal(*pair) for pair in zip(results[0].sr, results[1].sr, strict=True))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_generator_keeps_nothing_between_calls():
    net, lq = tiny(), image(1, 3, 8, 8)
    first = net(lq)
    net(image(2, 3, 8, 16, seed=2), every_step=True)
    assert torch.equal(net(lq), first)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_step_trains_inside_distributed_data_parallel(checkpointing):
    net = tiny(checkpointing=checkpointing)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        loss_of(*nn.parallel.DistributedDataParallel(net)(image(1, 3, 8, 8), every_step=True)).backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(value.grad is not None for value in net.parameters())


def test_generator_mixes_groups_in_full_precision_under_autocast():
    net, seen = tiny(), []
    net.block.fusion.register_forward_hook(lambda _module, args, _result: seen.extend(args))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        sr = net(image(1, 3, 8, 8))
    assert [x.dtype for x in seen[1::2]] == [torch.float32] * 2
    assert sr.isfinite().all()


def test_published_initial_values_leave_the_hourglass_alone():
    torch.manual_seed(0)
    net = DICNet(num_feat=16, num_groups=1, num_fusion_block=1, hourglass_feat=64, init_type="kaiming")
    conv, up = net.block.fusion.blocks[0].conv1, net.block.projections.up[0].conv
    assert conv.weight.std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.02)
    assert up.weight.std().item() == pytest.approx((2 / (16 * 144)) ** 0.5, rel=0.02)
    assert not conv.bias.any()
    assert net.tail_up.act.weight.item() == pytest.approx(0.2)
    assert not net.hourglass.heatmaps.weight.any()
    assert net.hourglass.conv.bias.any()


def test_heatmaps_do_not_explode_with_the_published_initial_values():
    torch.manual_seed(0)
    net = DICNet(num_feat=8, num_groups=2, num_fusion_block=2, hourglass_feat=64, init_type="kaiming")
    with torch.no_grad():
        assert all(x.abs().max() < 10 for x in net(image(1, 3, 16, 16), every_step=True).heatmaps)


def test_generator_takes_the_weights_of_a_landmark_network():
    net, hourglass = tiny(), FeedbackHourglass(num_feat=16)
    net.hourglass.load_state_dict(hourglass.state_dict())
    assert torch.equal(net.hourglass(image(1, 3, 64, 64)).heatmaps, hourglass(image(1, 3, 64, 64)).heatmaps)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1, 1, 8, 8), r"lq must have shape \(N, 3, H, W\), got \(1, 1, 8, 8\)"),
        ((3, 8, 8), r"lq must have shape \(N, 3, H, W\), got \(3, 8, 8\)"),
        ((1, 3, 8, 12), r"lq must have sides that are multiples of 8, got \(8, 12\)"),
        ((1, 3, 0, 8), r"lq must have sides that are multiples of 8, got \(0, 8\)"),
    ],
)
def test_generator_refuses_other_images(shape, text):
    with pytest.raises(ValueError, match=text):
        tiny()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ({"num_steps": 0}, ValueError, "num_steps must be at least 1, got 0"),
        ({"num_groups": 0}, ValueError, "num_groups must be at least 1, got 0"),
        ({"num_feat": 4.0}, TypeError, "num_feat must be an integer, got 4.0"),
        ({"num_fusion_block": -1}, ValueError, "num_fusion_block must be at least 0, got -1"),
        ({"hourglass_feat": 6}, ValueError, "hourglass_feat must be a multiple of 4, got 6"),
        ({"num_landmarks": 98}, ValueError, "num_landmarks must be one of 5, 68, 194 to be merged into groups, got 98"),
        (
            {"whole_contours": True},
            ValueError,
            "whole_contours must be false unless num_landmarks is 194, got it with 68",
        ),
        ({"init_type": "normal"}, ValueError, "init_type must be one of torch, kaiming, got 'normal'"),
        ({"checkpointing": 1}, TypeError, "checkpointing must be true or false, got 1"),
        ({"detach_attention": None}, TypeError, "detach_attention must be true or false, got None"),
    ],
)
def test_generator_refuses_other_arguments(args, error, text):
    with pytest.raises(error, match=text):
        tiny(**args)
