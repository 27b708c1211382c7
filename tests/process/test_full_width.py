"""One real iteration of the published networks: full width, three discriminators, every loss, at 256x256 on a CPU."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from helpers.environments import REPO, run

pytestmark = pytest.mark.process


def test_published_networks_take_an_iteration_at_256(tmp_path: Path) -> None:
    memory = REPO / "scripts" / "benchmark" / "memory.py"
    arguments = ["--size", "256", "--batch", "1", "--iterations", "1", "--row", "published"]
    printed = run([sys.executable, memory, *arguments], cwd=tmp_path, timeout=900, CUDA_VISIBLE_DEVICES="").stdout
    match = re.search(r"published +(\d+) MiB resident", printed)
    assert match, printed
    assert 1500 < int(match[1]) < 8000


def test_memory_estimate_shows_what_checkpointing_saves(tmp_path: Path) -> None:
    memory = REPO / "scripts" / "benchmark" / "memory.py"
    peaks = []
    for row in ("published", "checkpointing: true"):
        arguments = ["--size", "512", "--iterations", "1", "--estimate", "--row", row]
        printed = run([sys.executable, memory, *arguments], cwd=tmp_path, CUDA_VISIBLE_DEVICES="").stdout
        peaks.append(int(re.search(r"(\d+) MiB of tensors", printed)[1]))
    assert peaks[1] < 0.5 * peaks[0]
