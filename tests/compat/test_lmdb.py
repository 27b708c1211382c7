"""``lmdb-reopen`` and ``lmdb-writer``: the defects as released, then the repaired behaviour."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.utils.file_client import FileClient
from basicsr.utils.lmdb_util import make_lmdb_from_imgs

from facesr_plugin.compat import lmdb_reopen, lmdb_writer
from helpers.pristine import pristine

STRICT = int(lmdb.__version__.split(".")[0]) >= 2  # refuses a second lmdb.open of one path in a process


@pytest.fixture
def store(tmp_path: Path) -> str:
    folder = str(tmp_path / "faces.lmdb")
    with lmdb.open(folder, map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"one", b"1")
        transaction.put("Zoë".encode(), b"2")
    return folder


def _client(folder: str) -> FileClient:
    return FileClient("lmdb", db_paths=folder, client_keys="gt")


@pytest.mark.skipif(not STRICT, reason=f"lmdb {lmdb.__version__} has no such defect: it came with 2.0")
def test_released_backend_cannot_open_one_store_twice(store: str) -> None:
    backend = pristine("basicsr.utils.file_client").LmdbBackend
    kept = backend(store)
    with pytest.raises(lmdb.Error, match="already open in this process"):
        backend(store)
    del kept


def test_repaired_backend_opens_one_store_twice(store: str) -> None:
    assert lmdb_reopen.LMDB_REOPEN.name == "lmdb-reopen"
    train, val = _client(store), _client(store)
    assert train.get("one", "gt") == val.get("one", "gt") == b"1"


def test_repaired_backend_takes_several_stores(store: str) -> None:
    client = FileClient("lmdb", db_paths=[store, store], client_keys=["lq", "gt"])
    assert client.get("one", "lq") == client.get("one", "gt") == b"1"
    with pytest.raises(ValueError, match="must have the same length, got 1 and 2"):
        FileClient("lmdb", db_paths=[store, store], client_keys=["lq"])


def test_released_backend_refuses_other_alphabets(store: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        pristine("basicsr.utils.file_client").LmdbBackend(store).get("Zoë", "default")


def test_repaired_backend_reads_every_alphabet(store: str) -> None:
    assert _client(store).get("Zoë", "gt") == b"2"


def test_repaired_backend_names_a_missing_key(store: str) -> None:
    with pytest.raises(KeyError, match=r"faces\.lmdb has no key 'two'"):
        _client(store).get("two", "gt")


def _read_in_child(client: FileClient, answers: multiprocessing.Queue) -> None:
    answers.put(client.get("one", "gt"))


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.process)])
def test_repaired_backend_works_in_a_child_of_a_process_that_read(store: str, method: str) -> None:
    client = _client(store)
    client.get("one", "gt")
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    child = context.Process(target=_read_in_child, args=(client, answers))
    child.start()
    assert answers.get(timeout=60) == b"1"
    child.join(timeout=60)
    assert child.exitcode == 0
    assert client.get("one", "gt") == b"1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny image first, then one that is far larger than ten times it."""
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), np.zeros((8, 8, 3), np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    cv2.imwrite(str(images / "b.png"), noise)
    return images


def test_released_writer_is_full_after_a_small_first_image(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(lmdb.MapFullError):
        _make(pristine("basicsr.utils.lmdb_util").make_lmdb_from_imgs, folder, tmp_path)


def test_repaired_writer_takes_any_sizes(folder: Path, tmp_path: Path) -> None:
    assert lmdb_writer.LMDB_WRITER.name == "lmdb-writer"
    _make(make_lmdb_from_imgs, folder, tmp_path)
    stored = np.frombuffer(_client(str(tmp_path / "made.lmdb")).get("b", "gt"), np.uint8)
    assert (cv2.imdecode(stored, cv2.IMREAD_COLOR) == cv2.imread(str(folder / "b.png"))).all()
    assert (tmp_path / "made.lmdb" / "data.mdb").stat().st_blocks * 512 < 2 << 20


def test_repaired_writer_keeps_a_given_size(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(lmdb.MapFullError):
        _make(make_lmdb_from_imgs, folder, tmp_path, map_size=1 << 15)


def _make(maker: object, folder: Path, tmp_path: Path, **settings: int) -> None:
    maker(str(folder), str(tmp_path / "made.lmdb"), ["a.png", "b.png"], ["a", "b"], **settings)
