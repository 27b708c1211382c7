"""Processes that start in tenths of a second: forked by a server that has imported what they need."""

import multiprocessing
import sys

SERVER = multiprocessing.get_context("forkserver" if sys.platform != "win32" else None)
if sys.platform != "win32":  # one list for all tests, since there is one server
    SERVER.set_forkserver_preload(
        ["pytest", "facesr_plugin.cli", "facesr_plugin.pipeline.detector", "facesr_plugin.pipeline.landmark_heads"]
        + [f"facesr_plugin.data.{name}" for name in ("prepare_ffhq", "prepare_synthetic")]
        + ["facesr_plugin.models", "facesr_plugin.train", "basicsr.train", "torch._dynamo"]
    )
