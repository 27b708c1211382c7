"""Which program computes the two operators that exist compiled: BasicSR's extension, mmcv's operators, or PyTorch.

``FACESR_OPS`` chooses: ``auto`` (the default: the first of ``basicsr``, ``mmcv``, ``torch`` that is there) or one of
them. The compiled ones compute on CUDA, in float16, float32 and float64; everything else is PyTorch's, whatever the
choice. They descend from StyleGAN2's code, whose licence is for non-commercial use; ``FACESR_OPS=torch`` does without.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

BACKENDS = ("basicsr", "mmcv", "torch")
NEVER_RUN = ("basicsr", "mmcv")  # no machine of this project had them: tests/ops/test_backends.py compares them
_DTYPES = (torch.float16, torch.float32, torch.float64)
_LARGEST = 2**31 - 1  # the kernels count elements in 32 bits
_EXTENSIONS = {
    "basicsr": ("ops/fused_act/fused_act_ext*", "ops/upfirdn2d/upfirdn2d_ext*"),
    "mmcv": ("_ext*",),
}
_REMEDIES = {
    "basicsr": "BASICSR_EXT=True pip install --no-build-isolation --no-cache-dir basicsr",
    "mmcv": "pip install mmcv",
}


def choose_backend(x: Tensor) -> str:
    """Return the name of the backend for a tensor.

    Raises:
        ValueError: If ``FACESR_OPS`` is no backend's name.
        ImportError: If it names one that is not there, and the tensor is one that it would compute.
    """
    wanted = chosen_backend()
    if wanted == "torch" or x.device.type != "cuda" or x.dtype not in _DTYPES or x.numel() > _LARGEST:
        return "torch"
    if wanted == "auto":
        return next(name for name in BACKENDS if not missing(name))
    if missing(wanted):
        raise ImportError(f"FACESR_OPS is {wanted}, which is {missing(wanted)}")
    return wanted


def chosen_backend() -> str:
    """Return the value of ``FACESR_OPS``: ``auto`` or one of ``BACKENDS``.

    Raises:
        ValueError: If it is anything else.
    """
    wanted = os.environ.get("FACESR_OPS") or "auto"
    if wanted not in ("auto", *BACKENDS):
        raise ValueError(f"FACESR_OPS must be auto, {', '.join(BACKENDS[:-1])} or torch, got {wanted!r}")
    return wanted


@cache
def missing(name: str) -> str:
    """Say why a backend cannot be used (``not installed``, ``not compiled: ...``); empty if it can. Imports nothing."""
    if name == "torch":
        return ""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return "not installed"
    folder = Path(spec.origin).parent
    if name == "basicsr" and os.environ.get("BASICSR_JIT") == "True":  # BasicSR compiles when it is imported
        return ""
    compiled = all(any(folder.glob(pattern)) for pattern in _EXTENSIONS[name])
    return "" if compiled else f"not compiled: {_REMEDIES[name]}"


def describe() -> list[str]:
    """Say in lines what would be used, and what of it was never run."""
    wanted = chosen_backend()
    lines = [f"operators: FACESR_OPS={wanted}; compiled ones are for CUDA, PyTorch's for everything else"]
    for name in BACKENDS:
        state = missing(name) or "available"
        lines.append(f"  {name:8s} {state}" + ("; UNTESTED by this project" if name in NEVER_RUN else ""))
    return lines
