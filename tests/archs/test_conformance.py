"""What every registered network must do, whoever wrote it: copies, batches, keyword arguments, no state."""

import copy
import inspect
import pickle

import pytest
import torch

import facesr_plugin.archs  # noqa: F401  registers them
from facesr_plugin.registry import ARCH_REGISTRY

CASES = {  # name: arguments of a small one, sides of its input
    "SPARNet": ({"min_ch": 8, "max_ch": 16, "in_size": 32, "out_size": 32, "res_depth": 0, "bottleneck_size": 16}, 32),
    "SPARNetDiscriminator": ({"base_ch": 8, "max_ch": 16, "num_d": 2}, 70),
    "ProgressiveFSRNet": ({"num_feat": 8}, 8),
    "ProgressiveFSRDiscriminator": ({"num_feat": 8}, 128),
    "CompressedFAN": ({"num_feat": 4}, 32),
    "TeacherFAN": ({"num_stacks": 1}, 64),
    "JASRNet": ({"num_landmarks": 5, "num_feat": 4, "num_block": 2}, 32),
    "DICNet": ({"num_feat": 4, "num_groups": 2, "num_steps": 2, "num_fusion_block": 1, "hourglass_feat": 16}, 8),
    "FeedbackHourglass": ({"num_feat": 16}, 64),
    "StackedHourglass": ({"num_feat": 16, "num_stacks": 2}, 64),
    "LightCNNFeature": ({}, 32),
    "LightCNNDiscriminator": ({"image_size": 32}, 32),
    "UNetFeatureDiscriminator": ({}, 32),
}
LOOKS_AT_THE_BATCH = "ProgressiveFSRDiscriminator"  # at the deviation of its samples


@pytest.fixture(params=list(CASES))
def case(request):
    """A small network in eval mode, its arguments and a batch for it."""
    args, side = CASES[request.param]
    torch.manual_seed(0)
    net = ARCH_REGISTRY.get(request.param)(**args).eval()
    return net, args, torch.rand(3, 3, side, side) - 0.4


def tensors(result):
    """List the tensors of a result in order."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [x for part in result if part is not None for x in tensors(part)]


def test_every_registered_network_has_a_case():
    assert set(CASES) == {name for name, _ in ARCH_REGISTRY.items()}


def test_arguments_are_keywords_with_defaults(case):
    parameters = inspect.signature(type(case[0])).parameters.values()
    assert all(value.kind is value.KEYWORD_ONLY and value.default is not value.empty for value in parameters)


def test_a_misspelt_argument_is_an_error(case):
    net, args, _ = case
    with pytest.raises(TypeError, match="num_faet"):
        type(net)(**args, num_faet=4)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])  # noqa: S301
def test_a_copy_after_a_training_step_gives_the_same(case, copier):
    net, _, batch = case
    sum(x.square().mean() for x in tensors(net.train()(batch))).backward()
    twin = copier(net).eval()
    assert all(torch.equal(*pair) for pair in zip(tensors(net.eval()(batch)), tensors(twin(batch)), strict=True))


@torch.no_grad()
def test_a_sample_gives_the_same_alone_and_in_a_batch(case):
    net, _, batch = case
    if type(net).__name__ == LOOKS_AT_THE_BATCH:
        pytest.skip("it judges a sample by those beside it")
    for alone, together in zip(tensors(net(batch[1:2])), tensors(net(batch)), strict=True):
        assert (alone - together[1:2]).abs().max() <= 1e-5 * together.abs().max()


@torch.no_grad()
def test_a_call_leaves_no_trace(case):
    net, _, batch = case
    before, attributes = tensors(net(batch)), {name: set(vars(module)) for name, module in net.named_modules()}
    net(batch.flip(0))
    assert all(torch.equal(*pair) for pair in zip(before, tensors(net(batch)), strict=True))
    assert {name: set(vars(module)) for name, module in net.named_modules()} == attributes
    assert not [
        f"{name}.{key}"
        for name, module in net.named_modules()
        for key, value in vars(module).items()
        if _is_graph(value)
    ]


def _is_graph(value):
    return isinstance(value, torch.Tensor) and value.grad_fn is not None


def test_a_state_dict_is_loaded_strictly(case):
    net, args, batch = case
    twin = type(net)(**args).eval()
    twin.load_state_dict(net.state_dict())
    assert all(torch.equal(*pair) for pair in zip(tensors(net(batch)), tensors(twin(batch)), strict=True))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        twin.load_state_dict(net.state_dict() | {"other": torch.zeros(1)})
