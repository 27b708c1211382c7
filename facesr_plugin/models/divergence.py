"""Notice a training that explodes: networks without normalisation, such as DIC's hourglass, can."""

from __future__ import annotations

import math
from collections.abc import Mapping

from basicsr.utils import get_root_logger

_HUGE = 1e3  # the terms of a sound training are near 1 or below


def check_losses(losses: Mapping[str, float], remedy: str) -> None:
    """Warn of huge losses.

    Args:
        losses: By name.
        remedy: Sentence for the message.

    Raises:
        ValueError: If one of them is no number: the run cannot recover.
    """
    for name, value in losses.items():
        if not math.isfinite(value):
            raise ValueError(f"losses must be finite, got {name} {value}: the training has exploded. {remedy}")
        if abs(value) > _HUGE:
            get_root_logger().warning(f"{name} is {value:.3g}: the training is about to explode. {remedy}")
