"""Adapter of SPARNetHD's degradation operators."""

import re

import numpy as np

from facesr_plugin.ops import degradation as ops
from parity.recipes import assignments

_MOTION = re.compile(r"motion\.(\d+)\.(-?\d+\.\d+)\.(-?\d+\.\d+)")


def degradation_ops(case):
    """Every operator on the stored image; the parameters stand in the arrays' names."""
    results = _blurs(case) | _resizes(case) | _compressions(case) | _noises(case)
    image = case.arrays["input"]
    results["grayscale"] = ops.to_grey(image)
    for name in case.arrays:
        if name != "input":
            family = {"jpeg": "degradation.jpeg", "noise": "data"}.get(name.partition(".")[0], "degradation.image")
            case.check_array(name, results[name], "degradation.kernel" if name.endswith(".kernel") else family)


def _blurs(case):
    image, results = case.arrays["input"], {}
    for name in case.arrays:
        kind, _, rest = name.partition(".")
        if kind == "gauss":
            size = ops.gaussian_kernel_size(float(rest))
            case.check(f"kernel size of {name}", size, case.meta["params"][name]["ksize"], "exact")
            results[name] = ops.blur_gaussian(image, float(rest))
        elif kind in ("avg", "median"):
            results[name] = {"avg": ops.blur_average, "median": ops.blur_median}[kind](image, int(rest))
        elif kind == "motion":
            size, angle, direction = _MOTION.match(name).groups()
            make = ops.motion_kernel if name.endswith(".kernel") else lambda *values: ops.blur_motion(image, *values)
            results[name] = make(int(size), float(angle), float(direction))
    return results


def _resizes(case):
    image, meta = case.arrays["input"], case.meta
    names = [name for name in case.arrays if name.startswith("resize.")]
    results = {name: _resize(image, meta["resize_target"], name.partition(".")[2]) for name in names}
    results["resize_up.cubic"] = _resize(case.arrays[meta["resize_up_source"]], meta["resize_up_target"], "cubic")
    return results


def _resize(image, side, kernel):
    return ops.resize_opencv(image, (side, side), kernel)


def _compressions(case):
    results = {}
    for name in [name for name in case.arrays if name.startswith("jpeg.")]:
        quality = ops.jpeg_quality(int(name.partition(".")[2]))
        case.check(f"quality of {name}", quality, case.meta["params"][name]["quality"], "exact")
        results[name] = ops.compress_jpeg(case.arrays["input"], quality)
    return results


def _noises(case):
    field = assignments(case.meta["noise"], {"seed": case.meta["seed"]})["v"].astype(np.float32)
    image = case.arrays["input"]
    return {"noise.rgb": ops.add_field(image, field), "noise.gray": ops.add_field(image, field[:, :, :1])}
