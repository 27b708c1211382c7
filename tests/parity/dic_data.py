"""Adapters of DIC's data preparation and of the metrics of its evaluation."""

import numpy as np
import torch

from facesr_plugin.cards import get_card
from facesr_plugin.data import transforms
from facesr_plugin.data.crop import cut, cut_landmarks, find_window, parse_crop
from facesr_plugin.metrics.dic_metric import calculate_dic_psnr, calculate_dic_ssim
from facesr_plugin.metrics.image_metric import psnr, ssim
from facesr_plugin.metrics.landmark_metric import calculate_nme, calculate_nrmse
from facesr_plugin.ops.color import luma, luma_rounded
from facesr_plugin.ops.heatmap import decode_argmax, decode_two_peaks, render_gaussian
from facesr_plugin.ops.landmark import flip_permutation
from facesr_plugin.ops.protocol import normalise, to_float
from helpers.fill import uniform
from parity.recipes import take_slice

CARD = get_card("dic")
SIDE, STRIDE = CARD.gt_size, 4
_EYES = range(36, 48)


def data(case):
    """Crops with five aspect ratios, and the augmentation of the first."""
    face, points = _stored_face(case.meta["input"])
    plain = None
    for ratio in (1, 0.7, 0.9, 1.2, 1.33):
        patch = transforms.Patch(0, 0, len(face), len(face))
        if ratio != 1:
            patch = transforms.distortion_patch(points, len(face), ratio)
        gt = transforms.cut_patch(face, patch, SIDE)
        lq = transforms.make_lq(gt, CARD.scale, CARD.reduction)
        found = {
            "hr": gt,
            "hr_sum": gt.sum(),
            "lr": lq,
            "landmark": _released(transforms.cut_patch_landmarks(points, patch, SIDE), patch),
        }
        found["heatmap_sigma1"] = _heatmaps(found["landmark"])
        found["heatmap_sigma1_sum"] = found["heatmap_sigma1"].sum()
        for name in [name for name in found if f"ratio_{ratio}/{name}" in case.meta["outputs"]]:
            _check(case, f"ratio_{ratio}/{name}", found[name], "dic.data")
        plain = plain or (gt, lq, found["landmark"])
    tensor = torch.from_numpy(lq).permute(2, 0, 1).unsqueeze(0)
    _check(case, "last_ratio/lr_tensor_normalised", normalise(to_float(tensor), CARD)[0].numpy(), "metric")
    _augmentations(case, *plain)


def _stored_face(recipe):
    """The face that the photograph's box holds, and its landmarks in the face's pixels."""
    seed = recipe["seed"]
    photo = _photo("photo", 218, 178, seed)
    x1, y1, x2, y2 = recipe["bbox"]
    points = uniform("landmark", (68, 2), seed).astype(np.float64)
    points = np.array([x1, y1]) + 6 + points * (np.array([x2 - x1, y2 - y1]) - 12)
    window = find_window(photo.shape[:2], parse_crop("dic"), np.array(recipe["bbox"]))
    return cut(photo, window, window.side, "bicubic"), cut_landmarks(points, window, window.side)


