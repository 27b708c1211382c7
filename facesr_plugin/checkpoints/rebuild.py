"""What a weight file's pickle may call: stand-ins for torch's and numpy's rebuild functions, all bounds-checked.

While the pickle runs, tensors are only descriptions (``TensorSpec``); ``materialise`` turns them into tensors once the
storages have been read, and turns the whole result into plain, bounded, acyclic containers.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.unpickle import Global, set_items

MAX_DEPTH = 64
MAX_NODES = 200_000
MAX_DIMENSIONS = 16

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
_DTYPES = {f"torch.{name}": dtype for dtype in _STORAGE_DTYPES.values() for name in [str(dtype).split(".")[1]]}
_NUMPY_SCALARS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})


@dataclass(eq=False)
class Storage:
    """One storage that the pickle declares: ``numel`` elements of ``dtype`` under ``key``."""

    key: str
    dtype: torch.dtype
    numel: int

    @property
    def nbytes(self) -> int:
        """Bytes that the file must hold for it."""
        return self.numel * self.dtype.itemsize


@dataclass(eq=False)
class TensorSpec:
    """A strided window on a storage, checked to lie inside it."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor once it is made contiguous."""
        return math.prod(self.size) * self.storage.dtype.itemsize


@dataclass(eq=False)
class Stub:
    """Inert record of an object whose class the caller allowed: its name, constructor arguments and state."""

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None

    def build_from_pickle(self, state: Any) -> None:
        """Keep what the pickle wanted to set."""
        self.state = state


@dataclass(eq=False)
class NumpyDtype:
    """Stand-in for ``numpy.dtype`` of a plain number."""

    spec: str
    order: str = field(default="<")

    def build_from_pickle(self, state: Any) -> None:
        """Keep the byte order that the pickle wanted to set."""
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", ">", "|"):
            raise UnsupportedCheckpointError("the pickle declares a numpy type that is not a plain number")
        self.order = state[1]

    def resolve(self) -> np.dtype:
        """Return the type itself."""
        return np.dtype(self.spec).newbyteorder(self.order)


class StorageTable:
    """The storages that a pickle has declared, by key."""

    def __init__(self) -> None:
        self.declared: dict[str, Storage] = {}

    def declare(self, key: Any, kind: Any, numel: Any) -> Storage:
        """Return the storage of a persistent id, the same object for the same key.

        Raises:
            UnsupportedCheckpointError: If the id is malformed or contradicts an earlier one.
        """
        if type(kind) is not Global or kind.call is not _refuse_storage:
            raise UnsupportedCheckpointError("the pickle declares a storage whose type is not a torch storage")
        if type(key) is not str or not _is_count(numel):
            raise UnsupportedCheckpointError("the pickle declares a storage with a malformed key or size")
        dtype = _STORAGE_DTYPES[kind.name.rsplit(".", 1)[1]]
        storage = self.declared.setdefault(key, Storage(key, dtype, numel))
        if (storage.dtype, storage.numel) != (dtype, numel):
            raise UnsupportedCheckpointError(f"the pickle declares storage {key[:80]!r} twice, with different sizes")
        return storage


def allowed_globals(stubs: Collection[str] = ()) -> dict[str, Callable[..., Any]]:
    """Return the closed list of globals: full name to our stand-in.

    Args:
        stubs: Further class names that are read as inert ``Stub`` records.
    """
    table: dict[str, Callable[..., Any]] = {
        "collections.OrderedDict": _ordered_dict,
        "collections.Counter": _counter,
        "torch._utils._rebuild_tensor": _rebuild_tensor,
        "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
        "torch._utils._rebuild_parameter": _rebuild_parameter,
        "torch.Size": _size,
        "torch.device": _device,
        "_codecs.encode": _encode,
        "numpy.dtype": _numpy_dtype,
        "numpy.core.multiarray.scalar": _numpy_scalar,
        "numpy._core.multiarray.scalar": _numpy_scalar,
        **{f"{module}.{name}": _refuse_storage for module in ("torch", "torch.cuda") for name in _STORAGE_DTYPES},
        **dict.fromkeys(_DTYPES, _refuse_dtype),
    }
    for name in stubs:
        table[name] = lambda *args, name=name: Stub(name, args)
    return table


