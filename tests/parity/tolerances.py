"""How far results may be from the references: one table, family to limit."""

import re
from typing import NamedTuple


class Limit(NamedTuple):
    """Largest difference: ``value``, times the largest reference if ``relative``."""

    value: float
    relative: bool = True


# Float32 with other kernels and thread counts differs by about 2e-6 of an array's largest magnitude.
TOLERANCES = {
    "network": Limit(1e-5),
    "block": Limit(1e-5),
    "statistics": Limit(1e-5),
    "gradient": Limit(1e-5),
    "gradient.norm": Limit(1e-5),
    # Batch statistics pass on rounding to every value, and an activation whose sign it changes moves its gradients:
    # the same to 6e-7 on the references' torch, 2e-3 and 4e-4 apart on torch 2.1 or without oneDNN
    "gradient.train": Limit(5e-3),
    "gradient.train.norm": Limit(1e-3),
    # A pre-activation of 1e-8 that changes its sign moves some gradients in float32 by 1.7e-3; float64 agrees to 1e-5
    "dic.gradient": Limit(2e-5),
    "dic.gradient.small": Limit(1e-3),
    "dic.gradient.float32": Limit(5e-3),
    "dic.gradient.float32.small": Limit(2e-2),
    "exact": Limit(0.0, relative=False),
    "data": Limit(0.0, relative=False),
    "metric": Limit(1e-6, relative=False),
    "dic.train.lr": Limit(1e-9),
    "dic.train.loss": Limit(1e-4),
    "dic.train.logit": Limit(1e-3),
    "dic.train.grad_norm": Limit(2e-3),
    "dic.train.grad_norm.tensor": Limit(5e-3),
    "dic.train.parameters": Limit(1e-5),
    "dic.train.sum": Limit(1e-5, relative=False),
    "dic.train.final": Limit(1e-4, relative=False),
    "dic.penalty": Limit(1e-3),
    "dic.data": Limit(1e-7),  # float64 there and here, stored as float32
    "loss.objective": Limit(1e-5),
    "loss.gradient": Limit(1e-5),
    # scores are sums that nearly cancel: one of 0.2 has the rounding of one of 4 (1e-6)
    "loss.score": Limit(2e-5),
    # the gradients of biases for real and for restored images nearly cancel too (3e-4), unless both are summed apart
    "gradient.norm.merged": Limit(1e-3),
    "loss.gan": Limit(1e-6, relative=False),
    "loss.feature_matching": Limit(1e-6),
    "perceptual.loss": Limit(1e-5),
    "perceptual.feature": Limit(1e-4, relative=False),  # of arrays divided by their deviation
    "perceptual.gradient": Limit(1e-3),
    # OpenCV's vector code and libjpeg's releases round some pixels the other way; a level in JPEG's blocks may grow
    "degradation.image": Limit(1, relative=False),
    "degradation.jpeg": Limit(4, relative=False),
    "degradation.kernel": Limit(1e-6, relative=False),
    "align.matrix": Limit(1e-6, relative=False),
    "align.image": Limit(1, relative=False),  # sums in another order, then truncated
    "jasrnet.targets": Limit(1e-6, relative=False),
    "jasrnet.points": Limit(2e-3, relative=False),  # pixels
    "jasrnet.score": Limit(1e-6, relative=False),
    "jasrnet.loss": Limit(1e-5),
    "jasrnet.moved": Limit(1e-4, relative=False),  # pixels
    "jasrnet.image": Limit(1, relative=False),  # grey levels: OpenCV's vector code rounds some pixels the other way
    "jasrnet.checksum": Limit(1e-6),
    "jasrnet.psnr": Limit(1e-4, relative=False),
    "jasrnet.percent": Limit(1e-4, relative=False),
    "jasrnet.threshold": Limit(100 / 2000, relative=False),  # the released area is a sum over 2000 thresholds
    # Adam's first steps are sign-like: small gradients amplify rounding from step to step
    "train_step.loss.1": Limit(1e-5),
    "train_step.loss.2": Limit(1e-3),
    "train_step.loss.3": Limit(2e-2),
    "train_step.grad_norm.1": Limit(2e-3),
    "train_step.grad_norm.2": Limit(1e-2),
    "train_step.grad_norm.3": Limit(2e-2),
    "train_step.first": Limit(1e-4, relative=False),
    "train_step.param_norm": Limit(1e-3),
    "train_step.final": Limit(0.1, relative=False),
    # two back ends, two threads and float64 stay within 2e-6, 4e-8 and 1.2e-6; Adam without decay, AdamW, other betas
    # and another eps do not stay within these
    "jasrnet.train.loss": Limit(5e-6),
    "jasrnet.train.gradient": Limit(1e-5),
    "jasrnet.train.weights": Limit(5e-7),
    "jasrnet.train.output": Limit(1e-5),
    "progressive.train.1": Limit(1e-3),
    "progressive.train.2": Limit(5e-3),
    "progressive.train.3": Limit(2e-2),
    # a convolution's bias in front of batch norm has a gradient of rounding noise, which Adam turns into a whole step
    "progressive.train.running_mean": Limit(5e-3, relative=False),
}


def find_limit(family, meta):
    """Return the limit of a family, or the one that a reference file states as a number (or in words, ``<= number``).

    Args:
        family: Key of ``TOLERANCES``.
        meta: Fields of the reference file.
    """
    limit, stated = TOLERANCES[family], meta.get("tolerance")
    if family == "exact":  # counts and shapes
        return limit
    if isinstance(stated, str):
        number = re.search(r"<=\s*([0-9.]+(?:e-?\d+)?)", stated)
        stated = float(number[1]) if number else None
    return limit if stated is None else limit._replace(value=float(stated))
