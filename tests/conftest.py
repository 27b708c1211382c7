"""Shared set-up: the plugin first (it repairs BasicSR's imports), one thread, no worker pile-ups."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import facesr_plugin  # noqa: E402

__all__ = ["facesr_plugin"]