def swap_bytes(buffer: bytearray, dtype: torch.dtype) -> None:
    """Reverse the byte order of every element in place (each half of a complex number apart)."""
    width = dtype.itemsize // (2 if dtype.is_complex else 1)
    cells = np.frombuffer(buffer, dtype=np.uint8).reshape(-1, width)
    cells[:] = cells[:, ::-1].copy()


def storage_tensor(storage: Storage, buffer: bytearray, *, big_endian: bool = False) -> Tensor:
    """Turn the bytes of a storage into a flat tensor that shares their memory.

    Raises:
        UnsupportedCheckpointError: If there are not exactly as many bytes as declared.
    """
    if len(buffer) != storage.nbytes:
        raise UnsupportedCheckpointError(
            f"storage {storage.key[:80]!r} must have {storage.nbytes} bytes, the file holds {len(buffer)}"
        )
    if storage.numel == 0:
        return torch.empty(0, dtype=storage.dtype)
    if big_endian != (sys.byteorder == "big"):
        swap_bytes(buffer, storage.dtype)
    if storage.dtype == torch.bool:
        return torch.frombuffer(buffer, dtype=torch.uint8) != 0
    return torch.frombuffer(buffer, dtype=storage.dtype)


def materialise(root: Any, storages: Mapping[Storage, Tensor], max_bytes: int) -> Any:
    """Copy the unpickled object with every ``TensorSpec`` replaced by a tensor.

    Args:
        root: What the pickle built.
        storages: Flat tensor of each declared storage.
        max_bytes: Limit for the sum of the tensors' sizes: tensors may share storages, not multiply them.

    Raises:
        UnsupportedCheckpointError: If the object is cyclic, too deep, too large, or holds something else than
            containers, numbers, text and tensors.
    """
    return _Materialiser(storages, max_bytes).convert(root, 0)


class _Materialiser:
    def __init__(self, storages: Mapping[Storage, Tensor], max_bytes: int) -> None:
        self._storages = storages
        self._bytes_left = max_bytes
        self._nodes_left = MAX_NODES
        self._tensors: dict[int, Tensor] = {}

    def convert(self, value: Any, depth: int) -> Any:
        self._nodes_left -= 1
        if depth > MAX_DEPTH or self._nodes_left < 0:
            raise UnsupportedCheckpointError(
                f"the pickle nests more than {MAX_DEPTH} levels deep, contains itself, or has over {MAX_NODES} values"
            )
        handler = self._HANDLERS.get(type(value))
        if handler is None:
            raise UnsupportedCheckpointError(f"the pickle holds a {type(value).__name__}, which is no part of weights")
        return handler(self, value, depth + 1)

    def _scalar(self, value: Any, _: int) -> Any:
        return value

    def _list(self, value: list, depth: int) -> list:
        return [self.convert(item, depth) for item in value]

    def _tuple(self, value: tuple, depth: int) -> tuple:
        return tuple(self.convert(item, depth) for item in value)

    def _dict(self, value: dict, depth: int) -> dict:
        return {key: self.convert(item, depth) for key, item in value.items()}

    def _counter(self, value: Counter, _: int) -> Counter:
        self._nodes_left -= len(value)
        return value.copy()

    def _stub(self, value: Stub, depth: int) -> Stub:
        return Stub(value.name, self._tuple(value.args, depth), self.convert(value.state, depth))

    def _global(self, value: Global, _: int) -> Any:
        if value.name in _DTYPES:
            return _DTYPES[value.name]
        raise UnsupportedCheckpointError(f"the pickle holds {value.name} itself, which is no part of weights")

    def _tensor(self, spec: TensorSpec, _: int) -> Tensor:
        if id(spec) not in self._tensors:
            self._bytes_left -= spec.nbytes
            if self._bytes_left < 0:
                raise UnsupportedCheckpointError("the tensors together are far larger than the file that holds them")
            flat = self._storages[spec.storage]
            self._tensors[id(spec)] = flat.as_strided(spec.size, spec.stride, spec.offset)
        return self._tensors[id(spec)]

    _HANDLERS = {
        **dict.fromkeys((int, float, bool, str, bytes, type(None), torch.device), _scalar),
        list: _list,
        tuple: _tuple,
        dict: _dict,
        Counter: _counter,
        Stub: _stub,
        Global: _global,
        TensorSpec: _tensor,
    }


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any) -> TensorSpec:
    if type(storage) is not Storage or not _is_count(offset) or not _are_counts(size) or not _are_counts(stride):
        raise UnsupportedCheckpointError("a tensor's offset, sizes and strides must be non-negative integers")
    if len(size) != len(stride):
        raise UnsupportedCheckpointError(f"a tensor has {len(size)} sizes and {len(stride)} strides")
    spec = TensorSpec(storage, offset, size, stride)
    _check_bounds(spec)
    return spec


