"""Read a pickle of plain containers, numbers, text and numpy arrays, the form in which data sets are annotated.

Nothing in the file is executed: the interpreter is that of weight files, with numpy's rebuild functions alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.rebuild import MAX_DEPTH, NumpyDtype, allowed_globals
from facesr_plugin.checkpoints.torch_file import BoundedFile, open_pickle
from facesr_plugin.checkpoints.unpickle import Global, Unpickler

_SHARED_WITH_WEIGHTS = (
    "collections.OrderedDict",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
)


class _Array:
    """Stand-in for ``numpy.ndarray``, filled by the pickle's BUILD."""

    def __init__(self) -> None:
        self.values: np.ndarray | None = None

    def build_from_pickle(self, state: Any) -> None:
        if type(state) is not tuple or len(state) != 5:
            raise UnsupportedCheckpointError("an array must have a version, a shape, a type, an order and bytes")
        _, shape, dtype, fortran, data = state
        if type(dtype) is not NumpyDtype or type(data) not in (bytes, str) or type(shape) is not tuple:
            raise UnsupportedCheckpointError("an array must be of plain numbers")
        raw = data.encode("latin1") if type(data) is str else data
        kind = dtype.resolve()
        if any(type(size) is not int or size < 0 for size in shape) or math.prod(shape) * kind.itemsize != len(raw):
            raise UnsupportedCheckpointError(f"an array of shape {str(shape)[:80]} has {len(raw)} bytes")
        self.values = np.frombuffer(raw, kind).reshape(shape, order="F" if fortran else "C")


def read_numpy_pickle(path: str | os.PathLike) -> Any:
    """Read a pickle of protocol 2 to 4.

    Args:
        path: The file: the pickle alone, or what ``torch.save`` makes of such values.

    Returns:
        Plain dicts, lists, tuples, numbers, text, bytes, and read-only ``np.ndarray`` of numbers.

    Raises:
        FileNotFoundError: If there is no such file.
        UnsupportedCheckpointError: If the file is damaged or holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"pickle must be an existing file, got {str(path)!r}")
    size = path.stat().st_size
    try:
        with open_pickle(path) as file:
            root = Unpickler(_allowed(), max_opcodes=size).load(BoundedFile(file, size, size))
        return _Converter(size).convert(root, 0)
    except UnsupportedCheckpointError as error:
        raise UnsupportedCheckpointError(f"cannot read {str(path)!r}: {error}") from error


def _allowed() -> dict[str, Callable[..., Any]]:
    shared = allowed_globals()
    return {
        **{name: shared[name] for name in _SHARED_WITH_WEIGHTS},
        "numpy.ndarray": _refuse,
        "numpy.core.multiarray._reconstruct": _reconstruct,
        "numpy._core.multiarray._reconstruct": _reconstruct,
    }


def _refuse(*_: Any) -> None:
    raise UnsupportedCheckpointError("the pickle creates an array of its own")


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if type(kind) is not Global or kind.name != "numpy.ndarray":
        raise UnsupportedCheckpointError("the pickle rebuilds something else than a plain numpy array")
    return _Array()


class _Converter:
    """Copies what the pickle built; shared parts cannot multiply it beyond the size of the file."""

    def __init__(self, max_values: int) -> None:
        self._left = max_values

    def convert(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            raise UnsupportedCheckpointError("the pickle nests too deep, contains itself, or repeats its parts")
        kind = type(value)
        if kind in (int, float, bool, str, bytes, type(None)):
            return value
        if kind is _Array and value.values is not None:
            return value.values
        if kind is dict:
            return {key: self.convert(item, depth + 1) for key, item in value.items()}
        if kind in (list, tuple):
            return kind(self.convert(item, depth + 1) for item in value)
        raise UnsupportedCheckpointError(f"the pickle holds a {kind.__name__.strip('_')}, which is no plain data")
