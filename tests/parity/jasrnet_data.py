"""JASRNet's metrics, and its way from files to tensors, against their references."""

import numpy as np
import torch

from facesr_plugin.cards import get_card
from facesr_plugin.data.base import to_tensor
from facesr_plugin.data.face_crop import Framed, forget_outside, mirror
from facesr_plugin.data.transforms import hflip
from facesr_plugin.metrics.jasrnet_metric import calculate_jasrnet_box_psnr, calculate_jasrnet_box_ssim
from facesr_plugin.metrics.landmark_metric import calculate_landmark_auc, ced_curve, landmark_errors
from facesr_plugin.ops.heatmap_targets import render_targets
from facesr_plugin.ops.protocol import prepare_input, to_uint8
from helpers.fill import uniform

CARD = get_card("jasrnet")
NORMALISERS = {68: "inter_ocular", 19: "box"}
_THRESHOLDS = 2000


def landmark_error(case):
    """Errors of twelve faces with hidden points, and the aggregates of all of them."""
    gt, pred = case.arrays["gt"], case.arrays["pred"]
    boxes = np.concatenate([gt[:, :2].min(2), gt[:, :2].max(2)], axis=1)
    faces = {"visible": gt[:, 2] > 0, "boxes": boxes, "normaliser": NORMALISERS[case.meta["N"]]}
    points, reference = (values[:, :2].transpose(0, 2, 1) for values in (pred, gt))
    errors = landmark_errors(points, reference, **faces)
    case.check_array("nme", errors, "metric")
    case.check_array("acc_008", 100.0 * (errors < 0.08), "exact")
    stated = case.meta["aggregate"]
    case.check("nme_percent", 100 * errors.mean(), stated["nme_percent"], "jasrnet.percent")
    for name, limit in (("007", 0.07), ("008", 0.08)):
        thresholds = np.linspace(0, limit, _THRESHOLDS)
        curve = ced_curve(errors, thresholds)
        area = ((curve[1:] + curve[:-1]) * np.diff(thresholds)).sum() / 2 / limit
        case.check(f"auc_{name}", 100 * area, stated[f"auc_{name}_percent"], "jasrnet.percent")
        exact = calculate_landmark_auc(points, reference, limit=limit, **faces)
        case.check(f"exact auc_{name}", 100 * exact, stated[f"auc_{name}_percent"], "jasrnet.threshold")
        accuracy = 100 * ced_curve(errors, np.array(limit))
        case.check(f"acc_{name}", accuracy, stated[f"acc_{name}_percent"], "jasrnet.percent")


def image_metrics(case):
    """PSNR and SSIM with both windows inside three boxes, one larger than the image."""
    sr, gt = (case.arrays[f"{name}_u8"][0].transpose(1, 2, 0)[..., ::-1] for name in ("sr", "hr"))
    boxes = [np.array(box) for box in case.meta["boxes"]]
    corners = [box.reshape(2, 2) for box in boxes]
    psnr = [calculate_jasrnet_box_psnr(sr, gt, points) for points in corners]
    case.check_array("psnr", psnr, "jasrnet.psnr")
    for taps in (11, 13):
        options = {"form": "official", "taps": taps}
        ssim = [calculate_jasrnet_box_ssim(sr, gt, points, **options) for points in corners]
        case.check_array(f"ssim_{taps}tap", ssim, "metric")


def pipeline(case):
    """From uint8 images and points to the network's input, targets and mask; in training mirrored as released."""
    lq, gt, points = _files(case)
    case.check_array("points_in", np.concatenate([points.T, np.ones((1, len(points)))]), "jasrnet.moved")
    if case.meta["flip"]:
        lq = hflip(lq)
        gt, points = mirror(Framed(gt, points), released=True)
    shown = forget_outside(points, gt.shape[:2])
    flags = np.isfinite(shown).all(-1)
    case.check_array("points_out", np.concatenate([points.T, flags[None]]), "jasrnet.moved")
    targets = render_targets(torch.from_numpy(shown)[None], gt.shape[:2])
    case.check_array("heatmap", targets.heatmaps[0], "jasrnet.targets")
    case.check_array("mask", targets.mask.flatten(), "exact")
    network_input = prepare_input(to_tensor(lq)[None], CARD)[0]
    case.check_array("lr_large_u8", to_uint8(network_input).permute(1, 2, 0), "jasrnet.image")
    case.check_array("lr_large_checksum", network_input.double().mean()[None], "jasrnet.checksum")
    hr = to_tensor(gt)
    checksum = torch.stack([hr.double().sum(), hr[0, 5, 7].double(), hr[2, 100, 33].double()])
    case.check_array("hr_checksum", checksum, "jasrnet.checksum")


def _files(case):
    """Small and large image, ``(H, W, 3)`` uint8, and points ``(K, 2)`` in pixels of the large one."""
    meta = case.meta
    seed, height, width = meta["seed"], meta["lh"], meta["lw"]
    lq, gt = (
        np.floor(uniform(name, (scale * height, scale * width, 3), seed) * 256).astype(np.uint8)
        for name, scale in (("lr", 1), ("hr", 8))
    )
    side = np.array([[8 * width], [8 * height]])
    unit = uniform("pts", (2, meta["N"]), seed)
    return lq, gt, (unit * np.float32(1.2 * side) - np.float32(0.1 * side)).T.astype(np.float32)
