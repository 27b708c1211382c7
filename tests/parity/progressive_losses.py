"""Losses of the progressive system against their references."""

import re
import tempfile
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F

from facesr_plugin.checkpoints.progressive import CRITIC_KEYS
from facesr_plugin.losses.alignment import HeatmapPair
from facesr_plugin.losses.facial_attention_loss import FacialAttentionLoss, attention_map, attention_weighted_error
from facesr_plugin.losses.heatmap_loss import FaceHeatmapLoss, heatmap_distance
from facesr_plugin.losses.perceptual_loss import FacePerceptualLoss
from facesr_plugin.losses.wgan_gp_loss import WGANGPLoss, penalty_norms
from facesr_plugin.ops.heatmap import decode_subpixel, scale_to_unit
from parity.progressive_case import build, check_norms, check_output, inputs
from parity.recipes import evaluate
from parity.weights import fill_official

PERCEPTUAL = {
    "vgg_type": "vgg16",
    "layer_weights": {"relu1_2": 1.0, "relu2_2": 1.0, "relu3_3": 1.0, "relu4_3": 1.0},
    "criterion": "l2",
    "use_input_norm": False,
    "min_width": 0,
}
_TERMS = {"pixel": "pix", "adv": "adv", "perceptual": "per", "heatmap": "hm", "attention": "att"}


def heatmap_attention(case):
    """Everything that follows from given heatmaps: both normalisations, attention, its loss, the decoded landmarks."""
    values = {item["name"]: _read(item, case.meta["seed"]) for item in case.meta["inputs"]}
    found, wanted, sr, gt = (values[name] for name in ("heat_fake", "heat_real", "fake", "real"))
    check_output(case, "norm_real", scale_to_unit(wanted), "block")
    lows = {"corrected": None, "official": wanted.amin((1, 2, 3), keepdim=True)}
    for name, low in lows.items():
        check_output(case, f"norm_fake_{name}", scale_to_unit(found, low), "block")
        maps = found.clone().requires_grad_()
        loss = heatmap_distance(HeatmapPair(maps, wanted), name)
        loss.backward()
        check_output(case, f"heatmap_loss_{name}", loss.detach(), "loss.objective")
        check_output(case, f"grad_heat_fake_{name}_norm", maps.grad.norm(), "loss.objective")
    check_output(case, "attention_map", attention_map(wanted), "block")
    loss = attention_weighted_error(sr.requires_grad_(), gt, attention_map(wanted))
    loss.backward()
    check_output(case, "attention_loss", loss.detach(), "loss.objective")
    check_output(case, "grad_attention_fake", sr.grad, "loss.objective")
    check_output(case, "pixel_loss", F.l1_loss(sr.detach(), gt), "loss.objective")
    check_output(case, "landmarks_of_heat_real", decode_subpixel(wanted) + 0.5, "exact")


def perceptual(case):
    """The loss with the options that its docstring names: value, terms, features, gradient."""
    values = inputs(case)
    sr, gt = values["fake"].requires_grad_(), values["real"]
    with tempfile.TemporaryDirectory() as folder:
        loss = FacePerceptualLoss(**PERCEPTUAL, weights=_write(folder, case.meta["keys"], case.meta, case.meta["gain"]))
    total = loss(sr, gt)
    total.backward()
    check_output(case, "perceptual_loss", total.detach(), "perceptual.loss")
    terms = loss.layer_losses(sr.detach(), gt)
    check_output(
        case, "layer_mse", torch.stack([terms[name] for name in PERCEPTUAL["layer_weights"]]), "perceptual.loss"
    )
    for name, features in loss.extract(gt).items():
        check_output(case, f"real_{name}", features, "block")
    check_output(case, "grad_fake", sr.grad, "loss.gradient")
    check_output(case, "grad_fake_norm", sr.grad.norm(), "loss.gradient")


def objective(case):
    """All terms of one step: the generator's as functions of its image, then the critic's."""
    values, net = inputs(case), build(case, "Discriminator")
    with tempfile.TemporaryDirectory() as folder:
        criteria = _criteria(folder, case.meta)
    call = {name: case.meta[name] for name in ("step", "alpha")}
    _check_generator(case, criteria, lambda images: net(images, **call), values)
    net.zero_grad(set_to_none=True)
    _check_critic(case, criteria["adv"], net, call, values)