def _photo(name, height, width, seed):
    blocks = uniform(f"{name}_blocks", (-(-height // 8), -(-width // 8), 3), seed)
    blocks = blocks.repeat(8, 0).repeat(8, 1)[:height, :width]
    return np.floor(np.clip(200 * blocks + 55 * uniform(f"{name}_noise", (height, width, 3), seed), 0, 255)).astype(
        np.uint8
    )


def _released(points, patch):
    """Points in the released frame, which scales without half a pixel."""
    factors = np.array([SIDE / patch.width, SIDE / patch.height])
    return points + 0.5 - 0.5 * factors


def _heatmaps(points):
    """Of points in the released frame."""
    return render_gaussian(torch.from_numpy(points[None] / STRIDE), (SIDE // STRIDE,) * 2, 1.0)[0].numpy()


def _augmentations(case, gt, lq, points):
    """The released flip gives eyes wrong numbers and leaves points where they were; its images are right."""
    correct, released = flip_permutation(68), case.arrays["official_hflip_channel_permutation_68"]
    others = np.setdiff1d(np.arange(68), _EYES)
    case.check("mirrored numbers but for the eyes", correct[others], released[others], "exact")
    case.check("mirrored numbers", flip_permutation(68, released=True), released, "exact")
    branches = {"none": (0, 0), "flip": (1, 0), "rot_k1": (0, 1), "rot_k2": (0, 2), "rot_k3": (0, 3)}
    for name, (flips, turns) in {**branches, "flip_rot_k1": (1, 1)}.items():
        images, on_map, kept = (gt, lq), points / STRIDE, points
        if flips:
            images = [transforms.hflip(image) for image in images]
            on_map = transforms.hflip_landmarks(on_map, SIDE // STRIDE, released=True)
            kept = transforms.hflip_landmarks(points, SIDE)[correct] + [1, 0]
        images = [transforms.turn(image, turns) for image in images]
        on_map = transforms.turn_landmarks(on_map, SIDE // STRIDE, turns)
        weights = np.arange(1, images[0].size + 1, dtype=np.int64)
        found = {
            "lr": images[1],
            "hr_checksum": int((images[0].ravel() * weights).sum()) % 1000003,
            "heatmap": _heatmaps(on_map * STRIDE),
            "landmark": kept,
        }
        for part, value in found.items():
            _check(case, f"augment_{name}/{part}", value, "dic.data")


def metrics(case):
    """Images of 128 pixels with errors, and points that random heatmaps give."""
    seed = case.meta["input"]["seed"]
    gt = _photo("gt", SIDE, SIDE, seed)
    error = np.floor((uniform("err", gt.shape, seed) - 0.5) * 40)
    sr = np.clip(gt + error, 0, 255).astype(np.uint8)
    found = {**_image_scores(sr, gt), **_landmark_scores(case, seed)}
    for name, value in found.items():
        _check(case, name, value, "metric")
    # the released code destroys these two by an overflow in RGB, which no script of it uses
    assert set(case.meta["outputs"]) - set(found) == {"psnr_testYfalse_official", "ssim_testYfalse_official"}


def _image_scores(sr, gt):
    given = sr[..., ::-1], gt[..., ::-1]  # BGR
    inside = (slice(8, -8), slice(8, -8))
    exact = [luma(image)[inside] for image in (sr, gt)]
    planes = list(zip(sr[inside].transpose(2, 0, 1), gt[inside].transpose(2, 0, 1), strict=True))
    return {
        "y_of_sr_uint8": luma_rounded(sr),
        "psnr_y_crop8_official": calculate_dic_psnr(*given),
        "psnr_y_crop8_without_wraparound": calculate_dic_psnr(*given),
        "ssim_y_crop8_official": calculate_dic_ssim(*given),
        "ssim_y_crop8_of_256_minus_y": calculate_dic_ssim(*given),
        "ssim_y_crop8_without_wraparound": calculate_dic_ssim(*given, form="plain"),
        "psnr_y_crop8_unrounded_y": psnr(*exact),
        "ssim_y_crop8_unrounded_y": ssim(*exact),
        "psnr_rgb_crop8": psnr(sr[inside], gt[inside]),
        "ssim_rgb_mean_crop8": np.mean([ssim(*pair) for pair in planes]),
    }


def _landmark_scores(case, seed):
    heatmaps = torch.from_numpy(uniform("heatmap_eval", (1, 68, 32, 32), seed))
    reference = 10 + uniform("gt_landmark", (68, 2), seed).astype(np.float64) * 108
    reference[[37, 40], 0], reference[[43, 46], 0] = (40, 50), (75, 90)
    points, peaks = (STRIDE * decode(heatmaps).numpy() for decode in (decode_two_peaks, decode_argmax))
    reference = reference[None]
    width = np.ptp(reference[0, :, 0])
    nrmse = {
        f"nrmse_{name}": calculate_nrmse(points, reference, normaliser=normaliser)
        for name, normaliser in (("width", "width"), ("eye_outer_width", "dic_eye_outer_width"))
    }
    return {
        "landmark_from_heatmap_top2": points[0],
        "peak_points": peaks[0] / STRIDE,
        "rmse": calculate_nrmse(points, reference) * width,
        **nrmse,
        "nrmse_eye_dist": calculate_nrmse(points, reference, normaliser="dic_eye_dist"),
        "nme_interocular_of_peak_points_x4": calculate_nme(peaks, reference, normaliser="dic_inter_ocular"),
    }


def _check(case, name, actual, family):
    """Compare with a stored value, or with the stored part of an array; integers exactly."""
    stated, actual = case.meta["outputs"][name], np.asarray(actual)
    if actual.dtype.kind in "iu":
        family = "exact"
    if "value" in stated:
        case.check(name, actual, stated["value"], family)
        return
    case.check(f"shape of {name}", actual.shape, stated["shape"], "exact")
    case.check_array(name, take_slice(actual, stated["stored_slice"]), family)
