"""Options of a training that change how fast it computes: what they may be, and what they set in torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from facesr_plugin.models.building import build_optimizer
from facesr_plugin.utils.option_file import nearest
from facesr_plugin.utils.text import plain_line

FLAGS = ("tf32", "channels_last")
_COMPILE_KEYS = ("backend", "mode", "options", "dynamic", "fullgraph")
_GRAPH_MODES = ("reduce-overhead", "max-autotune")  # keep results in memory that the next call overwrites
_RECOMPILATIONS = 64  # the progressive networks have several forms in each stage; torch gives up after 8
_PREFETCH_MODES = (None, "cpu", "cuda")


def find_speed_problems(options: Mapping[str, Any]) -> Iterator[str]:
    """Say which options cannot work here: flags, ``train.compile``, optimisers, ``prefetch_mode``.

    Args:
        options: An option file's, or what BasicSR made of it; ``dist`` is known to the latter only.
    """
    train = options["train"]
    for name in FLAGS:
        if not isinstance(train.get(name), bool | None):
            yield f"train.{name} must be true or false, got {train[name]!r}"
    yield from _find_compile_problems(options)
    yield from _find_optimizer_problems(options)
    yield from _find_prefetch_problems(options)


def _device(options: Mapping[str, Any]) -> str:
    return "cuda" if options.get("num_gpu") != 0 and torch.cuda.is_available() else "cpu"


# TF32


def set_tf32(allowed: bool) -> None:
    """Let Nvidia's matrix units round factors of float32 products to 10 bits, or not, in the whole process.

    Torch itself allows it for convolutions. Torch 2.9 has new names for both switches, which follow these.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


# torch.compile


def read_compile(value: Any) -> dict[str, Any] | None:
    """Arguments for ``nn.Module.compile`` from ``train.compile``; None for off."""
    return dict(value) if isinstance(value, Mapping) else {} if value else None


def compile_networks(networks: Iterable[nn.Module], value: Any) -> None:
    """Compile networks in place: keys of their states, copies and wrappers stay as they are.

    Args:
        networks: Bare ones.
        value: ``train.compile``.
    """
    settings = read_compile(value)
    if settings is None:
        return
    config = torch._dynamo.config
    setattr(config, "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit", _RECOMPILATIONS)
    for net in networks:
        net.compile(**settings)


def uncompiled(value: Any) -> AbstractContextManager:
    """Context in which compiled networks run as they are written: one forward of each size is not worth a compilation.

    Args:
        value: ``train.compile``.
    """
    return nullcontext() if read_compile(value) is None else torch.compiler.set_stance("force_eager")


def _find_compile_problems(options: Mapping[str, Any]) -> Iterator[str]:
    value = options["train"].get("compile")
    if not isinstance(value, bool | dict | None):
        yield f"train.compile must be true, false or a section of torch.compile's arguments, got {value!r}"
        return
    settings = read_compile(value)
    if settings is None:
        return
    problems = [
        f"train.compile has no option {key!r}{nearest(key, _COMPILE_KEYS)}. Known: {', '.join(_COMPILE_KEYS)}"
        for key in settings
        if key not in _COMPILE_KEYS
    ]
    problems += _find_graph_problems(options, settings)
    yield from problems or _try_compiler(settings, _device(options))


def _find_graph_problems(options: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    """What torch.compile can do and a training cannot."""
    if not hasattr(torch.compiler, "set_stance"):
        yield f"train.compile must be false with torch {torch.__version__}: it needs 2.6 or newer"
    if options.get("dist") is False and options["num_gpu"] > 1:
        yield f"train.compile needs one process per GPU (torchrun), got num_gpu: {options['num_gpu']} in one process"
    for name in (name for name in options if name.startswith("network_")):
        if (options[name] or {}).get("checkpointing"):
            yield f"{name}.checkpointing must be false with train.compile, which chooses itself what to compute again"
    mode, graphs = settings.get("mode"), (settings.get("options") or {}).get("triton.cudagraphs")
    if _device(options) == "cuda" and (mode in _GRAPH_MODES or graphs):
        yield (
            f"train.compile must not use CUDA graphs, whose results are gone with the next call, got {dict(settings)}. "
            "Set mode: max-autotune-no-cudagraphs."
        )


def _try_compiler(settings: Mapping[str, Any], device: str) -> Iterator[str]:
    """Compile two operations and their gradient, so that what is missing here shows before the first iteration."""
    values = torch.ones(2, device=device, requires_grad=True)
    try:
        torch.compile(_sample_of_work, **settings)(values).backward()
    except Exception as error:  # compilers fail in many ways, also by errors of their own
        yield (
            f"train.compile: torch cannot compile here with {dict(settings) or 'its defaults'}: "
            f"{plain_line(str(error), 500).rstrip('.')}. Remove train.compile, or install what is missing"
        )


def _sample_of_work(values: torch.Tensor) -> torch.Tensor:
    return (values.sigmoid() * 2).sum()


# Optimisers and loaders


def _find_optimizer_problems(options: Mapping[str, Any]) -> Iterator[str]:
    """What torch's optimisers do not take, tried on one weight."""
    for name in ("optim_g", "optim_d"):
        settings = dict(options["train"].get(name) or {})
        if not settings or isinstance(settings.get("lr"), str):  # reported elsewhere
            continue
        weight = nn.Parameter(torch.ones(1, device=_device(options)))
        try:
            build_optimizer(settings.pop("type", None), [weight], **settings)
        except (TypeError, ValueError) as error:
            yield f"train.{name}: {error}"


def _find_prefetch_problems(options: Mapping[str, Any]) -> Iterator[str]:
    data = (options.get("datasets") or {}).get("train") or {}
    mode = data.get("prefetch_mode")
    if mode not in _PREFETCH_MODES:
        yield f"datasets.train.prefetch_mode must be cpu, cuda or ~, got {mode!r}"
    if mode != "cuda":
        return
    if _device(options) != "cuda":
        yield "datasets.train.prefetch_mode must be cpu or ~ without a GPU, got 'cuda'"
    if data.get("pin_memory") is not True:
        yield (
            "datasets.train.pin_memory must be true for prefetch_mode cuda, which copies while the GPU computes, got "
            f"{data.get('pin_memory')!r}"
        )