def _check_bounds(spec: TensorSpec) -> None:
    numel = math.prod(spec.size)
    last = spec.offset + sum((size - 1) * stride for size, stride in zip(spec.size, spec.stride, strict=True))
    fits = last < spec.storage.numel if numel else spec.offset <= spec.storage.numel
    # No more elements than the storage has: an expanded (stride 0) tensor would grow without limit when copied.
    if not fits or numel > spec.storage.numel or math.prod(max(size, 1) for size in spec.size) >= 2**62:
        raise UnsupportedCheckpointError(
            f"a tensor of shape {spec.size}, strides {spec.stride}, offset {spec.offset} does not fit into its "
            f"storage of {spec.storage.numel} elements"
        )


def _are_counts(values: Any) -> bool:
    return type(values) is tuple and len(values) <= MAX_DIMENSIONS and all(_is_count(value) for value in values)


def _rebuild_tensor_v2(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, metadata: Any = None
) -> TensorSpec:
    if hooks or metadata:
        raise UnsupportedCheckpointError("a tensor has hooks, or is a lazy conjugate or negative view. Save a clone")
    return _rebuild_tensor(storage, offset, size, stride)


def _rebuild_parameter(data: Any, requires_grad: Any, hooks: Any) -> TensorSpec:
    if type(data) is not TensorSpec or hooks:
        raise UnsupportedCheckpointError("a parameter must be a plain tensor without hooks")
    return data


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    if type(items) not in (list, tuple) or any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in items):
        raise UnsupportedCheckpointError("an OrderedDict must be made of pairs")
    set_items(mapping, [(key, value) for key, value in items])
    return mapping


def _counter(counts: Any = None) -> Counter:
    """The milestones of BasicSR's schedulers, in training states."""
    if type(counts) is not dict or any(type(value) is not int for item in counts.items() for value in item):
        raise UnsupportedCheckpointError("a Counter must map integers to integers")
    return Counter(counts)


def _size(values: Any = ()) -> tuple[int, ...]:
    if not _are_counts(values):
        raise UnsupportedCheckpointError("a torch.Size must hold non-negative integers")
    return values


def _device(kind: Any, index: Any = None) -> torch.device:
    if kind not in ("cpu", "cuda") or type(index) not in (int, type(None)):
        raise UnsupportedCheckpointError(f"a torch.device must be cpu or cuda, got {str(kind)[:40]!r}")
    return torch.device("cpu")


def _encode(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding != "latin1":
        raise UnsupportedCheckpointError("bytes must be written as latin1 text")
    return text.encode("latin1")


def _numpy_dtype(spec: Any, *_: Any) -> NumpyDtype:
    if spec not in _NUMPY_SCALARS:
        raise UnsupportedCheckpointError(f"the pickle holds a numpy value of type {str(spec)[:40]!r}, not a number")
    return NumpyDtype(spec)


def _numpy_scalar(dtype: Any, data: Any) -> bool | int | float:
    if type(dtype) is not NumpyDtype or type(data) not in (bytes, str):
        raise UnsupportedCheckpointError("a numpy scalar must be a type and its bytes")
    raw = data.encode("latin1") if isinstance(data, str) else data
    kind = dtype.resolve()
    if len(raw) != kind.itemsize:
        raise UnsupportedCheckpointError(f"a numpy scalar of type {dtype.spec} has {len(raw)} bytes")
    return np.frombuffer(raw, dtype=kind)[0].item()


def _refuse_storage(*_: Any) -> None:
    raise UnsupportedCheckpointError("the pickle creates a storage of its own")


def _refuse_dtype(*_: Any) -> None:
    raise UnsupportedCheckpointError("the pickle calls a torch dtype")
