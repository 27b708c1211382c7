"""Adapters of DIC's training steps, through the registered models and the published option files."""

import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from facesr_plugin.checkpoints.dic import GENERATOR_KEYS
from facesr_plugin.checkpoints.dic_discriminators import DISCRIMINATOR_KEYS
from facesr_plugin.models import dic_model
from facesr_plugin.utils.option_file import find_shipped, load_option_file
from helpers.fill import uniform
from parity.dic_case import check_output, filled, generator_args

_ADAM = {"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0}
_GAN_TERMS = {"pixel": "pix", "align": "align", "feature": "feature", "gan": "GAN"}


def train_step(case):
    """Iterations of DIC: schedule of the learning rate and of the hourglass, losses, gradients, weights."""
    meta, stated = case.meta, case.meta["options"]
    options = load_option_file(find_shipped("dic"))
    train = options["train"]
    assert train["pixel_opt"]["loss_weight"] == stated["pixel"]["weight"]
    assert train["align_opt"]["loss_weight"] == stated["align"]["weight"]
    train["scheduler"] = {"type": "MultiStepLR", "milestones": stated["lr_steps"], "gamma": stated["lr_gamma"]}
    train["hourglass_freeze_iter"] = stated["release_HG_grad_step"]
    with tempfile.TemporaryDirectory() as folder:
        path = {"pretrain_network_g": _save(folder, "generator", meta["weights"], meta["state_dict"])}
        model = _build(case, options, path)
    for expected in meta["iterations"]:
        _iterate(case, model, expected["iteration"])
        case.check("lr", model.get_current_learning_rate(), [expected["lr"]], "dic.train.lr")
        log = model.get_current_log()
        for ours, theirs in (("l_g_pixel", "loss_pix"), ("l_g_align", "loss_align")):
            case.check(theirs, log[ours], expected[theirs], "dic.train.loss")
        norms = _gradients(GENERATOR_KEYS, model.net_g)
        _check_modules(case, norms, expected["grad_norm_by_module"])
        if expected["iteration"] == 1:
            _check_each(case, norms, meta["grad_norm_by_parameter_iteration_1"])
        _check_parameters(case, GENERATOR_KEYS, model.net_g, expected["parameters_after"])
    _check_final(case, "final/", GENERATOR_KEYS, model.net_g)


def train_step_gan(case):
    """Iterations of DICGAN as released, and the corrected pixel term of the first one."""
    meta, stated = case.meta, case.meta["options"]
    options = load_option_file(find_shipped("dicgan"))
    train = options["train"]
    for ours, theirs in (("pixel", "pixel"), ("align", "align"), ("feature", "feature"), ("gan", "GAN")):
        assert train[f"{ours}_opt"]["loss_weight"] == stated["weights"][theirs]
    train["optim_d"]["lr"] = stated["learning_rate_D"]
    with tempfile.TemporaryDirectory() as folder:
        weights, shapes = meta["weights"], meta
        train["feature_opt"]["weights"] = _save(folder, "features", weights["netF"], shapes["state_dict_netF"])
        path = {
            "pretrain_network_g": _save(folder, "generator", weights["generator"], shapes["state_dict"]),
            "pretrain_network_d": _save(folder, "critic", weights["netD"], shapes["state_dict_netD"]),
        }
        corrected = _build(case, options, path)
        train["pixel_steps"] = "released"
        model = _build(case, options, path)
    _iterate(case, corrected, 1)
    expected = meta["iterations"][0]["pixel_sum_over_steps_corrected"]
    case.check("corrected pixel sum", corrected.get_current_log()["l_g_pixel"], expected, "dic.train.loss")
    logits = []
    model.net_d.register_forward_hook(lambda _net, _inputs, found: logits.append(found.detach()))
    for expected in meta["iterations"]:
        logits.clear()
        _iterate(case, model, expected["iteration"])
        _check_terms(case, model.get_current_log(), expected, stated["weights"])
        _generator_step, real, fake = logits
        for name, found in (("pred_d_real", real), ("pred_d_fake", fake)):
            case.check(name, found.mean(), expected[name], "dic.train.logit")
        for side, keys, net in (("G", GENERATOR_KEYS, model.net_g), ("D", DISCRIMINATOR_KEYS, model.net_d)):
            _check_modules(case, _gradients(keys, net), expected[f"grad_norm_by_module_{side}"])
            _check_parameters(case, keys, net, expected[f"parameters_after_{side}"])
    _check_final(case, "final_G/", GENERATOR_KEYS, model.net_g)
    _check_final(case, "final_D/", DISCRIMINATOR_KEYS, model.net_d)


def _save(folder, name, weights, state_dict):
    path = Path(folder) / f"{name}.pth"
    torch.save(filled(weights, state_dict), path)
    return str(path)


def _build(case, options, path):
    from helpers.training import build_model  # BasicSR

    network = {**options["network_g"], **generator_args(case)}
    more = {"network_d": options["network_d"]} if "network_d" in options else {}
    model = build_model(options["model_type"], network, options["train"], path=path, **more)
    stated = case.meta["options"]
    for optimiser, rate in zip(model.optimizers, ("learning_rate_G", "learning_rate_D"), strict=False):
        expected = _ADAM | {"lr": stated.get(rate, stated.get("learning_rate")), "betas": tuple(stated["betas"])}
        assert {name: optimiser.defaults[name] for name in _ADAM} == expected
    return model


def _iterate(case, model, iteration):
    """Run an iteration on images and heatmaps of its stream."""
    batch = case.meta["batches"]
    count, seed = batch["B"], 100 * batch["seed"] + iteration
    lq, gt = (
        torch.from_numpy(uniform(name, (count, 3, side, side), seed))
        for name, side in (("LR", batch["LR_size"]), ("HR", batch["HR_size"]))
    )
    side = batch["heatmap_size"]
    targets = torch.from_numpy(uniform("gt_heatmap", (count, 68, side, side), seed))
    model.feed_data({"lq": lq, "gt": gt, "landmarks": torch.zeros(count, 68, 2)})
    model.update_learning_rate(iteration)
    with patch.object(dic_model, "make_targets", lambda *_: targets):
        model.optimize_parameters(iteration)


def _check_terms(case, log, expected, weights):
    """Compare the terms without their weights, and the sums with them."""
    for (ours, theirs), weight in zip(_GAN_TERMS.items(), weights.values(), strict=True):
        case.check(f"loss_g_{theirs}", log[f"l_g_{ours}"] / weight, expected[f"loss_g_{theirs}"], "dic.train.loss")
    case.check("loss_g", sum(log[f"l_g_{name}"] for name in _GAN_TERMS), expected["loss_g"], "dic.train.loss")
    case.check("loss_d", log["l_d_real"] + log["l_d_fake"], expected["loss_d"], "dic.train.loss")


def _gradients(keys, net):
    """Return the gradients' norms by official key, without parameters that have none."""
    grads = {key: torch.empty(0) if value.grad is None else value.grad for key, value in net.named_parameters()}
    return {key: value.double().norm().item() for key, value in keys.to_official(grads).items() if value.numel()}


def _check_modules(case, norms, expected):
    squares = {}
    for key, norm in norms.items():
        module = key.split(".")[0]
        squares[module] = squares.get(module, 0) + norm**2
    assert squares.keys() == expected.keys()
    for module, square in squares.items():
        case.check(f"gradient of {module}", np.sqrt(square), expected[module], "dic.train.grad_norm")


def _check_each(case, norms, expected):
    """Compare norms of single tensors, small ones (slopes of PReLU) relative to a hundredth of the median."""
    learned = {key: norm for key, norm in expected.items() if norm is not None}
    assert norms.keys() == learned.keys()
    least = np.median(list(learned.values())) / 100
    for key, norm in learned.items():
        scale = max(norm, least)
        case.check(f"gradient of {key}", norms[key] / scale, norm / scale, "dic.train.grad_norm.tensor")


def _check_parameters(case, keys, net, expected):
    tensors = {}
    for key, value in keys.to_official(dict(net.state_dict())).items():
        tensors.setdefault(key.split(".")[0], []).append(value.double().flatten())
    assert tensors.keys() == expected.keys()
    for module, parts in tensors.items():
        values = torch.cat(parts)
        case.check(f"norm of {module}", values.norm(), expected[module]["l2"], "dic.train.parameters")
        # signs of Adam's first steps differ where a gradient is rounding noise: relative to the sum of magnitudes
        scale = values.abs().sum()
        case.check(f"sum of {module}", values.sum() / scale, expected[module]["sum"] / scale, "dic.train.sum")


def _check_final(case, prefix, keys, net):
    state = keys.to_official(dict(net.state_dict()))
    for name in (name for name in case.meta["outputs"] if name.startswith(prefix)):
        check_output(case, name, state[name.removeprefix(prefix)], "dic.train.final")
