"""Files of the alignment networks: names and both directions."""

import pytest
import torch

from facesr_plugin.archs.fan_arch import CompressedFAN, TeacherFAN
from facesr_plugin.checkpoints import UnsupportedCheckpointError, from_official, load_weights, to_official

NORM = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
CONV = ["weight", "bias"]
BLOCK = {"bn1": NORM, "conv1": CONV[:1], "bn2": NORM, "conv2": CONV[:1], "bn3": NORM, "conv3": CONV[:1]}
SHORTCUT = {"downsample.0": NORM, "downsample.2": CONV[:1]}


def below(name, layers):
    return {f"{name}.{layer}": leaves for layer, leaves in layers.items()}


def teacher_stack(i, *, last):
    levels = (4, 3, 2, 1)
    layers = {}
    for name in [
        *(f"b{k}_{level}" for level in levels for k in (1, 2)),
        "b2_plus_1",
        *(f"b3_{n}" for n in levels[::-1]),
    ]:
        layers |= below(f"m{i}.{name}", BLOCK)
    layers |= {**below(f"top_m_{i}", BLOCK), f"conv_last{i}": CONV, f"bn_end{i}": NORM, f"l{i}": CONV}
    return layers if last else {**layers, f"bl{i}": CONV, f"al{i}": CONV}


COMPRESSED = {
    "conv": CONV,
    **{f"layers.{i}": CONV if i % 3 == 0 else NORM for i in (0, 1, 3, 4, 6, 7)},
    "layers.9": CONV,
}
TEACHER = {
    "conv1": CONV,
    "bn1": NORM,
    **below("conv2", {**BLOCK, **SHORTCUT}),
    **below("conv3", BLOCK),
    **below("conv4", {**BLOCK, **SHORTCUT}),
    **teacher_stack(0, last=False),
    **teacher_stack(1, last=True),
}
CASES = [
    (CompressedFAN, {"num_landmarks": 5, "num_feat": 2}, COMPRESSED),
    (TeacherFAN, {"num_stacks": 2, "num_landmarks": 5}, TEACHER),
]


@pytest.mark.parametrize(("network", "args", "layers"), CASES, ids=["compressed", "teacher"])
def test_conversion_gives_the_official_order_and_is_undone_exactly(network, args, layers):
    with torch.device("meta"):
        ours = network(**args).state_dict()
    official = to_official("progressive", dict(sorted(ours.items())), args)
    assert list(official) == [f"{layer}.{leaf}" for layer, leaves in layers.items() for leaf in leaves]
    converted = from_official("progressive", official)
    assert (converted.arch, converted.args) == (network.__name__, args)
    assert list(converted.state_dict) == list(ours)
    assert all(converted.state_dict[key] is ours[key] for key in ours)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model_state_dict": state}])
def test_file_is_recognised(tmp_path, wrap):
    args = {"num_landmarks": 5, "num_feat": 2}
    state = to_official("progressive", CompressedFAN(**args).state_dict(), args)
    torch.save(wrap({f"module.{key}": value for key, value in state.items()}), tmp_path / "fan.pth")
    loaded = load_weights(tmp_path / "fan.pth")
    assert (loaded.arch, loaded.args, dict(loaded.call)) == ("CompressedFAN", args, {})


def test_missing_stacks_are_named():
    with torch.device("meta"):
        ours = TeacherFAN(num_stacks=2, num_landmarks=5).state_dict()
    official = to_official("progressive", ours, {"num_stacks": 2, "num_landmarks": 5})
    first = {key: value for key, value in official.items() if "0" not in key.split(".")[0]}
    with pytest.raises(UnsupportedCheckpointError, match=r"TeacherFAN: .*stacks\.0\.heatmaps\.weight is missing"):
        from_official("progressive", first)
