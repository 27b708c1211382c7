"""Where weights are looked for, what is checked, and what is never done unasked."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from facesr_plugin.utils import download, weights
from facesr_plugin.utils.weights import (
    WEIGHTS,
    KnownWeights,
    MissingWeightsError,
    expected_sha256,
    fetch_weights,
    find_weights,
    resolve_weights,
    search_folders,
    weights_folder,
)
from helpers.web import Server, serve


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    return tmp_path / "home" / "weights"


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


def publish(monkeypatch: pytest.MonkeyPatch, server: Server, digits: int) -> str:
    """Make the server's file known as ``net`` with some digits of its hash; return the whole hash."""
    digest = hashlib.sha256(server.content).hexdigest()
    entry = KnownWeights("file.pth", server.url, digest[:digits] or None, "tests", "none")
    monkeypatch.setitem(WEIGHTS, "net", entry)
    return digest


def put(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "file.pth").write_bytes(content)
    return folder / "file.pth"


def test_table_is_consistent() -> None:
    for entry in WEIGHTS.values():
        assert "https://" in entry.source
        assert entry.url is None or (entry.url.startswith("https://") and entry.url.endswith(f"/{entry.file}"))
        assert entry.page == "" or entry.url is None
        assert entry.sha256 is None or (len(entry.sha256) in (8, 64) and int(entry.sha256, 16))
        assert entry.use
        assert entry.licence
    assert len({entry.file for entry in WEIGHTS.values()}) == len(WEIGHTS)


@pytest.mark.parametrize("name", ["vgg16", "vgg19", "alexnet"])
def test_table_has_torchvisions_addresses(name: str) -> None:
    from torchvision.models import get_model_weights

    entry = WEIGHTS[name]
    assert entry.url == get_model_weights(name).IMAGENET1K_V1.url
    assert entry.file.startswith(name)
    assert entry.file.endswith(f"-{entry.sha256}.pth")


def test_table_has_facexlibs_addresses() -> None:
    import inspect

    from facexlib import detection, recognition

    source = inspect.getsource(detection.init_detection_model)
    assert WEIGHTS["retinaface_resnet50"].url in source
    assert WEIGHTS["retinaface_mobile0.25"].url in source
    assert WEIGHTS["arcface"].url in inspect.getsource(recognition.init_recognition_model)


def test_table_has_basicsrs_address_of_inception() -> None:
    from basicsr.archs.inception import FID_WEIGHTS_URL

    assert WEIGHTS["inception_fid"].url == FID_WEIGHTS_URL
    assert FID_WEIGHTS_URL.endswith(f"-{WEIGHTS['inception_fid'].sha256}.pth")


def test_folders_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert search_folders() == [tmp_path / "home" / "weights", tmp_path / "torch" / "hub" / "checkpoints"]
    monkeypatch.delenv("FACESR_HOME")
    assert weights_folder() == Path.home() / ".cache" / "facesr" / "weights"


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown weights 'vgg18'. Known: vgg19, vgg16, retinaface_resnet50"):
        resolve_weights("vgg18")


def test_given_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = put(tmp_path / "mine", b"anything")
    assert resolve_weights("vgg19", path) == path
    with pytest.raises(FileNotFoundError, match="weights must be an existing file, got .*none") as caught:
        resolve_weights("vgg19", tmp_path / "none")
    assert not isinstance(caught.value, MissingWeightsError)


def test_own_folder_comes_before_torchs(
    monkeypatch: pytest.MonkeyPatch, server: Server, home: Path, tmp_path: Path
) -> None:
    publish(monkeypatch, server, 8)
    theirs = put(tmp_path / "torch" / "hub" / "checkpoints", server.content)
    assert resolve_weights("net") == find_weights("net") == theirs
    ours = put(home, server.content)
    assert resolve_weights("net") == ours
    assert server.requests == []


@pytest.mark.parametrize("digits", [8, 64])
def test_missing_file_is_downloaded_if_its_hash_is_known(
    monkeypatch: pytest.MonkeyPatch, server: Server, home: Path, digits: int
) -> None:
    publish(monkeypatch, server, digits)
    assert resolve_weights("net") == home / "file.pth"
    assert (home / "file.pth").read_bytes() == server.content


def test_missing_file_is_not_downloaded_where_it_may_not_be(
    monkeypatch: pytest.MonkeyPatch, server: Server, home: Path
) -> None:
    publish(monkeypatch, server, 64)
    remedy = rf"Put \S+ into {re.escape(str(home))}, or run `facesr weights fetch net`$"
    with pytest.raises(MissingWeightsError, match=remedy):
        resolve_weights("net", fetch=False)
    assert server.requests == []


def test_missing_file_is_not_downloaded_unasked_without_a_hash(
    monkeypatch: pytest.MonkeyPatch, server: Server, home: Path
) -> None:
    publish(monkeypatch, server, 0)
    with pytest.raises(MissingWeightsError, match="not downloaded unasked: run `facesr weights fetch net`"):
        resolve_weights("net")
    assert server.requests == []


