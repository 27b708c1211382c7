"""One LMDB environment per process and path."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import lmdb
import pytest

from facesr_plugin.utils.lmdb_env import close_shared, open_shared


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "s.lmdb"
    with lmdb.open(str(folder), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"key", b"value")
    return folder


def read(environment: lmdb.Environment) -> bytes:
    with environment.begin() as transaction:
        return transaction.get(b"key")


def test_open_shared_opens_once(store: Path) -> None:
    assert open_shared(store) is open_shared(str(store))
    assert read(open_shared(store)) == b"value"


def test_open_shared_follows_links_and_relative_paths(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = store.parent / "link.lmdb"
    link.symlink_to(store)
    monkeypatch.chdir(store.parent)
    assert open_shared(link) is open_shared(store) is open_shared("s.lmdb")


def test_open_shared_cannot_write(store: Path) -> None:
    with pytest.raises(lmdb.ReadonlyError), open_shared(store, readonly=False).begin(write=True):
        pass


def test_close_shared_lets_a_new_database_be_opened(store: Path) -> None:
    first = open_shared(store)
    close_shared(store)
    close_shared(store)
    assert open_shared(store) is not first
    assert read(open_shared(store)) == b"value"


def test_open_shared_reads_the_database_that_took_anothers_place(store: Path) -> None:
    assert read(open_shared(store)) == b"value"
    shutil.rmtree(store)
    with lmdb.open(str(store), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"key", b"other")
    assert read(open_shared(store)) == b"other"


def test_open_shared_keeps_what_it_has_of_a_removed_database(store: Path) -> None:
    first = open_shared(store)
    shutil.rmtree(store)
    assert open_shared(store) is first


def test_open_shared_lets_go_of_removed_databases(store: Path, tmp_path: Path) -> None:
    first = open_shared(store)
    shutil.copytree(store, tmp_path / "copy.lmdb")
    shutil.rmtree(store)
    open_shared(tmp_path / "copy.lmdb")
    with pytest.raises(lmdb.Error, match=r"closed|Invalid"):
        read(first)


def test_open_shared_names_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(lmdb.Error, match="none.lmdb"):
        open_shared(tmp_path / "none.lmdb")


def test_forked_child_opens_its_own_and_leaves_the_parents_alone(store: Path) -> None:
    environment = open_shared(store)
    read(environment)
    child = os.fork()
    if child == 0:
        good = open_shared(store) is not environment and read(open_shared(store)) == b"value"
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert open_shared(store) is environment
    assert read(environment) == b"value"
