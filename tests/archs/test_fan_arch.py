"""The alignment networks: layout, errors, independence of calls."""

import copy
import pickle

import pytest
import torch

from facesr_plugin.archs.fan_arch import CompressedFAN, TeacherFAN
from facesr_plugin.registry import ARCH_REGISTRY


def image(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def compressed():
    torch.manual_seed(0)
    net = CompressedFAN(num_landmarks=5, num_feat=2)
    with torch.no_grad():
        net(image(4, 3, 8, 8, seed=2))
    return net


def test_networks_have_the_published_counts():
    with torch.device("meta"):
        counts = [sum(value.numel() for value in net.parameters()) for net in (CompressedFAN(), TeacherFAN())]
    assert counts == [321_412, 23_820_176]


def test_compressed_fan_keeps_the_size(compressed):
    assert compressed(image(2, 3, 7, 10)).shape == (2, 5, 7, 10)


def test_compressed_fan_sees_13_pixels(compressed):
    x = image(1, 3, 25, 25).requires_grad_()
    compressed.eval()(x)[0, :, 12, 12].sum().backward()
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert (rows.min().item(), rows.max().item()) == (6, 18)


def test_compressed_fan_lets_little_of_negative_values_through(compressed):
    torch.nn.init.zeros_(compressed.tail.weight)
    torch.nn.init.constant_(compressed.tail.bias, -2.0)
    torch.testing.assert_close(compressed(image(2, 3, 4, 4)), torch.full((2, 5, 4, 4), -0.02))


def test_compressed_fan_does_not_activate_its_first_features(compressed):
    torch.nn.init.zeros_(compressed.head.weight)
    torch.nn.init.constant_(compressed.head.bias, -1.0)
    seen = []
    compressed.convs[0].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    compressed(image(1, 3, 4, 4))
    assert (seen[0] == -1).all()


def test_compressed_fan_in_eval_mode_treats_samples_alone(compressed):
    compressed.eval()
    batch = image(3, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(compressed(batch)[1:2], compressed(batch[1:2]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])  # noqa: S301
def test_compressed_fan_can_be_copied_after_a_training_step(compressed, copier):
    compressed(image(2, 3, 8, 8)).mean().backward()
    assert torch.equal(copier(compressed).eval()(image(1, 3, 8, 8)), compressed.eval()(image(1, 3, 8, 8)))


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    return TeacherFAN(num_stacks=2, num_landmarks=5).eval()


@torch.no_grad()
def test_teacher_gives_the_heatmaps_of_every_stack(teacher):
    heatmaps = teacher(image(1, 3, 64, 128))
    assert [tuple(found.shape) for found in heatmaps] == [(1, 5, 16, 32)] * 2
    assert not torch.allclose(*heatmaps)


def test_teacher_hands_nothing_on_after_the_last_stack(teacher):
    assert teacher.stacks[0].feat_back is not None
    assert teacher.stacks[1].feat_back is None
    assert teacher.stacks[1].heatmaps_back is None


@torch.no_grad()
def test_teacher_in_eval_mode_treats_samples_alone(teacher):
    batch = image(2, 3, 64, 64)
    torch.testing.assert_close(teacher(batch)[1][1:], teacher(batch[1:])[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])  # noqa: S301
@torch.no_grad()
def test_teacher_can_be_copied(teacher, copier):
    x = image(1, 3, 64, 64)
    assert torch.equal(copier(teacher)(x)[1], teacher(x)[1])


@pytest.mark.parametrize("name", ["CompressedFAN", "TeacherFAN"])
def test_networks_are_registered_and_refuse_other_shapes(name):
    with torch.device("meta"):
        net = ARCH_REGISTRY.get(name)()
        with pytest.raises(ValueError, match=r"image must have shape \(N, 3, H, W\), got \(1, 1, 64, 64\)"):
            net(torch.zeros(1, 1, 64, 64))


def test_networks_refuse_sizes_that_they_cannot_halve(teacher, compressed):
    with pytest.raises(ValueError, match=r"sides that are multiples of 64, got \(64, 96\)"):
        teacher(torch.zeros(1, 3, 64, 96))
    with pytest.raises(ValueError, match=r"sides that are multiples of 1, got \(0, 4\)"):
        compressed(torch.zeros(1, 3, 0, 4))


@pytest.mark.parametrize(
    ("network", "args", "error", "text"),
    [
        (CompressedFAN, {"num_landmarks": 0}, ValueError, "num_landmarks must be at least 1, got 0"),
        (CompressedFAN, {"num_feat": 2.5}, TypeError, "num_feat must be an integer, got 2.5"),
        (TeacherFAN, {"num_stacks": 0}, ValueError, "num_stacks must be at least 1, got 0"),
        (TeacherFAN, {"num_landmarks": "68"}, TypeError, "num_landmarks must be an integer, got '68'"),
    ],
)
def test_networks_refuse_other_numbers(network, args, error, text):
    with pytest.raises(error, match=text):
        network(**args)
