"""Shared set-up: the plugin first (it repairs BasicSR's imports), one thread, no pile-ups; a folder to train in."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

import facesr_plugin  # noqa: E402

__all__ = ["facesr_plugin"]


def pytest_report_header() -> str:
    """Free space, for a reader of failures: a full disk shows itself in many ways."""
    places = (tempfile.gettempdir(), Path.cwd())
    return "free disk: " + ", ".join(f"{shutil.disk_usage(place).free / 1e9:.1f} GB in {place}" for place in places)


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Train in this process below ``tmp_path``; take BasicSR's log handlers away afterwards."""
    from basicsr.utils import logger

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logger, "initialized_logger", {})
    ours = logging.getLogger("basicsr")
    handlers, propagate = list(ours.handlers), ours.propagate
    yield tmp_path
    for handler in set(ours.handlers) - set(handlers):
        handler.close()
    ours.handlers, ours.propagate = handlers, propagate


@pytest.fixture(autouse=True)
def _no_training_goes_on() -> Iterator[None]:
    """End what a test began with BasicSR's ``parse_options`` alone: the next model would take over the signals."""
    yield
    from facesr_plugin.utils.stopping import STOP

    STOP.end()
