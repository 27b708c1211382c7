"""Read a weight file of any origin without running anything that is in it.

The form is found from the content, not from the file's name: torch zip, torch legacy stream, safetensors, npz.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from facesr_plugin.checkpoints.array_file import is_npz, looks_like_safetensors, read_npz, read_safetensors
from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.torch_file import ZIP_ERRORS, read_legacy, read_zip

_ZIP_MAGIC = b"PK\x03\x04"
_ZIP_END_MAGIC = b"PK\x05\x06"
_ZIP_END_BYTES = 22
_ZIP64_COUNT = 0xFFFF
_PICKLE_MAGIC = b"\x80"
_TAR_MAGIC = b"ustar"


class Content(NamedTuple):
    """What a file holds: an object of plain containers and tensors, and safetensors' metadata (else empty)."""

    data: Any
    metadata: dict[str, str]


def read_checkpoint(path: str | os.PathLike, *, stubs: Collection[str] = ()) -> Any:
    """Read a .pth/.pt (zip or legacy), .safetensors or .npz file; tensors are on the CPU.

    Nothing in the file is executed: the pickle is interpreted by this package, with a closed list of functions that
    build plain dicts, lists, numbers, text and tensors inside the bounds of their storages.

    Args:
        path: The file.
        stubs: Names of further classes (``"module.Class"``) that are read as inert ``rebuild.Stub`` records, for
            converters of pickled modules.

    Returns:
        Plain containers with tensors; OrderedDicts come as dicts in the same order.

    Raises:
        FileNotFoundError: If there is no such file.
        UnsupportedCheckpointError: If the file is damaged, of another kind, or holds anything else.
    """
    return read_content(path, stubs=stubs).data


def read_content(path: str | os.PathLike, *, stubs: Collection[str] = ()) -> Content:
    """Do what ``read_checkpoint`` does and return safetensors' metadata too."""
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"checkpoint must be an existing file, got {str(file)!r}")
    if not file.is_file():
        raise UnsupportedCheckpointError(f"checkpoint must be a file, got {str(file)!r}")
    try:
        return _read(file, stubs)
    except UnsupportedCheckpointError as error:
        raise UnsupportedCheckpointError(f"cannot read {str(file)!r}: {error}") from error


def _read(file: Path, stubs: Collection[str]) -> Content:
    with file.open("rb") as stream:
        head = stream.read(512)
    if not head:
        raise UnsupportedCheckpointError("the file is empty")
    if head.startswith(_ZIP_MAGIC):
        return Content(_read_archive(file, stubs), {})
    if looks_like_safetensors(file):  # before pickles: the length that it starts with may have their first byte
        return Content(*read_safetensors(file))
    if head.startswith(_PICKLE_MAGIC):
        return Content(read_legacy(file, stubs), {})
    if head[257:262] == _TAR_MAGIC:
        raise UnsupportedCheckpointError("it has the tar form of torch < 0.1.10. Save it again with a newer torch")
    raise UnsupportedCheckpointError("it is none of: .pth/.pt of torch.save, .safetensors, .npz; or it is damaged")


def _read_archive(file: Path, stubs: Collection[str]) -> Any:
    try:
        with zipfile.ZipFile(file) as archive:
            _check_count(file, archive)
            return read_npz(file, archive) if is_npz(archive) else read_zip(file, archive, stubs)
    except UnsupportedCheckpointError:
        raise
    except ZIP_ERRORS as error:
        raise UnsupportedCheckpointError(f"its zip archive is damaged or truncated: {str(error)[:160]}") from error


def _check_count(file: Path, archive: zipfile.ZipFile) -> None:
    """Compare the number of members with the one in the archive's last record, which zipfile does not read."""
    with file.open("rb") as stream:
        stream.seek(-_ZIP_END_BYTES, os.SEEK_END)
        end = stream.read()
    count = int.from_bytes(end[10:12], "little")
    if end[:4] != _ZIP_END_MAGIC or count not in (len(archive.infolist()), _ZIP64_COUNT):
        raise UnsupportedCheckpointError("its zip archive is damaged: the list of members is not whole")
