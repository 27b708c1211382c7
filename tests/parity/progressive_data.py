"""Adapters of the progressive system's data chain, metrics of its protocol, and schedule."""

import numpy as np

from facesr_plugin.cards import get_card
from facesr_plugin.data.crop import cut, find_window, parse_crop
from facesr_plugin.data.transforms import make_lq, resize
from facesr_plugin.metrics import image_metric
from facesr_plugin.utils.option_file import find_shipped, load_option_file
from parity.progressive_case import inputs

CARD = get_card("progressive")


def data_chain(case):
    """From the photograph to the face and its reductions, each from the one before."""
    photo, blocks = (value.numpy() for value in inputs(case).values())
    low = blocks.repeat(8, 0).repeat(8, 1)[: photo.shape[0], : photo.shape[1]]
    image = np.floor(180 * low + 75 * photo).astype(np.uint8)
    window = find_window(image.shape[:2], parse_crop("celeba178"), None)
    case.check("crop", [window.top, window.left], case.meta["crop_origin_top_left"], "exact")
    gt = cut(image, window, CARD.gt_size, CARD.reduction.kernel)
    case.check_array("gt128", gt, "data")
    for name, scale in (("gt64", 2), ("gt32", 4), ("lq16", 8)):
        case.check_array(name, make_lq(gt, scale, CARD.reduction), "data")
    direct = resize(gt, (16, 16), "bilinear")
    case.check_array("direct16", direct, "data")
    off = np.abs(make_lq(gt, 8, CARD.reduction).astype(int) - direct).max()
    case.check("difference of the chain", off, case.meta["max_abs_difference_lq16_direct16"], "exact")


def metrics(case):
    """PSNR, SSIM and MS-SSIM of images that were neither cut nor rounded: three with growing errors per size."""
    given = inputs(case)
    share = (0.1 + 0.15 * np.arange(3, dtype=np.float32)).reshape(3, 1, 1, 1)
    for size in (128, 64, 176):
        gt, noise = (2 * given[f"{name}_{size}"].numpy() - 1 for name in ("target", "noise"))
        sr = np.float32(1.1) * ((1 - share) * gt + share * noise)
        sr, gt = (255 * (0.5 * images.astype(np.float64) + 0.5) for images in (sr, gt))
        found = {
            "psnr": image_metric.psnr(sr, gt),
            "psnr_per_image": np.mean([image_metric.psnr(*pair) for pair in zip(sr, gt, strict=True)]),
            "ms_ssim": image_metric.ms_ssim(sr, gt),
            "ms_ssim_textbook": image_metric.ms_ssim(sr, gt, "textbook"),
        }
        for i, scale in enumerate(image_metric.scale_similarities(sr, gt)):
            found |= {f"scale{i}_ssim": scale.whole, f"scale{i}_cs": scale.contrast}
        found["ssim"] = found["scale0_ssim"]
        for name, value in found.items():
            case.check_array(f"{size}/{name}", value, "metric")


def schedule(case):
    """Step, iteration in the step and alpha of the published option file."""
    from facesr_plugin.models.stages import read_schedule  # BasicSR

    options = load_option_file(find_shipped("progressive"))
    found = read_schedule(options)
    case.check("total", options["train"]["total_iter"], case.meta["max_iter"], "exact")
    for row in case.meta["rows"]:
        iteration = row["global_iteration_0_based"] + 1
        place = found.at(iteration)
        case.check(f"step of {iteration}", place.stage.step, row["step"], "exact")
        case.check(f"alpha of {iteration}", place.alpha, row["alpha"], "statistics")
        first = sum(stage.iters for stage in found.stages[: place.stage.step - 1])
        case.check(f"place of {iteration}", iteration - first, row["iteration_in_step_after_increment"], "exact")
