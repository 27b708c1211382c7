"""Adapters of SPARNet's training steps, through the registered models."""

import re
import tempfile
from pathlib import Path

import torch

from facesr_plugin.checkpoints import from_official, to_official
from facesr_plugin.checkpoints.sparnet import GENERATOR_KEYS
from facesr_plugin.checkpoints.sparnet_discriminator import DISCRIMINATOR_KEYS
from parity.recipes import assignments, count_rounds
from parity.sparnet_perceptual import write_vgg
from parity.weights import fill_official

_STRIDED = (slice(None), slice(None), slice(None, None, 2), slice(None, None, 2))
_GAN_TERMS = {"l_pix": "l_g_pixel", "l_pcp": "l_g_perceptual", "l_fm": "l_g_feature_matching", "l_g": "l_g_gan"}


def train_step(case):
    """Iterations with the pixel loss alone."""
    from helpers.training import build_model  # BasicSR

    meta = case.meta
    if meta["hyper"].get("loss") != "mean |sr - hr|":
        raise ValueError(f"hyper.loss must be mean |sr - hr|, got {meta['hyper'].get('loss')!r}")
    args = {**meta["generator"], "spectral_norm": bool(meta.get("spectral_norm"))}
    train = {"optim_g": _adam(meta["hyper"], "lr"), "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0}}
    model = build_model("SPARNetModel", {"type": "SPARNet", **args}, train)
    _check_optimiser(case, model.optimizer_g, "lr")
    _fill(model.net_g, "sparnet", args, _seed(meta["fill"]), meta.get("spectral_norm"))
    _feed(case, model)
    for step in meta["steps"]:
        model.optimize_parameters(step["step"])
        _check_losses(case, model, step, {"l_pix": "l_g_pixel"})
        _check_gradients(case, model.net_g, step, "", GENERATOR_KEYS)
        _check_image(case, f"sr.{step['step']}", model.output, step["step"])
        _check_buffers(case, model.net_g, step["step"])
    _check_norms(case, "sparnet", model.net_g, args, [*meta["final_param_norms"], *meta["final_buffer_norms"]])
    _check_image(case, "final_eval", _evaluate(model.net_g, model.lq), "final")


def train_step_hd(case):
    """Adversarial iterations with all losses, moving average and spectral norm."""
    from helpers.training import build_model  # BasicSR

    meta, hyper = case.meta, case.meta["hyper"]
    g_args = {**meta["generator"], "spectral_norm": True}
    d_args = {name.lower(): value for name, value in meta["discriminator"].items()} | {"spectral_norm": True}
    with tempfile.TemporaryDirectory() as folder:
        vgg = Path(folder) / "vgg19.pth"
        write_vgg(vgg, _seed(meta["fill"]["VGG"]), float(re.search(r"gain ([0-9.]+)", meta["fill"]["VGG"])[1]))
        train = {
            "ema_decay": hyper["ema_decay"],
            "optim_g": _adam(hyper, "g_lr"),
            "optim_d": _adam(hyper, "d_lr"),
            "pixel_opt": {"type": "L1Loss", "loss_weight": hyper["lambda_pix"]},
            "perceptual_opt": {"type": "FacePerceptualLoss", "loss_weight": hyper["lambda_pcp"], "weights": str(vgg)},
            "feature_matching_opt": {"type": "SPARNetFeatureMatchingLoss", "loss_weight": hyper["lambda_fm"]},
            "gan_opt": {
                "type": "SPARNetGANLoss",
                "gan_type": hyper["gan_mode"],
                "loss_weight": hyper["lambda_g"],
            },
        }
        network_d = {"type": "SPARNetDiscriminator", **d_args}
        model = build_model("SPARNetHDModel", {"type": "SPARNet", **g_args}, train, network_d=network_d)
    _check_optimiser(case, model.optimizer_g, "g_lr")
    _check_optimiser(case, model.optimizer_d, "d_lr")
    for net in (model.net_g, model.net_g_ema):
        _fill(net, "sparnethd", g_args, _seed(meta["fill"]["G"]), meta["spectral_norm"])
    _fill(model.net_d, "sparnethd", d_args, _seed(meta["fill"]["D"]), meta["spectral_norm"])
    _feed(case, model)
    judged = _record_scores(model)
    for step in meta["steps"]:
        judged.clear()
        model.optimize_parameters(step["step"])
        _check_losses(case, model, step, _GAN_TERMS)
        log, limit = model.get_current_log(), f"train_step.loss.{min(step['step'], 3)}"
        case.check(f"l_d.{step['step']}", log["l_d_real"] + log["l_d_fake"], step["l_d"], limit)
        for name, scores in zip(("out_real_mean", "out_fake_mean"), judged[-2:], strict=True):
            case.check(f"{name}.{step['step']}", scores, step[name], limit)
        _check_gradients(case, model.net_g, step, "_G", GENERATOR_KEYS)
        _check_gradients(case, model.net_d, step, "_D", DISCRIMINATOR_KEYS)
        _check_image(case, f"sr.{step['step']}", model.output, step["step"])
        _check_image(case, f"ema_sr.{step['step']}", _evaluate(model.net_g_ema, model.lq), 1)
    _check_norms(case, "sparnethd", model.net_g, g_args, meta["final_param_norms_G"])
    _check_norms(case, "sparnethd", model.net_g_ema, g_args, meta["final_param_norms_H"])
    _check_norms(case, "sparnethd", model.net_d, d_args, meta["final_param_norms_D"])
    _check_image(case, "final_eval_G", _evaluate(model.net_g, model.lq), "final")
    _check_image(case, "final_eval_H", _evaluate(model.net_g_ema, model.lq), 1)


def _seed(text):
    return int(re.search(r"seed (\d+)", text)[1])


def _adam(hyper, rate):
    return {"type": "Adam", "lr": hyper[rate], "betas": hyper["betas"]}


def _check_optimiser(case, optimiser, rate):
    """Compare the settings themselves: three steps hardly show beta2."""
    case.check("optimiser's lr", optimiser.defaults["lr"], case.meta["hyper"][rate], "exact")
    case.check("optimiser's betas", optimiser.defaults["betas"], case.meta["hyper"]["betas"], "exact")


def _fill(net, system, args, seed, spectral_norm):
    """Fill a network under its official names and order."""
    shapes = {key: value.shape for key, value in to_official(system, net.state_dict(), args).items()}
    filled = fill_official(shapes.items(), seed=seed, rounds=count_rounds(spectral_norm) if spectral_norm else 0)
    net.load_state_dict(from_official(system, filled, args).state_dict)


def _feed(case, model):
    inputs = assignments(case.meta["inputs"], {})
    lq, gt = (torch.from_numpy(inputs[name]) for name in ("lr", "hr"))
    model.feed_data({"lq": (lq + 1) / 2, "gt": (gt + 1) / 2})


def _record_scores(model):
    """Return a list that gets the mean score per scale of every judgement."""
    judged = []

    def record(_module, _inputs, judgements):
        judged.append([judgement.score.detach().mean().item() for judgement in judgements])

    model.net_d.register_forward_hook(record)
    return judged


def _check_losses(case, model, step, names):
    log = model.get_current_log()
    for name, ours in names.items():
        case.check(f"{name}.{step['step']}", log[ours], step[name], f"train_step.loss.{min(step['step'], 3)}")


def _check_gradients(case, net, step, suffix, keys):
    limit, total = f"train_step.grad_norm.{min(step['step'], 3)}", step[f"grad_norm{suffix}"]
    norms = {name: value.grad.double().norm() for name, value in net.named_parameters()}
    case.check(f"grad_norm{suffix}.{step['step']}", torch.stack(list(norms.values())).norm(), total, limit)
    for name, norm in keys.to_ours(dict(step.get(f"grad_norms{suffix}", []))).items():
        if norm >= 1e-4 * total:  # below that it is rounding noise
            case.check(f"grad_norm{suffix}.{step['step']} of {name}", norms[name], norm, limit)


def _check_image(case, name, images, step):
    if name in case.arrays:
        case.check_array(name, images.detach()[_STRIDED], "train_step.first" if step == 1 else "train_step.final")


def _check_buffers(case, net, number):
    state = net.state_dict()
    for name in [name for name in case.arrays if name.startswith(f"after{number}.")]:
        (key,) = GENERATOR_KEYS.to_ours({name.partition(".")[2]: None})
        case.check_array(name, state[key], "train_step.first" if number == 1 else "train_step.final")


def _check_norms(case, system, net, args, expected):
    state = to_official(system, net.state_dict(), args)
    for name, norm in expected:
        case.check(f"final norm of {name}", state[name].double().norm(), norm, "train_step.param_norm")


@torch.no_grad()
def _evaluate(net, lq):
    training = net.training
    output = net.eval()(lq)
    net.train(training)
    return output