def test_failed_download_names_file_address_and_folder(
    monkeypatch: pytest.MonkeyPatch, server: Server, home: Path
) -> None:
    publish(monkeypatch, server, 64)
    server.faults = ["404"]
    with pytest.raises(MissingWeightsError) as caught:
        resolve_weights("net")
    message = str(caught.value)
    assert message.startswith("file.pth (tests) is not in ")
    assert f"Put {server.url} into {home}, or run `facesr weights fetch net`" in message
    assert "the server answers 404" in message


@pytest.mark.parametrize("function", [resolve_weights, fetch_weights])
def test_missing_file_without_an_address_is_asked_for_from_its_page(
    home: Path, function: Callable[[str], object]
) -> None:
    message = (
        r"compressed_fan.pth \(heatmaps .*\) is not in .*\. Put the compressed FAN \(1310412 bytes\) of "
        rf"https://\S+/Progressive-Face-Super-Resolution into {re.escape(str(home))} as compressed_fan.pth, or name"
    )
    with pytest.raises(MissingWeightsError, match=message):
        function("compressed_fan")


@pytest.mark.parametrize("function", [resolve_weights, fetch_weights])
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("lightcnn", "LightCNN_feature.pth"),
        ("dic_hourglass", "FB_HG_68_CelebA.pth"),
        ("stacked_hourglass", "HG_68_CelebA.pth"),
    ],
)
def test_files_of_dic_have_neither_address_nor_hash(
    home: Path, name: str, file: str, function: Callable[[str], object]
) -> None:
    assert (WEIGHTS[name].url, WEIGHTS[name].sha256) == (None, None)
    page = rf"Put {file} of https://github.com/Maclory/Deep-Iterative-Collaboration into {re.escape(str(home))} as"
    with pytest.raises(FileNotFoundError, match=page):
        function(name)
    path = home / file
    home.mkdir(parents=True)
    path.write_bytes(b"by hand")
    assert resolve_weights(name) == path


@pytest.mark.parametrize("function", [resolve_weights, fetch_weights])
def test_damaged_file_is_refused(monkeypatch: pytest.MonkeyPatch, server: Server, home: Path, function: object) -> None:
    publish(monkeypatch, server, 8)
    put(home, server.content[:-1])
    with pytest.raises(ValueError, match=r"file.pth must have sha256 .* it is damaged or another file. Delete it"):
        function("net")


def test_file_without_a_known_hash_is_used_and_said_so(
    monkeypatch: pytest.MonkeyPatch, server: Server, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(monkeypatch, server, 0)
    path = put(home, b"by hand")
    with caplog.at_level(logging.INFO, logger="basicsr.facesr"):
        assert resolve_weights("net") == path
    assert "no hash is known" in caplog.text


def test_fetch_keeps_a_file_without_a_hash_apart_until_it_is_accepted(
    monkeypatch: pytest.MonkeyPatch, server: Server, home: Path
) -> None:
    digest = publish(monkeypatch, server, 0)
    fetched = fetch_weights("net")
    assert fetched == (home / "file.pth.unaccepted", digest, False)
    assert find_weights("net") is None
    assert expected_sha256("net") is None
    assert fetch_weights("net", accept=True) == (home / "file.pth", digest, True)
    assert len(server.requests) == 1
    assert json.loads((home / "accepted.json").read_text()) == {"file.pth": digest}
    assert sorted(path.name for path in home.iterdir()) == ["accepted.json", "file.pth"]


def test_accepted_hash_holds_from_then_on(monkeypatch: pytest.MonkeyPatch, server: Server, home: Path) -> None:
    digest = publish(monkeypatch, server, 0)
    fetch_weights("net", accept=True)
    assert expected_sha256("net") == digest
    (home / "file.pth").unlink()
    assert resolve_weights("net") == home / "file.pth"  # downloaded: now its hash is known
    (home / "file.pth").write_bytes(b"changed")
    with pytest.raises(ValueError, match=f"must have sha256 {digest}"):
        resolve_weights("net")


def test_fetch_accepts_a_file_that_was_put_there(monkeypatch: pytest.MonkeyPatch, server: Server, home: Path) -> None:
    publish(monkeypatch, server, 0)
    path = put(home, b"by hand")
    digest = hashlib.sha256(b"by hand").hexdigest()
    assert fetch_weights("net") == (path, digest, False)
    assert fetch_weights("net", accept=True) == (path, digest, True)
    assert expected_sha256("net") == digest
    assert server.requests == []


def test_published_hash_cannot_be_overruled(monkeypatch: pytest.MonkeyPatch, server: Server, home: Path) -> None:
    publish(monkeypatch, server, 8)
    server.faults = ["corrupt"]
    with pytest.raises(ValueError, match="damaged on the way, or another file"):
        fetch_weights("net", accept=True)
    assert list(home.iterdir()) == []


def test_damaged_list_of_accepted_hashes_is_an_error(
    monkeypatch: pytest.MonkeyPatch, server: Server, home: Path
) -> None:
    publish(monkeypatch, server, 0)
    home.mkdir(parents=True)
    (home / "accepted.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"accepted.json must hold a JSON object of hashes: .* accept anew"):
        weights.expected_sha256("net")
