"""Where and in which precision networks run, and what is refused there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str | torch.device) -> torch.device:
    """Return the device that ``auto`` (the first GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N`` names.

    Raises:
        ValueError: If it is another one, or not present here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type not in ("cpu", "cuda"):  # `meta` computes nothing, others were never run
            raise RuntimeError(device.type)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA raises AssertionError
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N and present here, got {name!r}") from error
    return device


def check_precision(device: torch.device, precision: str) -> None:
    """Refuse what this torch cannot compute on this device; some versions would fall back to fp32 with a warning.

    Raises:
        ValueError: If ``precision`` is not ``fp32``, ``bf16`` or ``fp16``, or cannot be had.
    """
    if precision not in _PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(_PRECISIONS)}, got {precision!r}")
    dtype = _PRECISIONS[precision]
    if dtype == torch.float32:
        return
    try:
        with torch.autocast(device.type, dtype=dtype):
            sample = torch.zeros(1, 1, 3, 3, device=device)
            done = nn.functional.conv2d(sample, sample).dtype
    except RuntimeError:
        done = None
    if done != dtype:
        raise ValueError(
            f"precision {precision} is not available on {device} with torch {torch.__version__}. Use fp32."
        )


@torch.inference_mode()
def run_network(network: Callable[[Tensor], Tensor], images: Tensor, precision: str, load: str) -> Tensor:
    """Return the network's output as float32.

    Args:
        network: On the device of ``images``, with fp32 weights; below fp32 ``torch.autocast`` chooses per operation.
        images: ``(N, 3, H, W)``.
        precision: As for ``check_precision``.
        load: What the user can lower if the memory does not suffice, such as ``batch 16``.

    Raises:
        ValueError: If the output is not finite, or the GPU's memory does not suffice.
    """
    dtype = _PRECISIONS[precision]
    autocast = torch.autocast(images.device.type, dtype=dtype) if dtype != torch.float32 else nullcontext()
    try:
        with autocast:  # torch 2.1 refuses float32 even when it is not enabled
            output = network(images).float()
    except torch.cuda.OutOfMemoryError as error:
        raise ValueError(f"{load} does not fit into the memory of {images.device}. Lower it.") from error
    if not output.isfinite().all():
        raise ValueError(f"the network's output is not finite in {precision}. Check the weights, or use fp32.")
    return output
