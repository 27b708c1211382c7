"""What DIC's reference files have in common: weights, inputs, outputs."""

import re

import numpy as np
import torch

from facesr_plugin.archs.dic_arch import DICNet
from facesr_plugin.cards import get_card
from facesr_plugin.checkpoints import detect
from helpers.fill import uniform
from parity.recipes import numpy_index
from parity.weights import fill_official

KEYS = {form.arch: form.keys for form in detect.FORMATS if form.system == "dic"}
MEAN = np.array(get_card("dic").mean, np.float32).reshape(3, 1, 1)
_STATISTICS = ("mean", "std", "absmax")
_GENERATOR_ARGS = {  # released argument: ours
    "num_features": "num_feat",
    "num_groups": "num_groups",
    "num_steps": "num_steps",
    "num_fusion_block": "num_fusion_block",
    "hg_num_feature": "hourglass_feat",
    "hg_num_keypoints": "num_landmarks",
    "detach_attention": "detach_attention",
}
_PUBLISHED = {"in_channels": 3, "out_channels": 3, "scale": 8}


def filled(weights, state_dict):
    """Return tensors by official key: filled, each matrix times the gain of the longest prefix that fits its key.

    Args:
        weights: ``seed`` and ``gain_by_key_prefix`` of a case.
        state_dict: ``[key, shape]`` pairs in order.
    """
    gains = weights["gain_by_key_prefix"]
    state = fill_official(state_dict, seed=weights["seed"])
    for key, value in state.items():
        if value.dim() >= 2:
            value *= gains[max((prefix for prefix in gains if key.startswith(prefix)), key=len)]
    return state


def load_filled(case, net, keys, prefix=""):
    """Give a network the case's weights; ``prefix`` stands before its official keys in the table, and before ours."""
    state = filled(case.meta["weights"], case.meta["state_dict"])
    ours = keys.to_ours({f"{prefix}{key}": value for key, value in state.items()})
    shared = len(_common_prefix(ours)) if prefix else 0
    net.load_state_dict({key[shared:]: value for key, value in ours.items()})
    return net.eval()


def _common_prefix(keys):
    """Return the names that all keys begin with."""
    split = [key.split(".") for key in keys]
    names = [column[0] for column in zip(*split, strict=False) if len(set(column)) == 1]
    return "".join(f"{name}." for name in names)


def generator(case, weights, state_dict, **changed):
    """Return DICNet as a case's ``constructor`` says, filled."""
    net = DICNet(**generator_args(case) | changed)
    net.load_state_dict(KEYS["DICNet"].to_ours(filled(weights, state_dict)))
    return net.eval()


def generator_args(case):
    """Return DICNet's arguments as a case's ``constructor`` says."""
    constructor = dict(case.meta["constructor"])
    for name, value in _PUBLISHED.items():
        assert constructor.pop(name) == value
    return {_GENERATOR_ARGS[name]: value for name, value in constructor.items()}


def inputs(case):
    """Return the case's inputs by name."""
    return {name: torch.from_numpy(_evaluate(item)) for name, item in case.meta["input"].items()}


def _evaluate(item):
    """Evaluate ``uniform('image',shape,seed) - mean`` or ``2u-1, u=uniform('feature',...)``."""
    name = re.search(r"uniform\('(\w+)'", item["recipe"])[1]
    u = uniform(name, tuple(item["shape"]), item["seed"])
    if "- mean" in item["recipe"]:
        return u - MEAN
    low, high = _interval(item["recipe"])
    return np.float32(low) + np.float32(high - low) * u


def _interval(recipe):
    stated = re.search(r"mapped to \[(-?[\d.]+),(-?[\d.]+)\)", recipe)
    if stated:
        return float(stated[1]), float(stated[2])
    factor, offset = re.match(r"(\d)u-(\d)", recipe).groups()
    return -float(offset), float(factor) - float(offset)


def check_output(case, name, actual, family):
    """Compare a full array with the stored part, shape and statistics."""
    stated, actual = case.meta["outputs"][name], np.asarray(actual)
    case.check(f"shape of {name}", actual.shape, stated["shape"], "exact")
    part = stated["stored_slice"]
    case.check_array(name, actual if part == "full" else actual[numpy_index(part.strip("[]"))], family)
    wide = actual.astype(np.float64)
    found = np.array([wide.mean(), wide.std(), np.abs(wide).max()])
    case.check(f"{', '.join(_STATISTICS)} of {name}", found, [stated[field] for field in _STATISTICS], family)
