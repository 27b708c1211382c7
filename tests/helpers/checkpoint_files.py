"""Weight files for tests: official state dicts by key list, and archives made byte by byte."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from functools import cache
from pathlib import Path

import torch

from helpers.fill import fill_state

DATA = Path(__file__).parents[1] / "data"
OFFICIAL = json.loads((DATA / "checkpoints" / "sparnet_official_keys.json").read_text())


def official_state(name: str) -> dict[str, torch.Tensor]:
    """Return an official SPARNet state dict (keys, order and shapes as released); the tiny ones are filled."""
    return dict(_official_state(name))


@cache
def _official_state(name: str) -> dict[str, torch.Tensor]:
    shapes = {key: tuple(shape) for key, shape in OFFICIAL[name]["state_dict"]}
    if name.startswith("tiny"):
        return {key: torch.from_numpy(value.copy()) for key, value in fill_state(shapes).items()}
    return {key: torch.zeros(shape, dtype=_dtype(key)) for key, shape in shapes.items()}


def _dtype(key: str) -> torch.dtype:
    return torch.int64 if key.endswith("num_batches_tracked") else torch.float32


def write_zip(path: Path, data_pkl: bytes, members: dict[str, bytes] | None = None, **options: int) -> Path:
    """Write an archive as torch does, with the given pickle and further members."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", data_pkl)
        for name, data in (members or {}).items():
            archive.writestr(f"archive/{name}", data)
    return path


def write_legacy(path: Path, data_pkl: bytes, keys: list[str], storages: bytes) -> Path:
    """Write a stream as torch did before 1.6."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    pickles = [pickle.dumps(value, 2) for value in head]
    path.write_bytes(b"".join([*pickles, data_pkl, pickle.dumps(keys, 2), storages]))
    return path


def text(value: str) -> bytes:
    """Pickle opcode: a string."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    """Pickle opcode: an integer of any size."""
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def integers(values: tuple[int, ...]) -> bytes:
    """Pickle opcodes: a tuple of integers."""
    return b"(" + b"".join(integer(value) for value in values) + b"t"


def tensor_opcodes(
    size: tuple[int, ...],
    stride: tuple[int, ...],
    *,
    offset: int = 0,
    numel: int = 4,
    kind: str = "FloatStorage",
    key: str = "0",
    legacy: bool = False,
) -> bytes:
    """Pickle opcodes of a tensor on a storage of ``numel`` elements."""
    storage = text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + integer(numel)
    pid = b"(" + storage + (b"N" if legacy else b"") + b"tQ"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    return rebuild + b"(" + pid + integer(offset) + integers(size) + integers(stride) + b"\x89}tR"


def pickle_of(opcodes: bytes) -> bytes:
    """Wrap opcodes into a pickle of protocol 2."""
    return b"\x80\x02" + opcodes + b"."


def dict_of(**items: bytes) -> bytes:
    """Pickle opcodes: a dict with text keys."""
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"
