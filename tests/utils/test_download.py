"""Downloads from a server that truncates, stalls, corrupts, refuses and redirects."""

from __future__ import annotations

import errno
import hashlib
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facesr_plugin.utils import download as module
from facesr_plugin.utils.download import download, file_sha256
from helpers.web import Server, serve

HALF, WHOLE = "bytes=5120-", None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file.pth"


def digest(server: Server) -> str:
    return hashlib.sha256(server.content).hexdigest()


def files(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


@pytest.mark.parametrize("digits", [64, 8])
def test_download_checks_the_hash_or_its_beginning(server: Server, target: Path, digits: int) -> None:
    download(server.url, target, digest(server)[:digits])
    assert target.read_bytes() == server.content
    assert files(target) == ["file.pth"]
    assert file_sha256(target) == digest(server)


@pytest.mark.parametrize(
    ("faults", "requests"),
    [
        (["truncate"], [WHOLE, HALF]),
        (["stall"], [WHOLE, HALF]),
        (["truncate", "truncate", "truncate"], [WHOLE, HALF, "bytes=7680-", "bytes=8960-"]),
        (["truncate", "ignore_range"], [WHOLE, HALF]),
        (["hang_up"], [WHOLE, WHOLE]),
        (["503", "429"], [WHOLE, WHOLE, WHOLE]),
        (["redirect"], [WHOLE, WHOLE]),
        (["no_length"], [WHOLE]),
    ],
)
def test_download_continues_after_trouble(
    server: Server, target: Path, faults: list[str], requests: list[str | None]
) -> None:
    server.faults = faults
    download(server.url, target, digest(server), timeout=0.3)
    assert target.read_bytes() == server.content
    assert files(target) == ["file.pth"]
    assert server.requests == requests


@pytest.mark.parametrize(
    ("fault", "text"),
    [("truncate", "ended after 9600 of 10240 bytes"), ("stall", "no answer"), ("503", "the server answers 503")],
)
def test_download_gives_up_after_some_attempts(server: Server, target: Path, fault: str, text: str) -> None:
    server.faults = [fault] * 4
    with pytest.raises(ConnectionError, match=rf"file.pth: {text}.* \(4 attempts\)"):
        download(server.url, target, digest(server), timeout=0.2)
    assert len(server.requests) == 4
    assert not target.exists()


@pytest.mark.parametrize("status", ["404", "403", "401"])
def test_download_does_not_repeat_a_refused_request(server: Server, target: Path, status: str) -> None:
    server.faults = [status]
    with pytest.raises(ConnectionError, match=f"the server answers {status}"):
        download(server.url, target, digest(server))
    assert len(server.requests) == 1
    assert files(target) == []


def test_download_deletes_a_file_with_another_hash(server: Server, target: Path) -> None:
    server.faults = ["corrupt"]
    with pytest.raises(ValueError, match=r"must have sha256 [0-9a-f]{64}, got [0-9a-f]{64}: damaged on the way"):
        download(server.url, target, digest(server))
    assert files(target) == []


def test_download_of_a_later_run_continues(server: Server, target: Path) -> None:
    server.faults = ["truncate"]
    with pytest.raises(ConnectionError, match=r"\(1 attempts\)"):
        download(server.url, target, digest(server), attempts=1)
    assert files(target) == ["file.pth.part"]
    download(server.url, target, digest(server))
    assert server.requests == [WHOLE, HALF]
    assert target.read_bytes() == server.content


@pytest.mark.parametrize("part", [b"of another file", bytes(20_000)])
def test_download_starts_anew_if_the_part_does_not_belong(server: Server, target: Path, part: bytes) -> None:
    target.parent.mkdir()
    target.with_name("file.pth.part").write_bytes(part)
    download(server.url, target, digest(server))
    assert target.read_bytes() == server.content
    assert files(target) == ["file.pth"]


def test_download_takes_a_complete_part(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("file.pth.part").write_bytes(server.content)
    download(server.url, target, digest(server))
    assert target.read_bytes() == server.content


def test_download_without_a_hash_never_joins_two_parts(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("file.pth.part").write_bytes(b"x" * 100)
    server.faults = ["truncate", ""]
    download(server.url, target, None)
    assert target.read_bytes() == server.content
    assert server.requests == [WHOLE, WHOLE]


def test_download_refuses_to_leave_https(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = module._SafeRedirect()
    request = urllib.request.Request("https://example.invalid/a")
    with pytest.raises(urllib.error.URLError, match="redirects to http://example.invalid/b, which is not encrypted"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://example.invalid/b")
    assert handler.redirect_request(request, None, 302, "Found", {}, "https://example.invalid/b").full_url.endswith("b")


def test_download_says_that_the_machine_is_offline(monkeypatch: pytest.MonkeyPatch, target: Path) -> None:
    def refuse(*_arguments: Any, **_settings: Any) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ConnectionError, match="https://example.invalid/x: .*Temporary failure in name resolution"):
        download("https://example.invalid/x", target, "00")


def test_download_reports_a_full_disk_at_once(monkeypatch: pytest.MonkeyPatch, server: Server, target: Path) -> None:
    def full(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        download(server.url, target, digest(server))
    assert not target.exists()
    assert len(server.requests) == 1


def test_two_downloads_of_one_file_transfer_it_once(server: Server, target: Path) -> None:
    failures = []

    def run() -> None:
        try:
            download(server.url, target, digest(server))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert server.requests == [WHOLE]
    assert files(target) == ["file.pth"]
