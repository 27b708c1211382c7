"""Atomic writing: the target holds the old or the new content, whatever happens in between."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from facesr_plugin.utils.files import atomic_write, atomic_write_text, check_writable, expand_home, torch_writer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_write_creates_folder_and_file(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a" / "b.bin", lambda file: file.write(b"new"))
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"new"
    assert names(tmp_path / "a") == ["b.bin"]


def test_expand_home_leaves_unknown_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("~/a") == tmp_path / "a"
    assert expand_home("~nobody-here/a") == Path("~nobody-here/a")


def test_check_writable_makes_the_folder_and_leaves_nothing_in_it(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []


def test_check_writable_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/other/name")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(OSError, match="Read-only") as caught:
        check_writable(tmp_path)
    assert caught.value.filename == str(tmp_path)


def test_atomic_write_text_is_utf_8(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "t.txt", "größer\n")
    assert (tmp_path / "t.txt").read_bytes() == "größer\n".encode()


def test_atomic_write_keeps_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic_write_text(tmp_path / "t.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "t.txt").stat().st_mode) == 0o640


def full_disk(file: BinaryIO) -> None:
    file.write(b"half of")
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(file: BinaryIO) -> None:
    file.write(b"half of")
    raise KeyboardInterrupt


@pytest.mark.parametrize(("writer", "error"), [(full_disk, OSError), (interrupted, KeyboardInterrupt)])
@pytest.mark.parametrize("old", [b"old", None])
def test_failed_write_leaves_the_target_as_it_was(
    tmp_path: Path, writer: object, error: type[BaseException], old: bytes | None
) -> None:
    target = tmp_path / "b.bin"
    if old is not None:
        target.write_bytes(old)
    with pytest.raises(error):
        atomic_write(target, writer)
    assert names(tmp_path) == ([] if old is None else ["b.bin"])
    assert old is None or target.read_bytes() == old


def test_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device: .*b.bin"):
        atomic_write(tmp_path / "b.bin", full_disk)


def test_killed_writer_leaves_the_old_content_and_the_next_one_clears_up(tmp_path: Path) -> None:
    target = tmp_path / "b[1]*.bin"
    target.write_bytes(b"old")
    code = """
        import sys, time
        from facesr_plugin.utils.files import atomic_write

        def slow(file):
            file.write(b"half of")
            file.flush()
            print("writing", flush=True)
            time.sleep(60)

        atomic_write(sys.argv[1], slow)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    (stale,) = (name for name in names(tmp_path) if name != target.name)
    assert stale.startswith(".")

    atomic_write(target, lambda file: file.write(b"new"))
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == [target.name]


def test_temporary_files_of_living_writers_and_of_others_stay(tmp_path: Path) -> None:
    kept = [f".t.txt.{os.getpid()}-abc.tmp", ".other.txt.1-abc.tmp", "t.txt.1-abc.tmp"]
    for name in kept:
        (tmp_path / name).write_bytes(b"")
    atomic_write_text(tmp_path / "t.txt", "x")
    assert names(tmp_path) == sorted([*kept, "t.txt"])


def _write_often(target: Path, letter: bytes) -> None:
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        atomic_write(target, lambda file: file.write(letter * 100_000))


def test_reader_never_meets_a_mixture(tmp_path: Path) -> None:
    target = tmp_path / "b.bin"
    target.write_bytes(b"a" * 100_000)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_often, args=(target, letter)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        content = target.read_bytes()
        assert len(content) == 100_000
        assert len(set(content)) == 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert names(tmp_path) == ["b.bin"]


class FullDisk(io.RawIOBase):
    """Takes some bytes and no more."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, data: bytes) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(data)


@pytest.mark.parametrize("room", [0, 100, 3000])
def test_torch_writer_raises_the_error_of_the_disk(room: int) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        torch_writer({"a": torch.zeros(1000)})(FullDisk(room))


def test_torch_writer_leaves_other_errors_as_they_are() -> None:
    with pytest.raises(Exception, match="pickle"):
        torch_writer({"a": lambda: None})(io.BytesIO())


def test_torch_writer_writes_what_torch_loads(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a.pth", torch_writer({"a": torch.ones(3)}))
    assert torch.load(tmp_path / "a.pth")["a"].tolist() == [1, 1, 1]
