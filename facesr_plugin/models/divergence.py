"""Notice a training that is about to explode: networks without normalisation, such as DIC's hourglass, can."""

from __future__ import annotations

from collections.abc import Mapping

from basicsr.utils import get_root_logger

_HUGE = 1e3  # the terms of a sound training are near 1 or below


def warn_of_huge(losses: Mapping[str, float], remedy: str) -> None:
    """Warn of huge losses.

    Args:
        losses: By name.
        remedy: Sentence for the message.
    """
    for name, value in losses.items():
        if abs(value) > _HUGE:
            get_root_logger().warning(f"{name} is {value:.3g}: the training is about to explode. {remedy}")
