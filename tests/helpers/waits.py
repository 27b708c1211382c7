"""Note where a computation would wait for a GPU, on the CPU."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_OPERATORS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select")
_METHODS = ("tolist", "numpy", "cpu", "new_tensor")


class _Watch(TorchDispatchMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in _OPERATORS:
            self._found.append(f"{name} at {_place()}")
        return func(*args, **(kwargs or {}))


@contextmanager
def watched_waits() -> Iterator[list[str]]:
    """Collect what would read a tensor's values on the host, or wait to bring new ones from there, and where."""
    found: list[str] = []

    def noted(name: str, method: Any) -> Any:
        def call(tensor: Tensor, *args: Any, **options: Any) -> Any:
            if name != "to" or _copies_and_waits(*args, **options):
                found.append(f"{name} at {_place()}")
            return method(tensor, *args, **options)

        return call

    methods = {name: noted(name, getattr(Tensor, name)) for name in (*_METHODS, "to")}
    with mock.patch.multiple(Tensor, **methods), _Watch(found):
        yield found


def _copies_and_waits(*args: Any, non_blocking: bool = False, **options: Any) -> bool:
    """Whether ``Tensor.to``, called by a line of the package, would wait if its device were another one."""
    ours = "facesr_plugin" in traceback.extract_stack(limit=3)[0].filename
    moves = any(isinstance(value, torch.device | str) for value in (*args, *options.values()))
    return ours and moves and not non_blocking


def _place() -> str:
    frames = [frame for frame in traceback.extract_stack() if "facesr_plugin" in frame.filename]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "no line of the package"
