"""The two forms without a pickle: safetensors and npz."""

from __future__ import annotations

import io
import math
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError

_NPY_LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4}
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>|=](?:b1|[iu][1248]|f[248]|c8|c16))', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}(?:, \d{1,18}){0,15},?)?)\), \}\s*"
)
_MAX_NPY_HEADER = 2**16


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file, and its metadata.

    Raises:
        UnsupportedCheckpointError: If the file is damaged.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OverflowError, OSError) as error:
        raise UnsupportedCheckpointError(f"its safetensors data is damaged: {str(error)[:160]}") from error


def looks_like_safetensors(path: Path) -> bool:
    """Whether the file starts with a header length that fits, followed by JSON."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size - 8


def read_npz(path: Path, archive: zipfile.ZipFile) -> dict[str, Tensor]:
    """Return the arrays of an npz archive as tensors; names are those that ``numpy.savez`` was given.

    Raises:
        UnsupportedCheckpointError: If an array is not of numbers, or larger or smaller than its header says.
    """
    infos = archive.infolist()
    if len({info.filename for info in infos}) != len(infos):
        raise UnsupportedCheckpointError("its zip archive has two members of the same name")
    if sum(info.file_size for info in infos) > 64 * path.stat().st_size + 2**26:
        raise UnsupportedCheckpointError("its arrays declare far more bytes than the file can hold")
    tensors = {}
    for info in infos:
        with archive.open(info) as file:
            tensors[info.filename.removesuffix(".npy")] = _array(info.filename, file.read())
    return tensors


def is_npz(archive: zipfile.ZipFile) -> bool:
    """Whether every member of the archive is an npy file."""
    names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def _array(name: str, data: bytes) -> Tensor:
    stream = io.BytesIO(data)
    shape, fortran, dtype = _header(stream)
    count = math.prod(shape)
    if count * dtype.itemsize != len(data) - stream.tell():
        raise UnsupportedCheckpointError(f"its array {name[:80]!r} does not have the size that its header says")
    array = np.frombuffer(data, dtype=dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
    try:
        return torch.from_numpy(np.array(array, dtype=dtype.newbyteorder("="), order="C"))
    except TypeError as error:
        raise UnsupportedCheckpointError(f"its array {name[:80]!r} has the type {dtype}, unknown to torch") from error


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read an npy header as numpy writes it; numpy's own reader evaluates it as Python text."""
    magic, version = stream.read(6), stream.read(2)
    length = int.from_bytes(stream.read(_NPY_LENGTH_BYTES.get(version, 0)), "little")
    match = _NPY_HEADER.fullmatch(stream.read(min(length, _MAX_NPY_HEADER)))
    if magic != b"\x93NUMPY" or match is None:
        raise UnsupportedCheckpointError("its arrays are damaged, or not of plain numbers")
    shape = tuple(int(size) for size in match[3].replace(b",", b" ").split())
    return shape, match[2] == b"True", np.dtype(match[1].decode())