def _check_generator(case, criteria, critic, values):
    sr, gt = values["fake"].requires_grad_(), values["real"]
    terms = {
        "pixel": F.l1_loss(sr, gt),
        "adv": criteria["adv"](critic(sr), target_is_real=True),
        "perceptual": criteria["perceptual"](sr, gt),
    }
    if "heatmap" in criteria:
        maps = criteria["heatmap"].aligner.pair(sr, gt)
        terms |= {name: criteria[name](sr, gt, maps) for name in ("heatmap", "attention")}
    total = sum(case.meta["weights"][_TERMS[name]] * term for name, term in terms.items())
    total.backward()
    for name, term in [*terms.items(), ("total", total)]:
        check_output(case, f"g/{name}", term.detach(), "loss.score" if name == "adv" else "loss.objective")
    check_output(case, "g/grad_fake", sr.grad, "loss.gradient")
    check_output(case, "g/grad_fake_norm", sr.grad.norm(), "loss.gradient")


def _check_critic(case, gan, net, call, values):
    """Compare terms and gradients of two passes over real and restored images, then those of one pass over both."""
    sr, gt = values["fake"].detach(), values["real"]

    def critic(images):
        return net(images, **call)

    fake, real = critic(sr), critic(gt)
    penalty, norms = _penalty(gan, critic, gt, sr, values["eps"])
    terms = {
        "fake_mean": gan(fake, False, is_disc=True),
        "real_mean": -gan(real, True),
        "real_sq_mean": WGANGPLoss(drift_weight=1.0)(real, True, is_disc=True) - gan(real, True),
        "gp_norms": norms,
        "gp": penalty / gan.gp_weight,
        "gp_one_sided_old": (norms.mean() - 1).clamp(min=0),  # the first version's, which nothing here uses
    }
    for name, value in terms.items():
        check_output(case, f"d/{name}", value.detach(), "loss.score")
    merged = net(torch.cat([sr, gt]), **call, groups=2).chunk(2)
    for scores, limit in (((fake, real), "gradient.norm"), (merged, "gradient.norm.merged")):
        net.zero_grad(set_to_none=True)
        total = gan(scores[0], False, is_disc=True) + gan(scores[1], True, is_disc=True) + penalty
        total.backward(retain_graph=True)
        check_output(case, "d/total", total.detach(), "loss.score")
        check_norms(case, "d/grad_norms", net, CRITIC_KEYS, limit)


def _penalty(gan, critic, gt, sr, share):
    """Return the weighted penalty with the given shares, and the norms of the gradient."""
    norms = penalty_norms(critic, gt, sr, share)[0].detach()
    with mock.patch.object(torch, "rand", return_value=share):
        return gan.gradient_penalty(critic, gt, sr), norms


def _criteria(folder, meta):
    def write(network):
        return _write(folder, meta["keys"][network], meta, meta["gain"][network])

    criteria = {"adv": WGANGPLoss(), "perceptual": FacePerceptualLoss(**PERCEPTUAL, weights=write("VGG16"))}
    if "compressed FAN" in meta["keys"]:
        fan = {"weights": write("compressed FAN"), "mode": meta["fan_mode"]}
        criteria["heatmap"] = FaceHeatmapLoss(**fan, normalisation="official")
        criteria["attention"] = FacialAttentionLoss(**fan)
    return criteria


def _write(folder, keys, meta, gain):
    """Write filled weights under their official names."""
    path = Path(folder) / f"{len(keys)}.pth"
    torch.save(fill_official(keys, seed=meta["seed"], gain=gain), path)
    return path


def _read(item, seed):
    """Evaluate a recipe that may square a value several times: ``v = ...; six times v = v*v; then ..., in float32``."""
    first, *rest = item["recipe"].removeprefix("v = ").split("; ")
    names = {name: item[name] for name in ("name", "shape")} | {"seed": seed}
    value = evaluate(first, dict(names))
    if rest:
        squares, last = rest
        for _ in range({"six times v = v*v": 6}[squares]):
            value = value * value
        value = evaluate(re.fullmatch(r"then (.+), all in float32", last)[1], {"v": value})
    return torch.from_numpy(value)
