"""``facesr weights``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from facesr_plugin.cli import main
from facesr_plugin.utils.weights import WEIGHTS, KnownWeights
from helpers.web import Server, serve


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "home" / "weights"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Server]:
    """A server; the table has its file as ``hashed`` and, under another name, as ``bare`` without hash."""
    with serve() as running:
        sha256 = hashlib.sha256(running.content).hexdigest()
        for name, published in (("hashed", sha256[:8]), ("bare", None)):
            monkeypatch.setitem(WEIGHTS, name, KnownWeights(f"{name}.pth", running.url, published, "tests", "none"))
        yield running


def weights(*arguments: str) -> int:
    return main(["weights", *arguments])


def test_list_shows_what_is_known_and_where_it_is_looked_for(home: Path, capsys: pytest.CaptureFixture) -> None:
    home.mkdir(parents=True)
    (home / "vgg16-397923af.pth").touch()
    assert weights("list") == 0
    out = capsys.readouterr().out
    assert "vgg19: perceptual loss of SPARNetHD\n  not here: facesr weights fetch vgg19\n" in out
    assert f"  {home / 'vgg16-397923af.pth'}\n" in out
    assert "sha256 dcbb9e9d... (first digits); torchvision" in out
    assert "sha256 not published; facexlib" in out
    assert f"  not here: to be put into {home} as compressed_fan.pth\n  the compressed FAN (1310412 bytes) of " in out
    assert out.splitlines()[-1].startswith(f"looked for in {home}, ")


def test_fetch_downloads_and_verify_agrees(server: Server, home: Path, capsys: pytest.CaptureFixture) -> None:
    assert weights("fetch", "hashed") == 0
    assert weights("verify") == 0
    assert capsys.readouterr().out.splitlines()[1] == f"hashed: {home / 'hashed.pth'}: ok (first 8 digits)"


def test_fetch_asks_for_accept_where_no_hash_is_published(
    server: Server, home: Path, capsys: pytest.CaptureFixture
) -> None:
    assert weights("fetch", "bare") == 1
    shown = capsys.readouterr()
    assert hashlib.sha256(server.content).hexdigest() in shown.out
    assert "facesr weights fetch bare --accept" in shown.err
    assert weights("verify", "bare") == 1
    assert "bare: not here" in capsys.readouterr().err
    assert weights("fetch", "bare", "--accept") == 0
    assert weights("verify", "bare") == 0
    assert capsys.readouterr().out.endswith("bare.pth: ok\n")
    assert weights("list") == 0
    assert "(accepted here)" in capsys.readouterr().out


def test_fetch_goes_on_after_a_failure(server: Server, home: Path, capsys: pytest.CaptureFixture) -> None:
    server.faults = ["404"]
    assert weights("fetch", "bare", "hashed") == 1
    shown = capsys.readouterr()
    assert "bare: bare.pth (tests) is not in" in shown.err
    assert "the server answers 404" in shown.err
    assert "hashed: " in shown.out


def test_fetch_refuses_unknown_names_before_it_starts(
    server: Server, home: Path, capsys: pytest.CaptureFixture
) -> None:
    assert weights("fetch", "hashed", "vgg18") == 2
    assert "error: unknown weights 'vgg18'" in capsys.readouterr().err
    assert server.requests == []


def test_verify_finds_a_damaged_file(server: Server, home: Path, capsys: pytest.CaptureFixture) -> None:
    home.mkdir(parents=True)
    (home / "hashed.pth").write_bytes(server.content[:-1])
    (home / "bare.pth").write_bytes(b"by hand")
    assert weights("verify") == 1
    shown = capsys.readouterr()
    assert "hashed.pth: WRONG, sha256" in shown.err
    assert f"no hash is known; this file has sha256 {hashlib.sha256(b'by hand').hexdigest()}" in shown.out


def test_verify_without_any_file_says_so(home: Path, capsys: pytest.CaptureFixture) -> None:
    assert weights("verify") == 0
    assert capsys.readouterr().out == "no weights are here: facesr weights list\n"
