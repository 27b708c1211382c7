"""Files made to run code, to exhaust memory, or to reach outside their storages."""

import builtins
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from facesr_plugin.checkpoints import UnsupportedCheckpointError, load_weights, read_checkpoint
from helpers.checkpoint_files import (
    dict_of,
    integer,
    pickle_of,
    tensor_opcodes,
    text,
    write_legacy,
    write_zip,
)

FOUR_FLOATS = struct.pack("<4f", 1, 2, 3, 4)


class Call:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def refuse(path, match=None):
    for read in (read_checkpoint, load_weights):
        with pytest.raises(UnsupportedCheckpointError, match=match):
            read(path)


def both_forms(tmp_path, opcodes, storages=FOUR_FLOATS, numel=4):
    legacy = opcodes.replace(b"NtQ", b"tQ").replace(b"tQ", b"NtQ")
    yield write_zip(tmp_path / "zip.pth", pickle_of(opcodes), {"data/0": storages})
    yield write_legacy(tmp_path / "legacy.pth", pickle_of(legacy), ["0"], struct.pack("<q", numel) + storages)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize(
    "call",
    [
        Call(os.system, "touch CANARY"),
        Call(eval, "open('CANARY', 'w')"),
        Call(exec, "open('CANARY', 'w')"),
        Call(getattr, "x", "__class__"),
        Call(builtins.__import__, "os"),
        Call(torch.load, "other.pth"),
        Call(torch.hub.load, "x", "y"),
        Call(open, "CANARY", "w"),
        Call(map, len, [1]),
        Call(bytearray, 10**12),
    ],
    ids=["system", "eval", "exec", "getattr", "import", "load", "hub", "open", "map", "bytearray"],
)
def test_reader_runs_no_code(tmp_path, monkeypatch, call, protocol):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps({"params": {"x": call.call[0] if call.call[0] is map else call}}, protocol)
    refuse(write_zip(tmp_path / "zip.pth", data))
    refuse(write_legacy(tmp_path / "legacy.pth", data, [], b""))
    (tmp_path / "plain.pth").write_bytes(data)
    refuse(tmp_path / "plain.pth")
    assert not (tmp_path / "CANARY").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("posix", "system"),
        ("collections", "OrderedDict.__init__.__globals__"),
        ("collections.OrderedDict", "__class__"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch", "FloatStorage.from_file"),
        ("torch.storage", "_load_from_bytes"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy"),
        ("torch._tensor", "_rebuild_from_type_v2"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy", "load"),
        ("functools", "partial"),
        ("facesr_plugin.checkpoints.rebuild", "Stub"),
        ("", ""),
    ],
)
def test_reader_refuses_globals_outside_its_list_and_names_them(tmp_path, module, name):
    old = f"c{module}\n{name}\n".encode() + b")R"
    new = text(module) + text(name) + b"\x93)R"
    for opcodes in (old, new):
        refuse(write_zip(tmp_path / "x.pth", pickle_of(opcodes)), "refers to|damaged")


@pytest.mark.parametrize(
    "opcodes",
    [
        b"ctorch\nFloatStorage\n" + integer(10**9) + b"\x85R",  # a storage made by a call
        b"ctorch\nfloat32\n)R",
        b"ccollections\nOrderedDict\n" + text("ab") + b"\x85R",
        b"ccollections\nOrderedDict\n)R" + text("x") + b"\x85R",  # calls a dict
        b"X\x03\x00\x00\x00abc)R",  # calls a string
        b"ccollections\nCounter\nX\x03\x00\x00\x00abc\x85R",
        b"ccollections\nCounter\n}K\x01]s\x85R",
        b"ccollections\nCounter\n}\x85R}b",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R",
        b"ctorch._utils\n_rebuild_parameter\n(N\x89}tR",
        b"ctorch._utils\n_rebuild_tensor_v2\n}(X\x0b\x00\x00\x00__globals__Nub",  # state of a function
        b"ccollections\nOrderedDict\nN}X\x01\x00\x00\x00xNs\x86b",  # slots of a class
        b"]N}\x86b",  # state of a list
        b"}]Ns",  # list as key
        b"}))\x85Ns",  # nested tuple as key
        b"}G" + struct.pack(">d", float("nan")) + b"Ns",
        b"}" + integer(2**61 - 1) + b"Ns",  # colliding hashes
        b"\x82\x01",  # extension registry
        b"\x8f",  # set
        b"\x96" + struct.pack("<Q", 2**62),  # byte array
        b"\x8d" + struct.pack("<Q", 2**62) + b"x",
        b"\x8e" + struct.pack("<Q", 2**40) + b"x",
        b"I" + b"9" * 5000 + b"\n",
        b"V\\ud800\n",
        b"i__main__\nx\n",
        b"Pstorage\n",
        b"NQ",
        b"(X\x07\x00\x00\x00storageNNNNtQ",
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nNNK\x01tQ",
        b"(X\x06\x00\x00\x00modulectorch\nfloat32\nNNtQ",
        b"ctorch\nSize\n(" + integer(-1) + b"t\x85R",
        b"ctorch\ndevice\nX\x04\x00\x00\x00meta\x85R",
        b"cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R",
        b"cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R",
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00f8\x85RC\x01x\x86R",
        b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R",
        b"ctorch\nFloatStorage\n",  # the class itself
        b"h\x05",
        b"0",
        b"t",
        b"(",
        b"",
        b"NN",
        b"u",
        b"a",
        b"\x86",
        b"\xff",
    ],
)
def test_reader_refuses_misused_opcodes(tmp_path, opcodes):
    refuse(write_zip(tmp_path / "x.pth", pickle_of(opcodes)))
    refuse(write_legacy(tmp_path / "y.pth", pickle_of(opcodes), [], b""))


def test_reader_needs_no_memory_for_a_huge_memo_index(tmp_path):
    path = write_zip(tmp_path / "x.pth", pickle_of(b"}r" + struct.pack("<I", 2**32 - 1)))
    assert read_checkpoint(path) == {}


@pytest.mark.parametrize(
    "tensor",
    [
        {"size": (5,), "stride": (1,)},
        {"size": (2, 3), "stride": (3, 1)},
        {"size": (4,), "stride": (1,), "offset": 1},
        {"size": (2,), "stride": (4,)},
        {"size": (1,), "stride": (1,), "offset": 4},
        {"size": (0,), "stride": (1,), "offset": 5},
        {"size": (4,), "stride": (-1,), "offset": 3},
        {"size": (4,), "stride": (1,), "offset": -1},
        {"size": (-4,), "stride": (1,)},
        {"size": (-2, -2), "stride": (2, 1)},
        {"size": (2**40,), "stride": (0,)},
        {"size": (2**62, 4), "stride": (0, 1)},
        {"size": (2**61, 2**61, 0), "stride": (1, 1, 1)},
        {"size": (2**64,), "stride": (1,)},
        {"size": (4,), "stride": (2**64,)},
        {"size": (4,), "stride": ()},
        {"size": (1,) * 65, "stride": (1,) * 65},
        {"size": (4,), "stride": (1,), "numel": 2**40},
        {"size": (4,), "stride": (1,), "numel": 5},
        {"size": (3,), "stride": (1,), "numel": 3},
        {"size": (4,), "stride": (1,), "numel": -4},
        {"size": (4,), "stride": (1,), "kind": "DoubleStorage"},
        {"size": (4,), "stride": (1,), "kind": "HalfStorage"},
        {"size": (4,), "stride": (1,), "kind": "QInt8Storage"},
        {"size": (4,), "stride": (1,), "kind": "UntypedStorage"},
        {"size": (4,), "stride": (1,), "key": "1"},
        {"size": (4,), "stride": (1,), "key": "../0"},
    ],
    ids=repr,
)
def test_reader_refuses_tensors_outside_their_storage(tmp_path, tensor):
    reason = "not fit into|non-negative|sizes and|malformed|must have|at most|lacks|agree|truncated|left over|refers to"
    for path in both_forms(tmp_path, dict_of(x=tensor_opcodes(**tensor)), numel=tensor.get("numel", 4) % 2**32):
        refuse(path, reason)


def test_reader_accepts_the_same_files_when_the_numbers_are_right(tmp_path):
    for path in both_forms(tmp_path, dict_of(x=tensor_opcodes((2, 2), (1, 2)))):
        assert read_checkpoint(path)["x"].tolist() == [[1, 3], [2, 4]]


def test_reader_refuses_a_storage_declared_with_two_sizes(tmp_path):
    opcodes = dict_of(x=tensor_opcodes((4,), (1,)), y=tensor_opcodes((2,), (1,), numel=2))
    for path in both_forms(tmp_path, opcodes):
        refuse(path, "twice")


@pytest.mark.parametrize(
    "arguments",
    [b"\x89}X\x01\x00\x00\x00hNs", b"\x89}}X\x04\x00\x00\x00conj\x88s"],
    ids=["hooks", "conjugate"],
)
def test_reader_refuses_hooks_and_lazy_views(tmp_path, arguments):
    opcodes = tensor_opcodes((4,), (1,)).replace(b"\x89}tR", arguments + b"tR")
    refuse(write_zip(tmp_path / "x.pth", pickle_of(opcodes), {"data/0": FOUR_FLOATS}), "hooks")


def test_reader_refuses_many_aliases_of_one_storage(tmp_path):
    one = tensor_opcodes((2**20,), (1,), numel=2**20)
    many = {f"x{i}": one for i in range(40)}
    path = write_zip(tmp_path / "x.pth", pickle_of(dict_of(**many)), {"data/0": bytes(2**22)})
    refuse(path, "far larger than the file")


def nested(depth):
    return b"]" * depth + b"a" * (depth - 1)


def laughs(levels):
    """Each list holds the one before ten times: ten to the power of ``levels`` values in a few bytes."""
    opcodes = b"]q\x00"
    for level in range(levels):
        opcodes += b"](" + (b"h" + bytes([level])) * 10 + b"eq" + bytes([level + 1])
    return b"(" + opcodes + b"t"


@pytest.mark.parametrize(
    "opcodes",
    [
        nested(1000),
        nested(50_000),
        b"(" * 50_000,
        b"]q\x00h\x00a",  # a list that contains itself
        b"}q\x00X\x01\x00\x00\x00xh\x00s",
        b")" + b"\x85" * 50_000,
        laughs(30),
    ],
    ids=["deep", "deeper", "marks", "cyclic-list", "cyclic-dict", "tuples", "laughs"],
)
def test_reader_refuses_nesting_bombs(tmp_path, opcodes):
    refuse(write_zip(tmp_path / "x.pth", pickle_of(opcodes)), "nests more than|damaged")


def test_reader_limits_the_number_of_opcodes(tmp_path, monkeypatch):
    monkeypatch.setattr("facesr_plugin.checkpoints.unpickle.MAX_OPCODES", 100)
    refuse(write_zip(tmp_path / "x.pth", pickle_of(b"N0" * 60 + b"}")), "more than 100 opcodes")


def test_reader_limits_the_size_of_a_pickle(tmp_path, monkeypatch):
    monkeypatch.setattr("facesr_plugin.checkpoints.torch_file.MAX_PICKLE_BYTES", 1000)
    refuse(write_zip(tmp_path / "x.pth", pickle_of(b"N0" * 600 + b"}")), "at most 1000 bytes")
    refuse(write_legacy(tmp_path / "y.pth", pickle_of(b"N0" * 600 + b"}"), [], b""), "damaged")


GOOD = pickle_of(dict_of(x=tensor_opcodes((4,), (1,))))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "match"),
    [
        ([("data/0", FOUR_FLOATS), ("data/0", FOUR_FLOATS[::-1])], "same name"),
        ([("data/0", FOUR_FLOATS), ("data.pkl", GOOD)], "same name"),
        ([], "lacks"),
        ([("data/0", FOUR_FLOATS[:15])], "16 bytes"),
        ([("data/0", FOUR_FLOATS + b"x")], "at most 16 bytes"),
        ([("data/0", FOUR_FLOATS), ("../../evil", b"x")], "not one that torch.save wrote"),
        ([("data/0", FOUR_FLOATS), ("/etc/evil", b"x")], "not one that torch.save wrote"),
        ([("data/0", FOUR_FLOATS), ("archive/..\\evil", b"x")], "not one that torch.save wrote"),
        ([("data/0", FOUR_FLOATS), ("other/data.pkl", b"x")], "not one that torch.save wrote"),
        ([("data/0", FOUR_FLOATS), ("byteorder", b"middle")], "byte order"),
        ([("data/0", FOUR_FLOATS), ("byteorder", b"little" * 9)], "at most 16 bytes"),
        ([("data/0", FOUR_FLOATS), ("constants.pkl", b"x")], "TorchScript"),
    ],
)
def test_reader_refuses_odd_archives(tmp_path, members, match):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", GOOD)
        for name, data in members:
            archive.writestr(f"archive/{name}" if not name.startswith(("..", "/", "archive", "other")) else name, data)
    refuse(path, match)


