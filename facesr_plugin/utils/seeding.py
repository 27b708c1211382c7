"""One seed for Python's, NumPy's and torch's generators, mixed from several numbers."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_generators(*numbers: int) -> None:
    """Start the generators of this process (torch's of all devices) from a seed that depends on every number."""
    mixed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)
