"""Discriminators, feature network and losses of DIC and DICGAN against their references."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from basicsr.losses import build_loss

from facesr_plugin.checkpoints import from_official, to_official
from facesr_plugin.losses.lightcnn_loss import LightCNNFeatureLoss
from facesr_plugin.losses.wgan_gp_loss import penalty_norms
from facesr_plugin.models.dicgan_model import DICGANModel
from facesr_plugin.registry import ARCH_REGISTRY
from helpers.fill import uniform
from parity.dic_case import MEAN, check_output, filled, inputs

_GAIN = 1.2
_STEPS = 4
_ALIGN_WEIGHT = 0.1
_GAN_TYPES = {"vanilla": "vanilla", "lsgan": "lsgan", "wgan-gp": "wgan"}  # the penalty is a term of its own


def _build(weights, state_dict):
    converted = from_official("dic", filled(weights, state_dict))
    net = ARCH_REGISTRY.get(converted.arch)(**converted.args)
    net.load_state_dict(converted.state_dict)
    return net.eval()


def _build_case(case):
    net = _build(case.meta["weights"], case.meta["state_dict"])
    count = sum(parameter.numel() for parameter in net.parameters())
    case.check("number of parameters", count, case.meta["parameters"], "exact")
    return net


@torch.no_grad()
def discriminator(case):
    """Logits, and the features from which they come."""
    net, image = _build_case(case), inputs(case)["image"]
    check_output(case, "logits", net(image), "network")
    check_output(case, "features", net.features(image), "network")


@torch.no_grad()
def features(case):
    """Features of images of two sizes, one of which the halvings do not divide."""
    net, values = _build_case(case), inputs(case)
    check_output(case, "features", net(values["image"]), "network")
    check_output(case, "features_odd", net(values["image_odd"]), "network")


@torch.no_grad()
def unet(case):
    """Features, and the map unless the network has none."""
    found = _build_case(case)(inputs(case)["image"], features=True)
    for i, feat in enumerate(found.features):
        check_output(case, f"feature{i}", feat, "network")
    assert (found.logits is None) == ("recon" not in case.meta["outputs"])
    if found.logits is not None:
        check_output(case, "recon", found.logits, "network")


def losses(case):
    """Adversarial terms, the penalty, the feature loss, and the sums over steps."""
    seed = case.meta["input"]["seed"]
    for name, gan_type in _GAN_TYPES.items():
        _check_gan(case, f"gan/{name}/", gan_type, seed)
    _check_penalty(case, seed)
    _check_feature_loss(case, seed)
    _check_sums(case, seed)


def _check_value(case, name, found, family):
    case.check(name, found.detach(), case.meta["outputs"][name]["value"], family)


def _check_gan(case, prefix, gan_type, seed):
    gan = build_loss({"type": "GANLoss", "gan_type": gan_type, "loss_weight": 1.0})
    logits, others = (6 * torch.from_numpy(uniform(name, (4, 1), seed)) - 3 for name in ("logits", "logits2"))
    for target in (True, False):
        x = logits.clone().requires_grad_()
        loss = gan(x, target, is_disc=True)
        loss.backward()
        _check_value(case, f"{prefix}target_{target}", loss, "loss.gan")
        check_output(case, f"{prefix}target_{target}/grad", x.grad, "loss.gan")
    both = gan(logits, True, is_disc=True) + gan(others, False, is_disc=True)
    _check_value(case, f"{prefix}d_loss_real_logits_fake_logits2", both, "loss.gan")


def _check_penalty(case, seed):
    """The penalty at the images themselves."""
    net, images = _build_filled("LightCNNDiscriminator", {"image_size": 128}, seed), _image("image", 128, seed)
    norms = penalty_norms(net, images, images, torch.ones(len(images), 1, 1, 1))
    _check_value(case, "gradient_penalty_lightcnn", (norms - 1).square().mean(), "dic.penalty")


def _check_feature_loss(case, seed):
    net = _build_filled("LightCNNFeature", {}, seed + 1)
    sr, gt = _image("sr", 128, seed).requires_grad_(), _image("hr", 128, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "LightCNN_feature.pth"
        torch.save(to_official("dic", net.state_dict(), {}), path)
        l1, l2 = (LightCNNFeatureLoss(weights=path, criterion=criterion) for criterion in ("l1", "l2"))
    loss = l1(sr, gt)
    loss.backward()
    _check_value(case, "feature_l1", loss, "loss.objective")
    _check_value(case, "feature_l1_grad_l2_wrt_sr", sr.grad.norm(), "loss.gradient")
    check_output(case, "feature_l1_grad_wrt_sr", sr.grad, "loss.gradient")
    _check_value(case, "feature_l2", l2(sr, gt), "loss.objective")


def _check_sums(case, seed):
    """The terms of every step, their sum in DIC, and the pixel term of DICGAN as released."""
    images = [_image(f"sr_step{i}", 64, seed) for i in range(_STEPS)]
    maps = [torch.from_numpy(uniform(f"hm_step{i}", (2, 68, 16, 16), seed)) for i in range(_STEPS)]
    gt, target = _image("hr64", 64, seed), torch.from_numpy(uniform("gt_hm", (2, 68, 16, 16), seed))
    pixel, align = [F.l1_loss(sr, gt) for sr in images], [F.mse_loss(found, target) for found in maps]
    for i, (one, other) in enumerate(zip(pixel, align, strict=True)):
        _check_value(case, f"pixel_l1_step{i}", one, "loss.objective")
        _check_value(case, f"align_l2_step{i}", other, "loss.objective")
    _check_value(case, "dic_total", sum(pixel) + _ALIGN_WEIGHT * sum(align), "loss.objective")
    released = DICGANModel.pixel_images(SimpleNamespace(opt={"train": {"pixel_steps": "released"}}), images)
    _check_value(case, "dicgan_pixel_as_released", sum(F.l1_loss(sr, gt) for sr in released), "loss.objective")


def _image(name, size, seed):
    return torch.from_numpy(uniform(name, (2, 3, size, size), seed) - MEAN)


def _build_filled(arch, args, seed):
    """Return a network whose official keys no file lists, filled."""
    with torch.device("meta"):
        state = to_official("dic", ARCH_REGISTRY.get(arch)(**args).state_dict(), args)
    shapes = [(key, tuple(value.shape)) for key, value in state.items()]
    return _build({"seed": seed, "gain_by_key_prefix": {"": _GAIN}}, shapes)