def test_reader_refuses_torchscript(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "x.pt"))
    refuse(tmp_path / "x.pt", "TorchScript archive, which holds code")


def test_reader_refuses_compressed_members(tmp_path):
    opcodes = dict_of(x=tensor_opcodes((2**20,), (1,), numel=2**20))
    path = write_zip(tmp_path / "x.pth", pickle_of(opcodes), {"data/0": bytes(2**22)}, compression=zipfile.ZIP_DEFLATED)
    refuse(path, "compressed")


def test_reader_refuses_members_that_share_their_bytes(tmp_path):
    path = write_zip(tmp_path / "x.pth", GOOD, {"data/0": FOUR_FLOATS, "data/1": bytes(100_000)})
    raw = bytearray(path.read_bytes())
    first, second = raw.rfind(b"archive/data/0"), raw.rfind(b"archive/data/1")
    start = raw.find(b"archive/data/1") - 30
    raw[second - 26 : second - 18] = struct.pack("<II", 10**8, 10**8)
    raw[first - 4 : first] = struct.pack("<I", start)
    path.write_bytes(raw)
    refuse(path, "more bytes than the file")


@pytest.mark.parametrize(
    ("keys", "storages", "match"),
    [
        ([], b"", "does not agree"),
        (["0", "0"], FOUR_FLOATS * 9, "does not agree"),
        (["0", "1"], FOUR_FLOATS * 9, "does not agree"),
        ([["0"]], FOUR_FLOATS, "does not agree"),
        ("0", FOUR_FLOATS, "does not agree"),
        (["0"], struct.pack("<q", 4), "truncated"),
        (["0"], struct.pack("<q", 5) + FOUR_FLOATS + bytes(4), "its size is wrong"),
        (["0"], struct.pack("<q", -4) + FOUR_FLOATS, "its size is wrong"),
        (["0"], struct.pack("<q", 4) + FOUR_FLOATS + b"x", "left over"),
    ],
)
def test_reader_refuses_odd_streams(tmp_path, keys, storages, match):
    data = pickle_of(dict_of(x=tensor_opcodes((4,), (1,), legacy=True)))
    refuse(write_legacy(tmp_path / "x.pth", data, keys, storages), match)


