"""Adapter of JASRNet's training steps, through the registered model and the published option file."""

from collections import defaultdict
from unittest.mock import patch

import torch

from facesr_plugin.checkpoints import from_official, to_official
from facesr_plugin.checkpoints.jasrnet import KEYS
from facesr_plugin.ops.heatmap_targets import Targets
from facesr_plugin.utils.option_file import find_shipped, load_option_file
from helpers.fill import uniform
from parity.jasrnet_networks import official_state

_TERMS = ("l_g_landmark", "l_g_pixel")
_VISIBLE = 0.8


def train(case):
    """Three steps on given targets: both terms of each, gradients of the first, then weights and both heads."""
    model = _build(case)
    for step in range(case.meta["steps"]):
        _feed(case, model, step)
        with patch("facesr_plugin.models.jasrnet_model.render_targets", return_value=_targets(case, step)):
            model.optimize_parameters(step + 1)
        log = model.get_current_log()
        values = [log[term] for term in _TERMS]
        expected = case.arrays["log_cpm_l1_total"][step]
        for i, value in enumerate((*values, sum(values))):
            case.check(f"{(*_TERMS, 'total')[i]}.{step}", value, expected[i], "jasrnet.train.loss")
        if step == 0:
            _check_gradients(case, model.net_g)
    state = to_official("jasrnet", model.net_g.state_dict(), _args(case))
    for name, norm in case.meta["param_l2_after"].items():
        case.check(f"norm of {name}", state[name].double().norm(), norm, "jasrnet.train.weights")
    _feed(case, model, 0)
    model.test()
    case.check_array("sr_after", model.output, "jasrnet.train.output")
    case.check_array("heatmap2_after", model.heatmaps[-1], "jasrnet.train.output")


def _args(case):
    return from_official("jasrnet", official_state(case)).args


def _build(case):
    from helpers.training import build_model  # BasicSR

    options = load_option_file(find_shipped("jasrnet"))
    options["train"]["scheduler"] = None
    assert options["train"]["clip_grad_value"] == case.meta["gclip_value"]
    model = build_model("JASRNetModel", {"type": "JASRNet", **_args(case)}, options["train"])
    model.net_g.load_state_dict(from_official("jasrnet", official_state(case)).state_dict)
    return model


def _draw(case, name, *shape):
    return torch.from_numpy(uniform(name, (case.meta["batch"], *shape), case.meta["inputs"]["seed"]))


def _feed(case, model, step):
    """Feed the input in its final size; the targets are given, so the landmarks do not matter."""
    side, points = case.meta["size"], case.meta["constructor"]["nParts"]
    images = {key: _draw(case, f"{name}{step}", 3, side, side) for key, name in (("lq", "input"), ("gt", "hr"))}
    model.feed_data({**images, "landmarks": torch.zeros(case.meta["batch"], points, 2)})


def _targets(case, step):
    maps, side = case.meta["constructor"]["nParts"] + 1, case.meta["size"] // 8
    mask = (_draw(case, f"mask{step}", maps, 1, 1) < _VISIBLE).float()
    mask[:, -1] = 1
    return Targets(_draw(case, f"target{step}", maps, side, side), mask)


def _check_gradients(case, net):
    squares = defaultdict(float)
    for name, gradient in KEYS.to_official({name: value.grad for name, value in net.named_parameters()}).items():
        squares[name.partition(".")[0]] += float(gradient.double().square().sum())
    for name, norm in case.meta["grad_norm_first_step"].items():
        case.check(f"gradient of {name}", squares[name] ** 0.5, norm, "jasrnet.train.gradient")
