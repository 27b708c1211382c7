"""Pickles of arrays: what data sets hold comes back, what runs code or grows does not."""

import collections
import os
import pickle
import tracemalloc

import numpy as np
import pytest
import torch

from facesr_plugin.checkpoints import UnsupportedCheckpointError
from facesr_plugin.checkpoints.numpy_pickle import read_numpy_pickle


def write(path, value, protocol=4):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_read_numpy_pickle_gives_what_was_written(tmp_path, protocol):
    written = {
        "a.png": {"landmark": np.arange(136.0).reshape(68, 2), "bbox": (np.int64(1), 2, 3.5, True)},
        "b.png": np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)),
        "c": collections.OrderedDict(x=[None, b"\xff", np.float32(0.5)]),
    }
    read = read_numpy_pickle(write(tmp_path / "a.pkl", written, protocol))
    assert np.array_equal(read["a.png"]["landmark"], written["a.png"]["landmark"])
    assert read["a.png"]["bbox"] == (1, 2, 3.5, True)
    assert np.array_equal(read["b.png"], written["b.png"])
    assert read["c"] == {"x": [None, b"\xff", 0.5]}


@pytest.mark.parametrize("zipped", [True, False])
def test_read_numpy_pickle_reads_what_torch_saved(tmp_path, zipped):
    written = {"name": "faces", "mean": np.arange(3.0), "cov": np.eye(3), "size": 512}
    torch.save(written, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    read = read_numpy_pickle(tmp_path / "a.pth")
    assert np.array_equal(read["mean"], written["mean"])
    assert np.array_equal(read["cov"], written["cov"])
    assert (read["name"], read["size"]) == ("faces", 512)


def test_read_numpy_pickle_refuses_tensors(tmp_path):
    torch.save({"mean": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(UnsupportedCheckpointError, match="cannot read .*a.pth"):
        read_numpy_pickle(tmp_path / "a.pth")


def test_read_numpy_pickle_reads_python_2(tmp_path):
    """A str of Python 2 is a SHORT_BINSTRING, its bytes too."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01\x85cnumpy\ndtype\n"
        b"U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x01\xfetb"
    )
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02}U\x05a.png" + array + b"s.")
    assert read_numpy_pickle(tmp_path / "a.pkl")["a.png"].tolist() == [254]


class Call:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    "call",
    [
        Call(os.system, "touch CANARY"),
        Call(eval, "open('CANARY', 'w')"),
        Call(np.load, "x.npy"),
        Call(np.memmap, "CANARY", "u1", "w+"),
        Call(np.ndarray, (10**12,)),
        Call(np.zeros, 10**12),
    ],
)
def test_read_numpy_pickle_calls_nothing(tmp_path, monkeypatch, call, protocol):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.pkl", {"a.png": call}, protocol)
    with pytest.raises(UnsupportedCheckpointError, match=r"cannot read .*a\.pkl"):
        read_numpy_pickle(tmp_path / "a.pkl")
    assert not (tmp_path / "CANARY").exists()


def test_read_numpy_pickle_refuses_arrays_of_objects(tmp_path):
    with pytest.raises(UnsupportedCheckpointError, match="numpy value of type 'O8', not a number"):
        read_numpy_pickle(write(tmp_path / "a.pkl", np.array([{}, 1], object)))


@pytest.mark.parametrize("cls", [np.memmap, np.matrix])
def test_read_numpy_pickle_refuses_kinds_of_arrays(tmp_path, cls):
    array = np.zeros((2, 2)).view(np.ndarray if cls is np.memmap else cls)
    data = pickle.dumps(array, 2).replace(b"cnumpy\nndarray\n", b"cnumpy\nmemmap\n")
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(UnsupportedCheckpointError, match="the pickle refers to 'numpy"):
        read_numpy_pickle(tmp_path / "a.pkl")


def test_read_numpy_pickle_refuses_an_array_without_its_bytes(tmp_path):
    data = pickle.dumps(np.zeros(4, "u1"), 3)
    (tmp_path / "a.pkl").write_bytes(data.replace(b"K\x04\x85", b"K\x09\x85"))
    with pytest.raises(UnsupportedCheckpointError, match=r"an array of shape \(9,\) has 4 bytes"):
        read_numpy_pickle(tmp_path / "a.pkl")


def test_read_numpy_pickle_refuses_what_grows(tmp_path):
    bomb = ["x"] * 10
    for _ in range(12):
        bomb = [bomb] * 10
    with pytest.raises(UnsupportedCheckpointError, match="repeats its parts"):
        read_numpy_pickle(write(tmp_path / "a.pkl", bomb))
    cycle = []
    cycle.append(cycle)
    with pytest.raises(UnsupportedCheckpointError, match="contains itself"):
        read_numpy_pickle(write(tmp_path / "b.pkl", cycle))


@pytest.mark.parametrize("length", [0, 1, 30, 60])
def test_read_numpy_pickle_refuses_a_cut_file(tmp_path, length):
    data = pickle.dumps({"a.png": np.zeros((2, 2))}, 4)
    (tmp_path / "a.pkl").write_bytes(data[:length])
    with pytest.raises(UnsupportedCheckpointError, match="cannot read"):
        read_numpy_pickle(tmp_path / "a.pkl")


def test_read_numpy_pickle_says_that_the_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pickle must be an existing file, got '.*a\.pkl'"):
        read_numpy_pickle(tmp_path / "a.pkl")


def test_read_numpy_pickle_names_a_damaged_archive(tmp_path):
    torch.save({"x": 1}, tmp_path / "a.pth")
    data = bytearray((tmp_path / "a.pth").read_bytes())
    data[:4] = b"XXXX"
    (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(UnsupportedCheckpointError, match="a.pth.*zip archive is damaged"):
        read_numpy_pickle(tmp_path / "a.pth")


def test_read_numpy_pickle_reserves_no_more_than_the_file_has(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02B\xff\xff\xff\xffx.")
    tracemalloc.start()
    with pytest.raises(UnsupportedCheckpointError, match="a.pkl.*the pickle is damaged"):
        read_numpy_pickle(tmp_path / "a.pkl")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24