def test_reader_refuses_object_arrays(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([Call(os.system, "true")], dtype=object))
    refuse(tmp_path / "x.npz", "plain numbers")


def test_reader_refuses_text_arrays(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array(["text"]))
    refuse(tmp_path / "x.npz", "plain numbers")


def test_reader_refuses_arrays_larger_than_their_data(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + FOUR_FLOATS
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", data)
    refuse(tmp_path / "x.npz", "size that its header says")


@pytest.mark.parametrize("digits", [19, 200, 5000])
def test_reader_reads_headers_in_linear_time(tmp_path, digits):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b", ".join([b"9" * digits] * 16) + b"), }x"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header)
    refuse(tmp_path / "x.npz", "damaged")


@pytest.mark.parametrize(
    "header",
    [
        b"-" * 9000 + b"1",
        b"(" * 9000,
        b"[" * 60000,
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os').system('true'),), }",
        b"{'descr': 'O', 'fortran_order': False, 'shape': (4,), }",
        b"{'descr': '<f3', 'fortran_order': False, 'shape': (4,), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, " + b"1, " * 40 + b"), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1 " * 3000 + b"x), }",
        b"",
    ],
    ids=range(9),
)
def test_reader_refuses_odd_array_headers(tmp_path, header):
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + FOUR_FLOATS
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", data)
    refuse(tmp_path / "x.npz", "damaged")


def test_errors_show_no_control_characters_of_the_file(tmp_path):
    torch.save({"bad\nerror: \x1b[31mdone": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(UnsupportedCheckpointError, match=r"known system: bad\?error: \?\[31mdone\."):
        load_weights(tmp_path / "x.pth")


def test_reader_refuses_npz_bombs(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(2**24 + 2**21, np.float32))
    refuse(tmp_path / "x.npz", "more bytes than the file can hold")
