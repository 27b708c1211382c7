import os

import pytest

from facesr_plugin.utils.lock import lock

fcntl = pytest.importorskip("fcntl")


def test_lock_keeps_others_out_until_it_is_closed(tmp_path):
    handle = lock(tmp_path)
    with pytest.raises(OSError, match=r"another process is writing .*\. Wait until it has finished\."):
        lock(tmp_path)
    os.close(handle)
    os.close(lock(tmp_path))


def test_lock_does_without_where_there_is_none(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert lock(tmp_path) is None
