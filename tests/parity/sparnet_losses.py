"""Adapters of SPARNetHD's adversarial losses."""

import torch

from facesr_plugin.losses.feature_matching_loss import SPARNetFeatureMatchingLoss, feature_distance
from facesr_plugin.losses.gan_loss import SPARNetGANLoss
from helpers.fill import uniform
from parity.recipes import assignments

_OBJECTIVES = {"wgangp": "wgan"}  # the released one has no penalty either


def gan(case):
    """Every objective, target and role: value per scale, mean over scales, gradients of the mean."""
    arrays = {}
    for recipe in case.meta["inputs"]:
        name, _, formula = recipe.partition(" = ")
        arrays[name] = assignments(f"pred = {formula}", {"seed": case.meta["seed"]})["pred"]
        case.check_array(name, arrays[name], "exact")
    for name, expected in case.meta["cases"].items():
        objective, target, role = name.split(".")
        loss, is_disc = SPARNetGANLoss(gan_type=_OBJECTIVES.get(objective, objective)), role == "D"
        unhalved = 2 if is_disc else 1  # of L_D = (real + fake) / 2
        scores = [torch.from_numpy(value).requires_grad_() for value in arrays.values()]
        mean = unhalved * loss(scores, target == "real", is_disc)
        mean.backward()
        per_scale = [unhalved * loss(score.detach(), target == "real", is_disc) for score in scores]
        case.check(f"{name}.per_scale", torch.stack(per_scale), expected["per_scale"], "loss.gan")
        case.check(f"{name}.mean", mean.detach(), expected["mean"], "loss.gan")
        norms = [score.grad.norm() for score in scores]
        case.check(f"{name}.grad_norms", torch.stack(norms), expected["grad_norms"], "loss.gan")


def feature_matching(case):
    """Value per scale, weighted total, gradients of the restored image's features only."""
    meta = case.meta
    sr, gt = (_features(name, meta) for name in ("fake", "real"))
    loss = SPARNetFeatureMatchingLoss(loss_weight=meta["lambda_fm"])
    total = loss(sr, gt)
    total.backward()
    per_scale = [feature_distance(*pair).detach() for pair in zip(sr, gt, strict=True)]
    case.check("num_D", len(sr), meta["num_D"], "exact")
    case.check_array("per_scale", torch.stack(per_scale), "loss.feature_matching")
    case.check("per_scale as listed", torch.stack(per_scale), meta["per_scale"], "loss.feature_matching")
    case.check("total", total.detach(), meta["total"], "loss.feature_matching")
    norms = [[layer.grad.norm().item() for layer in scale] for scale in sr]
    case.check("grad_norms", norms, meta["grad_norms"], "loss.feature_matching")
    has_gradient = any(layer.grad is not None for scale in gt for layer in scale)
    case.check("real_has_gradient", has_gradient, meta["real_has_gradient"], "exact")


def _features(name, meta):
    return [
        [
            torch.from_numpy(2 * uniform(f"{name}.{i}.{j}", tuple(shape), meta["seed"]) - 1).requires_grad_()
            for j, shape in enumerate(shapes)
        ]
        for i, shapes in enumerate(meta["shapes"])
    ]
