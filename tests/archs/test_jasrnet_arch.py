"""JASRNet: counts, heads, tail factors, ranges, initial values, and that it keeps nothing between calls."""

import copy
import pickle

import pytest
import torch
from torch import nn

from facesr_plugin.archs.jasrnet_arch import COLOR_MEAN, COLOR_STD, JASRNet, JASROutput
from facesr_plugin.registry import ARCH_REGISTRY
from helpers.jasrnet_literal import literal_network

TINY = {"num_landmarks": 5, "num_feat": 4, "num_block": 2}


def tiny(**args):
    torch.manual_seed(0)
    return JASRNet(**{**TINY, "init_type": "torch", **args})


def image(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def net():
    return tiny().eval()


@pytest.mark.parametrize(
    ("args", "count"),
    [
        ({}, 19_885_778),
        ({"num_feat": 256, "num_block": 16}, 59_817_170),
        ({"num_landmarks": 19}, 19_603_391),
        ({"num_landmarks": 194}, 20_611_916),
        ({"num_landmarks": 5}, 19_522_709),
    ],
)
def test_network_has_the_published_counts(args, count):
    with torch.device("meta"):
        net = JASRNet(**args)
    assert sum(parameter.numel() for parameter in net.parameters()) == count


def test_parts_have_the_published_counts():
    with torch.device("meta"):
        net = JASRNet()
    counts = {name: sum(value.numel() for value in part.parameters()) for name, part in net.named_children()}
    assert counts == {
        "shift_in": 0,
        "shift_out": 0,
        "head": 3_584,
        "encoder1": 590_336,
        "down1": 147_584,
        "encoder2": 885_504,
        "down2": 147_584,
        "pool": 0,
        "encoder3": 1_180_672,
        "down3": 147_584,
        "encoder4": 590_336,
        "body": 9_445_376,
        "skip": 442_752,
        "sr_body": 737_920,
        "sr_up": 1_771_008,
        "sr_tail": 3_459,
        "landmark_body": 737_920,
        "stages": 3_054_159,
    }


@pytest.mark.parametrize("args", [{}, {"upscale": 3}, {"num_landmarks": 19, "num_block": 3}, {"rgb_range": 255}])
def test_network_equals_the_tables_of_the_specification(args):
    net = tiny(**args).eval()
    x = image(2, 3, 24, 40) * args.get("rgb_range", 1)
    with torch.no_grad():
        found, expected = net(x, heads="both"), literal_network(net.state_dict(), x, args.get("upscale", 8))
    torch.testing.assert_close(found.sr, expected[0], rtol=1e-5, atol=1e-5)
    for maps, wanted in zip(found.heatmaps, expected[1], strict=True):
        torch.testing.assert_close(maps, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("upscale", "size"), [(2, (4, 10)), (3, (6, 15)), (4, (8, 20)), (8, (16, 40))])
def test_tail_factor_sets_the_size_of_the_restored_face_alone(upscale, size):
    found = tiny(upscale=upscale)(image(2, 3, 16, 40), heads="both")
    assert found.sr.shape == (2, 3, *size)
    assert [maps.shape for maps in found.heatmaps] == [(2, 6, 2, 5)] * 3


def test_heads_give_the_same_alone_and_together(net):
    x = image(2, 3, 16, 24)
    with torch.no_grad():
        both = net(x, heads="both")
        assert isinstance(both, JASROutput)
        assert torch.equal(net(x), both.sr)
        assert torch.equal(net(x, heads="sr"), both.sr)
        assert all(map(torch.equal, net(x, heads="landmarks"), both.heatmaps))


def test_heads_may_be_named_in_capitals(net):
    x = image(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(net(x, heads="SR"), net(x, heads="sr"))
        assert all(map(torch.equal, net(x, heads="Landmarks"), net(x, heads="landmarks")))


@pytest.mark.parametrize(
    ("heads", "skipped"),
    [("sr", {"landmark_body", "stages"}), ("landmarks", {"sr_body", "sr_up", "sr_tail", "skip"})],
)
def test_head_that_is_not_asked_for_is_not_computed(net, heads, skipped):
    ran = set()
    for name, part in net.named_modules():
        part.register_forward_hook(lambda *_, name=name: ran.add(name.split(".")[0]))
    made = net.train()(image(1, 3, 8, 8), heads=heads)
    (made if heads == "sr" else sum(made)).sum().backward()
    assert not ran & skipped
    assert {name.split(".")[0] for name, value in net.named_parameters() if value.grad is None} == skipped


@pytest.mark.parametrize("heads", ["sr", "landmarks", "both"])
def test_idle_parts_are_those_without_gradients(heads):
    net = JASRNet(num_feat=4, num_block=1, init_type="torch")
    made = net(torch.rand(1, 3, 16, 16), heads)
    results = {"sr": lambda: [made], "landmarks": lambda: made, "both": lambda: [made.sr, *made.heatmaps]}[heads]()
    sum(result.square().mean() for result in results).backward()
    idle = {parameter for part in net.idle_parts(heads) for parameter in part.parameters()}
    assert idle == {parameter for parameter in net.parameters() if parameter.grad is None}


@pytest.mark.parametrize("rgb_range", [1.0, 255.0])
def test_shifts_are_those_of_the_released_code(rgb_range):
    net = tiny(rgb_range=rgb_range)
    mean, std = torch.tensor(COLOR_MEAN).view(3, 1, 1), torch.tensor(COLOR_STD).view(3, 1, 1)
    x = image(1, 3, 4, 4) * rgb_range
    torch.testing.assert_close(net.shift_in(x), (x - mean * rgb_range) / std)
    torch.testing.assert_close(net.shift_out(x), (x + mean * rgb_range) / std)


def test_network_of_another_range_starts_as_that_of_1_times_the_range():
    """Biases are zero at first, so all layers scale with their input."""
    one, wide = (tiny(rgb_range=value, init_type="normal").eval() for value in (1, 255))
    for net in (one, wide):
        for name, value in net.named_parameters():
            nn.init.constant_(value, 0) if name.endswith("bias") else value.data.mul_(20)
    x = image(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(wide(255 * x) / 255, one(x), rtol=0, atol=1e-3)


def test_initial_weights_are_small_and_biases_zero():
    torch.manual_seed(0)
    net = JASRNet(num_feat=32, num_block=2)
    weights = torch.cat([value.flatten() for name, value in net.named_parameters() if name.endswith("weight")])
    assert weights.std().item() == pytest.approx(0.01, rel=0.01)
    assert weights.mean().item() == pytest.approx(0, abs=1e-4)
    assert all((value == 0).all() for name, value in net.named_parameters() if name.endswith("bias"))
    start = net(image(1, 3, 16, 16)).mean((0, 2, 3))
    torch.testing.assert_close(start, torch.tensor([2.118, 2.036, 1.804]), atol=1e-3, rtol=0)


def test_initial_weights_may_be_those_of_torch():
    torch.manual_seed(0)
    net = JASRNet(**TINY, init_type="torch")
    torch.manual_seed(0)
    first = nn.Conv2d(3, 4, 3, padding=1)
    assert torch.equal(net.head.weight, first.weight)
    assert torch.equal(net.head.bias, first.bias)


def test_checkpointing_changes_memory_alone():
    nets = [tiny(checkpointing=value) for value in (False, True)]
    kept = []
    for net in nets:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            made = net(image(2, 3, 32, 32), heads="both")
        kept.append(sum(sizes))
        (made.sr.square().mean() + sum(maps.square().mean() for maps in made.heatmaps)).backward()
    plain, checkpointed = ([value.grad for value in net.parameters()] for net in nets)
    assert all(map(torch.equal, plain, checkpointed))
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ({"num_landmarks": 0}, ValueError, "num_landmarks must be at least 1, got 0"),
        ({"num_feat": 1.5}, TypeError, "num_feat must be an integer, got 1.5"),
        ({"num_block": 0}, ValueError, "num_block must be at least 1, got 0"),
        ({"upscale": 5}, ValueError, "upscale must be one of 2, 3, 4, 8, got 5"),
        ({"upscale": 8.0}, TypeError, "upscale must be an integer, got 8.0"),
        ({"rgb_range": 0}, ValueError, "rgb_range must be a positive number, got 0"),
        ({"rgb_range": float("inf")}, ValueError, "rgb_range must be a positive number, got inf"),
        ({"rgb_range": "255"}, TypeError, "rgb_range must be a number, got '255'"),
        ({"init_type": "kaiming"}, ValueError, "init_type must be one of normal, torch, got 'kaiming'"),
    ],
)
def test_network_refuses_other_arguments(args, error, text):
    with pytest.raises(error, match=text):
        JASRNet(**args)


@pytest.mark.parametrize(
    ("shape", "heads", "text"),
    [
        ((1, 1, 8, 8), "sr", r"lq must have shape \(N, 3, H, W\), got \(1, 1, 8, 8\)"),
        ((1, 3, 16, 30), "sr", r"lq must have sides that are multiples of 8, got \(16, 30\)"),
        ((1, 3, 8, 8), "all", "heads must be one of sr, landmarks, both, got 'all'"),
    ],
)
def test_forward_refuses_other_inputs(net, shape, heads, text):
    with pytest.raises(ValueError, match=text):
        net(torch.zeros(shape), heads)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])  # noqa: S301
def test_network_can_be_copied_after_a_training_step(copier):
    net = tiny()
    net(image(1, 3, 8, 8)).mean().backward()
    assert torch.equal(net(image(1, 3, 8, 8)), copier(net)(image(1, 3, 8, 8)))


def test_network_treats_samples_alone_and_keeps_nothing(net):
    batch = image(3, 3, 16, 16)
    with torch.no_grad():
        first = net(batch, "both")
        alone = net(batch[1:2], "both")
        assert torch.equal(net(batch), first.sr)
    torch.testing.assert_close(first.sr[1:2], alone.sr)
    torch.testing.assert_close(first.heatmaps[2][1:2], alone.heatmaps[2])


def test_network_is_the_same_in_train_and_eval_mode(net):
    x = image(1, 3, 16, 16)
    assert torch.equal(net.train()(x), net.eval()(x))


def test_network_is_registered():
    assert ARCH_REGISTRY.get("JASRNet") is JASRNet
