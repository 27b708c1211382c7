"""What the progressive system's reference files have in common: weights, inputs, outputs."""

import numpy as np
import torch

from facesr_plugin.checkpoints import from_official
from facesr_plugin.registry import ARCH_REGISTRY
from parity.recipes import evaluate, numpy_index
from parity.weights import fill_official


def build(case, network=None):
    """Return a network with the case's weights, in the mode of the case (train unless it says eval).

    Args:
        case: The reference.
        network: Its name there, where several take part.
    """
    meta = case.meta
    keys, gain = (meta[name][network] if network else meta[name] for name in ("keys", "gain"))
    return build_filled(keys, meta["seed"], gain, train=meta.get("mode") != "eval")


def build_filled(keys, seed, gain, *, train):
    """Return the network that official keys belong to, filled."""
    converted = from_official("progressive", fill_official(keys, seed=seed, gain=gain))
    net = ARCH_REGISTRY.get(converted.arch)(**converted.args)
    net.load_state_dict(converted.state_dict)
    return net.train(train)


def inputs(case):
    """Return the case's inputs by name."""
    found = {}
    for item in case.meta["inputs"]:
        names = {name: item[name] for name in ("name", "shape")} | {"seed": case.meta["seed"]}
        found[item["name"]] = torch.from_numpy(evaluate(item["recipe"], names))
    return found


def check_output(case, name, actual, family):
    """Compare a full array with the stored part, shape and statistics."""
    stated, actual = case.meta["outputs"][name], np.asarray(actual)
    case.check(f"shape of {name}", actual.shape, stated["full_shape"], "exact")
    case.check_array(name, actual[numpy_index(stated["slice"])] if "slice" in stated else actual, family)
    if "mean" not in stated:
        return
    wide = actual.astype(np.float64)
    statistics = [wide.mean(), wide.std(), wide.min(), wide.max()]
    expected = [stated[field] for field in ("mean", "std", "min", "max")]
    case.check(f"mean, deviation and range of {name}", statistics, expected, family)


def check_norms(case, name, net, keys, family):
    """Compare norms relative to themselves, those below a thousandth of the largest relative to that."""
    grads = keys.to_official({key: value.grad for key, value in net.named_parameters()})
    norms = np.array([-1 if grads[key] is None else grads[key].double().norm() for key in case.meta["grad_norm_keys"]])
    case.check(f"shape of {name}", norms.shape, case.meta["outputs"][name]["full_shape"], "exact")
    expected = case.arrays[name]
    scale = np.maximum(np.abs(expected), 1e-3 * expected.max())
    case.check(name, norms / scale, expected / scale, family)
