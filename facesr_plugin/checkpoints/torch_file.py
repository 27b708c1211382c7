"""The two forms of ``torch.save``: zip archives (torch >= 1.6) and the older stream of pickles and raw storages.

Both are read by ``unpickle`` and ``rebuild`` alone, with the same result on every torch; ``torch.load`` is not used,
since its ``weights_only`` mode was no boundary in torch <= 2.5.1.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.rebuild import Storage, StorageTable, allowed_globals, materialise, storage_tensor
from facesr_plugin.checkpoints.unpickle import Global, Unpickler

MAX_PICKLE_BYTES = 64 * 2**20
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LEGACY_HEADERS = 2  # pickles between the magic number and the contents: the protocol and the machine
_TORCHSCRIPT_MEMBERS = ("constants.pkl", "code", "bytecode.pkl", "model.json", "attributes.pkl")
# Everything that zipfile raises on damaged archives.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def read_zip(path: Path, archive: zipfile.ZipFile, stubs: Collection[str]) -> Any:
    """Read the zip form.

    Raises:
        UnsupportedCheckpointError: If the archive is TorchScript, damaged, or not as torch writes it.
    """
    root, members = _members(path, archive)
    storages = StorageTable()

    def persistent_load(pid: Any) -> Storage:
        if type(pid) is not tuple or len(pid) != 5 or pid[0] != "storage":
            raise UnsupportedCheckpointError("the pickle has a persistent id that is not a storage")
        return storages.declare(pid[2], pid[1], pid[4])

    pickled = _member(archive, members, f"{root}/data.pkl", limit=MAX_PICKLE_BYTES)
    loaded = Unpickler(allowed_globals(stubs), persistent_load).load(io.BytesIO(pickled))
    big_endian = _byteorder(archive, members, root) == "big"
    tensors = {
        storage: storage_tensor(
            storage, _member(archive, members, f"{root}/data/{key}", limit=storage.nbytes), big_endian=big_endian
        )
        for key, storage in storages.declared.items()
    }
    return materialise(loaded, tensors, _tensor_budget(path))


def open_pickle(path: Path) -> BinaryIO:
    """Open a file at the pickle of its contents: a plain pickle, or torch's zip or older stream without tensors.

    Raises:
        UnsupportedCheckpointError: If a zip archive is damaged, or not as torch writes it.
    """
    if zipfile.is_zipfile(path):
        return io.BytesIO(_zipped_pickle(path))
    file = path.open("rb")
    size = path.stat().st_size
    try:
        legacy = Unpickler({}).load(BoundedFile(file, size, MAX_PICKLE_BYTES)) == _LEGACY_MAGIC
    except UnsupportedCheckpointError:
        legacy = False
    if not legacy:
        file.seek(0)
        return file
    for _ in range(_LEGACY_HEADERS):
        Unpickler({}).load(BoundedFile(file, size, MAX_PICKLE_BYTES))
    return file


def _zipped_pickle(path: Path) -> bytearray:
    try:
        with zipfile.ZipFile(path) as archive:
            root, members = _members(path, archive)
            return _member(archive, members, f"{root}/data.pkl", limit=MAX_PICKLE_BYTES)
    except UnsupportedCheckpointError:
        raise
    except ZIP_ERRORS as error:
        raise UnsupportedCheckpointError(f"its zip archive is damaged or truncated: {str(error)[:160]}") from error


def _members(path: Path, archive: zipfile.ZipFile) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    infos = archive.infolist()
    counts = Counter(info.filename for info in infos)
    roots = {PurePosixPath(name).parts[0] for name in counts if PurePosixPath(name).parts}
    root = next(iter(roots), "")
    if len(roots) == 1 and any(f"{root}/{name}" in counts for name in _TORCHSCRIPT_MEMBERS if name != "code"):
        raise UnsupportedCheckpointError(
            "it is a TorchScript archive, which holds code. Save the state_dict() of the original module"
        )
    unsafe = [name for name in counts if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts]
    if unsafe or len(roots) != 1 or f"{root}/data.pkl" not in counts:
        raise UnsupportedCheckpointError("it is a zip archive, but not one that torch.save wrote")
    if max(counts.values()) > 1:
        raise UnsupportedCheckpointError("its zip archive has two members of the same name")
    if any(info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size for info in infos):
        raise UnsupportedCheckpointError(
            "its zip members are compressed; torch.save stores them. Save it again with torch"
        )
    if sum(info.file_size for info in infos) > path.stat().st_size:
        raise UnsupportedCheckpointError("its zip members declare more bytes than the file has")
    return root, {info.filename: info for info in infos}


def _member(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str, *, limit: int) -> bytearray:
    """Read one member into memory of its own, checking its CRC."""
    if name not in members:
        raise UnsupportedCheckpointError(f"its zip archive lacks {name[:120]!r}")
    size = members[name].file_size
    if size > limit:
        raise UnsupportedCheckpointError(f"its member {name[:120]!r} must have at most {limit} bytes, got {size}")
    buffer = bytearray(size)
    view, position = memoryview(buffer), 0
    with archive.open(members[name]) as file:
        while count := file.readinto(view[position : position + 2**24]):
            position += count
    if position != size:
        raise UnsupportedCheckpointError(f"its member {name[:120]!r} is truncated")
    return buffer


def _byteorder(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], root: str) -> str:
    """Return ``little`` or ``big``; archives of torch < 2.1 say nothing and are little-endian."""
    if f"{root}/byteorder" not in members:
        return "little"
    order = _member(archive, members, f"{root}/byteorder", limit=16).decode("ascii", "replace")
    if order not in ("little", "big"):
        raise UnsupportedCheckpointError(f"its byte order must be little or big, got {order!r}")
    return order


class BoundedFile:
    """The part of a file that a pickle may read: never more than is there, nor than a limit.

    Args:
        file: At the pickle.
        size: Of the file; Python reserves what a pickle declares before it reads.
        limit: Bytes of one pickle.
    """

    def __init__(self, file: BinaryIO, size: int, limit: int) -> None:
        self._file = file
        self.left = min(size - file.tell(), limit)

    def read(self, count: int) -> bytes:
        """Read at most ``count`` bytes."""
        data = self._file.read(min(count, self.left))
        self.left -= len(data)
        return data

    def readline(self) -> bytes:
        """Read to the end of the line."""
        data = self._file.readline(self.left)
        self.left -= len(data)
        return data

    def tell(self) -> int:
        """Return the place in the file."""
        return self._file.tell()


def read_legacy(path: Path, stubs: Collection[str]) -> Any:
    """Read the form that torch wrote before 1.6 (and writes with ``_use_new_zipfile_serialization=False``).

    Raises:
        UnsupportedCheckpointError: If the stream is damaged or not as torch writes it.
    """
    size = path.stat().st_size
    storages = StorageTable()
    globals_ = allowed_globals(stubs)
    with path.open("rb") as file:

        def load(unpickler: Unpickler) -> Any:
            return unpickler.load(BoundedFile(file, size, MAX_PICKLE_BYTES))  # type: ignore[arg-type]

        if load(Unpickler({})) != _LEGACY_MAGIC or load(Unpickler({})) != _LEGACY_PROTOCOL:
            raise UnsupportedCheckpointError("it is a pickle, but not one that torch.save wrote")
        load(Unpickler({}))  # machine that wrote it; the storages are little-endian on every machine
        loaded = load(Unpickler(globals_, lambda pid: _legacy_persistent_load(pid, storages)))
        keys = load(Unpickler({}))
        tensors = _legacy_storages(file, keys, storages, size)
    return materialise(loaded, tensors, _tensor_budget(path))


def _legacy_persistent_load(pid: Any, storages: StorageTable) -> Any:
    if type(pid) is tuple and len(pid) == 6 and pid[0] == "storage" and pid[5] is None:
        return storages.declare(pid[2], pid[1], pid[4])
    # A pickled module: (kind, class, source file, source text). Its class must be among the caller's stubs.
    if type(pid) is tuple and len(pid) == 4 and pid[0] == "module" and type(pid[1]) is Global:
        return pid[1]
    raise UnsupportedCheckpointError("the pickle has a persistent id that is not a whole storage")


def _legacy_storages(file: BinaryIO, keys: Any, storages: StorageTable, size: int) -> dict[Storage, Any]:
    if type(keys) is not list or any(type(key) is not str for key in keys) or sorted(keys) != sorted(storages.declared):
        raise UnsupportedCheckpointError("its list of storages does not agree with its tensors")
    tensors = {}
    for key in keys:
        storage = storages.declared[key]
        header = file.read(8)
        if header != storage.numel.to_bytes(8, "little") or storage.nbytes > size - file.tell():
            raise UnsupportedCheckpointError(f"storage {key[:80]!r} is truncated or its size is wrong")
        tensors[storage] = storage_tensor(storage, bytearray(file.read(storage.nbytes)))
    if file.read(1):
        raise UnsupportedCheckpointError("there are bytes left over after the last storage")
    return tensors


def _tensor_budget(path: Path) -> int:
    """Bytes that the tensors may have together: some sharing is normal, a file of aliases is not."""
    return 16 * path.stat().st_size + 2**26
