"""Adapter of the progressive system's training steps, through the registered model and the published option file."""

import tempfile
from pathlib import Path
from unittest.mock import patch

import torch

from facesr_plugin.checkpoints import from_official
from facesr_plugin.losses import wgan_gp_loss
from facesr_plugin.utils.option_file import find_shipped, load_option_file
from parity.progressive_case import check_output
from parity.recipes import evaluate
from parity.weights import fill_official

_WEIGHTS = {"pixel": "pix", "gan": "adv", "perceptual": "per", "attention": "att", "heatmap": "hm"}
_TERMS = {"pixel": "pixel", "gan": "adv", "perceptual": "perceptual", "attention": "attention", "heatmap": "heatmap"}
_FADE = 5  # with it alpha is 0.4, 0.6, 0.8 from the third iteration on
_FIRST = 3


def train_step(case):
    """Iterations of one stage: every term of both sides, then statistics, weights and the generator in train mode."""
    step, count = case.meta["step"], case.meta["iterations"]
    weights = {ours: case.meta["weights"][theirs] for ours, theirs in _WEIGHTS.items() if case.meta["weights"][theirs]}
    model = _build(case, weights)
    for i in range(count):
        judged, norms = _iterate(case, model, i)
        case.check("alpha", model.call["alpha"], case.meta["alpha"][str(i)], "statistics")
        _check_generator(case, model.get_current_log(), weights, i)
        _check_critic(case, model.get_current_log(), judged, norms, i)
    _check_state(case, model.net_g, step, f"progressive.train.{count}")
    with torch.no_grad():
        check_output(case, "probe_train_mode", model.net_g(_input(case, "lq_{i}", name="probe"), step, -1.0),
                     f"progressive.train.{count}")  # fmt: skip


def _build(case, weights):
    from helpers.training import build_model  # BasicSR

    meta, options = case.meta, load_option_file(find_shipped("progressive"))
    train, scale = options["train"], 2 ** meta["step"]
    train |= {
        "total_iter": _FADE,
        "stages": [{"scale": scale, "iters": _FADE, "fade_iters": _FADE, "weights": weights}],
    }
    for name in _WEIGHTS.keys() - weights.keys():
        train[f"{name}_opt"] = None
    with tempfile.TemporaryDirectory() as folder:
        files = {"perceptual": _save(case, folder, "VGG16"), "fan": _save(case, folder, "compressed FAN")}
        train["perceptual_opt"]["weights"] = files["perceptual"]
        for name in {"attention", "heatmap"} & weights.keys():
            train[f"{name}_opt"] |= {"weights": files["fan"], "mode": meta["fan_mode"]}
        if "heatmap" in weights:
            train["heatmap_opt"]["normalisation"] = "official"
        model = build_model(
            "ProgressiveFSRModel", options["network_g"], train, scale=scale, network_d=options["network_d"]
        )
    for net, name in ((model.net_g, "Generator"), (model.net_d, "Discriminator")):
        net.load_state_dict(from_official("progressive", _fill(case, name)).state_dict)
    _check_optimisers(case, model)
    return model


def _fill(case, name):
    return fill_official(case.meta["keys"][name], seed=case.meta["seed"], gain=case.meta["gain"][name])


def _save(case, folder, name):
    path = Path(folder) / f"{name}.pth"
    torch.save(_fill(case, name), path)
    return str(path)


def _check_optimisers(case, model):
    """Compare the settings themselves: few iterations hardly show beta2."""
    for optimiser in model.optimizers:
        found = [optimiser.defaults[name] for name in ("lr", "eps", "weight_decay")]
        case.check("settings of Adam", [*found, *optimiser.defaults["betas"]], [1e-3, 1e-8, 0, 0, 0.99], "exact")


def _input(case, template, i=0, name=None):
    """Return an input by its name in the file, for iteration ``i``, or with its recipe under another name."""
    (item,) = (item for item in case.meta["inputs"] if item["name"] == template)
    names = {"name": name or template.format(i=i), "shape": item["shape"], "seed": case.meta["seed"]}
    return torch.from_numpy(evaluate(item["recipe"], names))


def _iterate(case, model, i):
    """Run an iteration; return the scores of the critic's pass on (restored, real), and the penalty's norms."""
    lq, gt, share = (_input(case, f"{name}_{{i}}", i) for name in ("lq", "gt", "eps"))
    model.feed_data({"lq": (lq + 1) / 2, "gt": (gt + 1) / 2})
    scores, norms = [], []
    hook = model.net_d.register_forward_hook(lambda _net, _inputs, found: scores.append(found.detach()))

    def record(critic, gt, sr):
        found = penalty_norms(critic, gt, sr, share)
        norms.append(found.detach())
        return found

    penalty_norms = wgan_gp_loss.penalty_norms
    with patch.object(wgan_gp_loss, "penalty_norms", record):
        model.optimize_parameters(_FIRST + i)
    hook.remove()
    _generator_pass, critic_pass, _penalty_pass = scores
    return critic_pass, norms[0]


def _check_generator(case, log, weights, i):
    family = f"progressive.train.{i + 1}"
    for ours, theirs in _TERMS.items():
        case.check(f"has {ours}", f"l_g_{ours}" in log, ours in weights, "exact")
        if ours in weights:
            check_output(case, f"iter{i}/g/{theirs}", log[f"l_g_{ours}"] / weights[ours], family)
    check_output(case, f"iter{i}/g/total", sum(log[f"l_g_{name}"] for name in weights), family)


def _check_critic(case, log, judged, norms, i):
    sr, gt = judged.double().chunk(2)
    found = {
        "real_mean": gt.mean(),
        "real_sq_mean": gt.square().mean(),
        "fake_mean": sr.mean(),
        "gp_norms": norms[0],
        "gp": log["l_d_penalty"] / 10,
        "total": sum(log[f"l_d_{name}"] for name in ("real", "fake", "penalty")),
    }
    for name, value in found.items():
        check_output(case, f"iter{i}/d/{name}", value, f"progressive.train.{i + 1}")


def _check_state(case, net, step, family):
    state = net.state_dict()
    case.check("batches", state["head_norm.num_batches_tracked"], case.meta["step1.1.num_batches_tracked"], "exact")
    check_output(case, "step1.1.running_mean", state["head_norm.running_mean"], "progressive.train.running_mean")
    check_output(case, "step1.1.running_var", state["head_norm.running_var"], family)
    check_output(case, "to_rgb.weight", state[f"to_rgb.{step - 1}.weight"], family)
    if step > 1:
        check_output(case, "step2.2.running_var", state["stages.1.norm.running_var"], family)
