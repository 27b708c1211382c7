"""Adapter of SPARNetHD's perceptual loss."""

import tempfile
from pathlib import Path

import torch

from facesr_plugin.losses.perceptual_loss import SPARNETHD_LAYERS, FacePerceptualLoss, VGGFeatures
from parity.recipes import assignments, take_slice
from parity.weights import fill_official


def perceptual(case):
    """Loss, its terms, its gradient and VGG's features, with filled weights that come from a file."""
    meta = case.meta
    loss = _build_loss(meta)
    case.check("layers", list(loss.layer_weights) == meta["layers"], True, "exact")
    inputs = assignments(meta["inputs"], {"seed": meta["seed"]})
    sr, gt = torch.from_numpy(inputs["x"]).requires_grad_(), torch.from_numpy(inputs["y"])
    seen = []
    loss.vgg.register_forward_hook(lambda _module, _inputs, features: seen.append(features))
    value = loss(sr, gt)
    value.backward()
    wanted, found = seen
    case.check("loss", value.detach(), meta["loss"], "perceptual.loss")
    for layer, expected in zip(meta["layers"], meta["per_layer"], strict=True):
        term = (found[layer].detach() - wanted[layer]).abs().mean()
        case.check(f"term of {layer}", term, expected, "perceptual.loss")
    for layer, (name, shape, text, statistics) in zip(meta["layers"], meta["features"], strict=True):
        case.check(f"shape of {name}", found[layer].shape, shape, "exact")
        part, std = take_slice(found[layer].detach().numpy(), text), statistics["std"]
        case.check(name, part / std, case.arrays[name] / std, "perceptual.feature")
    case.check_array("grad_x", take_slice(sr.grad.numpy(), meta["grad_x_slice"]), "perceptual.gradient")
    case.check("norm of grad_x", sr.grad.norm(), meta["grad_x_norm"], "perceptual.gradient")


def _build_loss(meta):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vgg19.pth"
        write_vgg(path, meta["seed"], meta["gain"])
        return FacePerceptualLoss(weights=path)


def write_vgg(path, seed, gain):
    """Write filled weights of VGG19 up to the deepest layer of the loss."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in VGGFeatures("vgg19", SPARNETHD_LAYERS).state_dict().items()}
    torch.save(fill_official(shapes.items(), seed=seed, gain=gain), path)
