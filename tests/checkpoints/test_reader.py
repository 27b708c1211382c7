import collections

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from facesr_plugin.checkpoints import UnsupportedCheckpointError, read_checkpoint
from facesr_plugin.checkpoints.rebuild import Stub

DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]


def equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.dtype == second.dtype and first.shape == second.shape and torch.equal(first, second)


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(request, tmp_path):
    def write(value, **options):
        path = tmp_path / "file.pth"
        torch.save(value, path, _use_new_zipfile_serialization=request.param, **options)
        return path

    return write


@pytest.mark.parametrize("name", DTYPES)
def test_reader_keeps_every_dtype(save, name):
    tensor = (torch.arange(6).reshape(2, 3) - 2).to(getattr(torch, name))
    assert equal(read_checkpoint(save({"x": tensor}))["x"], tensor)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reader_reads_a_state_dict_of_every_pickle_protocol(save, protocol):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    state = network.state_dict()
    read = read_checkpoint(save(state, pickle_protocol=protocol))
    assert list(read) == list(state)
    assert all(equal(read[key], value) for key, value in state.items())
    assert type(read) is dict


@pytest.mark.parametrize(
    "view",
    [lambda x: x[1:4, ::2], lambda x: x.t(), lambda x: x[2], lambda x: x[:0], lambda x: x[3, 3], lambda x: x[:, None]],
    ids=["slice", "transposed", "row", "empty", "scalar", "unsqueezed"],
)
def test_reader_reads_views(save, view):
    whole = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    read = read_checkpoint(save({"view": view(whole), "whole": whole}))
    assert equal(read["view"], view(whole))
    assert read["view"].untyped_storage().data_ptr() == read["whole"].untyped_storage().data_ptr()


def test_reader_reads_the_values_beside_the_weights(save):
    value = {
        "step": 3,
        "best": np.float64(27.5),
        "worst": np.float32(-1.5),
        "count": np.int64(7),
        "flag": True,
        "name": "DIC",
        "records": [1.0, None, (2, "x"), {0: 1}],
        "size": torch.Size([2, 3]),
        "dtype": torch.float16,
        "raw": b"bytes",
        "parameter": nn.Parameter(torch.ones(2)),
        "ordered": collections.OrderedDict(a=1),
        "milestones": collections.Counter([100, 100, 200]),
    }
    read = read_checkpoint(save(value))
    assert equal(read.pop("parameter"), torch.ones(2))
    assert read == {key: item for key, item in value.items() if key != "parameter"}
    assert type(read["best"]) is float
    assert sorted(read["milestones"].elements()) == [100, 100, 200]


def test_reader_reads_an_optimiser_state(save):
    adam = {
        "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2)}},
        "param_groups": [{"betas": (0.9, 0.99)}],
    }
    read = read_checkpoint(save({"optimizers": [adam], "iter": 5}))
    assert equal(read["optimizers"][0]["state"][0]["exp_avg"], torch.ones(2))
    assert read["optimizers"][0]["param_groups"] == adam["param_groups"]


def test_reader_result_needs_no_gradient(save):
    assert not read_checkpoint(save({"x": nn.Parameter(torch.ones(2))}))["x"].requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_reader_reads_safetensors_whatever_its_name(tmp_path, dtype):
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    save_file({"x": tensor}, tmp_path / "file.pth")
    assert equal(read_checkpoint(tmp_path / "file.pth")["x"], tensor)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", ">f4", "bool"])
def test_reader_reads_npz(tmp_path, write, dtype):
    array = np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype))
    write(tmp_path / "file.npz", **{"a.weight": array, "scalar": array[0, 0]})
    read = read_checkpoint(tmp_path / "file.npz")
    assert read["a.weight"].tolist() == array.tolist()
    assert read["scalar"].shape == ()


def test_reader_reads_big_endian_storages(tmp_path):
    import zipfile

    torch.save({"x": torch.tensor([1.0, 2.0]), "c": torch.tensor([1 + 2j])}, tmp_path / "little.pth")
    with (
        zipfile.ZipFile(tmp_path / "little.pth") as source,
        zipfile.ZipFile(tmp_path / "big.pth", "w") as target,
    ):
        for info in source.infolist():
            data = source.read(info)
            if "/data/" in info.filename:
                data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
            target.writestr(info.filename, b"big" if info.filename.endswith("byteorder") else data)
    read = read_checkpoint(tmp_path / "big.pth")
    assert read["x"].tolist() == [1.0, 2.0]
    assert read["c"].tolist() == [1 + 2j]


def test_reader_builds_inert_stubs_of_the_classes_it_is_told(save):
    path = save(nn.Sequential(nn.Conv2d(1, 2, 1)))
    names = {"torch.nn.modules.container.Sequential", "torch.nn.modules.conv.Conv2d", "__builtin__.set"}
    stub = read_checkpoint(path, stubs=names)
    assert type(stub) is Stub
    assert stub.name == "torch.nn.modules.container.Sequential"
    convolution = stub.state["_modules"]["0"]
    assert convolution.state["_parameters"]["weight"].shape == (2, 1, 1, 1)


def test_reader_refuses_modules_without_stubs(save):
    with pytest.raises(UnsupportedCheckpointError, match=r"file\.pth.*torch\.nn\.modules\.\w+\.\w+.*save model"):
        read_checkpoint(save(nn.Sequential(nn.Conv2d(1, 2, 1))))


def test_reader_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be an existing file, got '.*none\.pth'"):
        read_checkpoint(tmp_path / "none.pth")


def test_reader_refuses_a_directory(tmp_path):
    with pytest.raises(UnsupportedCheckpointError, match="must be a file"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "the file is empty"),
        (b"name: sparnet\n", "none of"),
        (b"\x89PNG\r\n\x1a\n" + bytes(600), "none of"),
        (bytes(range(1, 256)) * 9, "none of"),
        (b"\x80\x02K\x01", "damaged"),
        (b"\x80\x02K\x01.\x80\x02K\x01.", "not one that torch.save wrote"),
        (bytes(257) + b"ustar" + bytes(600), "tar form"),
        (b"PK\x03\x04" + bytes(100), "zip archive is damaged"),
        (b"PK\x05\x06" + bytes(18), "none of"),
        ((40).to_bytes(8, "little") + b"{" + bytes(60), "safetensors data is damaged"),
    ],
    ids=["empty", "yaml", "png", "noise", "cut", "pickle", "tar", "zip", "empty-zip", "safetensors"],
)
def test_reader_refuses_other_files(tmp_path, content, text):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(UnsupportedCheckpointError, match=text) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("padding", range(8))
def test_reader_knows_safetensors_whose_first_byte_is_a_pickles(tmp_path, padding):
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    for target in (0x80, 0x8004, 0x50):
        length = target + 256 * (len(header) // 256 + padding) if target < 256 else target
        data = length.to_bytes(8, "little") + header.ljust(length) + bytes(4)
        (tmp_path / "x.pth").write_bytes(data)
        assert read_checkpoint(tmp_path / "x.pth")["x"].tolist() == [0]
