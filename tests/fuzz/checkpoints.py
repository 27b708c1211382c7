"""Weight files in every form, and pickles made opcode by opcode."""

from __future__ import annotations

import argparse
import io
import json
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from safetensors.torch import save

from facesr_plugin.checkpoints import load_weights, make_record, read_checkpoint
from facesr_plugin.checkpoints.numpy_pickle import read_numpy_pickle
from facesr_plugin.commands import convert
from fuzz.mutate import INTEGERS, damaged, edited_trees, nested, odd_values
from fuzz.sandbox import Case
from helpers.checkpoint_files import (
    dict_of,
    integer,
    official_state,
    pickle_of,
    tensor_opcodes,
    text,
    write_legacy,
    write_zip,
)
from helpers.tiny import TINY, tiny_sparnet
from helpers.tiny_dic import TINY_DIC, tiny_dic

FORMS = ("zip", "legacy", "safetensors", "npz")


@cache
def _contents() -> tuple[dict[str, Any], ...]:
    """Whole files as plain values: ours, BasicSR's, an official one, one of several networks."""
    sparnet, dic = dict(tiny_sparnet().state_dict()), dict(tiny_dic().state_dict())
    few = dict(list(sparnet.items())[:6])
    faces = {"gt_size": 128, "scale": 8, "framing": "loose"}
    return (
        {"params": sparnet, "facesr": make_record("sparnet", "SPARNet", TINY, {}, faces)},
        {"params": few, "params_ema": sparnet},
        {"params": dic, "facesr": make_record("dic", "DICNet", TINY_DIC, {"num_steps": 2})},
        dict(official_state("tiny_sparnet")) if "tiny_sparnet" in _official_names() else few,
        {"netG": {f"module.{key}": value for key, value in few.items()}, "netD": few, "epoch": 3},
        few,
    )


@cache
def _official_names() -> tuple[str, ...]:
    from helpers.checkpoint_files import OFFICIAL

    return tuple(OFFICIAL)


def torch_bytes(content: Any, form: str = "zip") -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=form == "zip")
    return buffer.getvalue()


@cache
def _whole(number: int, form: str) -> bytes:
    content = _contents()[number]
    tensors = {key: value for key, value in content.get("params", content).items() if isinstance(value, torch.Tensor)}
    tensors = tensors or dict(_contents()[5])
    if form == "safetensors":
        record = {"facesr": json.dumps(content["facesr"])} if "facesr" in content else {}
        return save({key: value.contiguous() for key, value in tensors.items()}, {"format": "pt", **record})
    if form == "npz":
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{key: value.numpy() for key, value in tensors.items()})
        return buffer.getvalue()
    return torch_bytes(content, form)


TENSORS = (
    torch.zeros(0),
    torch.zeros(3, dtype=torch.int8),
    torch.tensor(True),
    torch.zeros(2, 2, dtype=torch.complex64),
    torch.zeros(1, 1, 1, 1),
    torch.zeros(1).expand(5),
    torch.zeros(4, 4)[:, ::2],
    torch.full((3,), float("nan")),
    torch.zeros(70_000),
    torch.zeros((1,) * 9),
)


@st.composite
def _edited(draw: Callable) -> bytes:
    trees = st.sampled_from(_contents()[:-1]).map(
        lambda tree: {key: dict(value) if isinstance(value, dict) else value for key, value in tree.items()}
    )
    more = (*TENSORS, torch.float32, (1, 2), (), "sparnet", "dic", nested(70), {"params": 1}, {"system": "sparnet"})
    values = st.one_of(odd_values(*more), st.sampled_from(TENSORS)).filter(
        lambda value: not hasattr(value, "isoformat")
    )
    return torch_bytes(draw(edited_trees(trees, values)), draw(st.sampled_from(("zip", "legacy"))))


@st.composite
def _record_edits(draw: Callable) -> bytes:
    """Only the record is wrong: what decides which network is built, and how large."""
    content = draw(st.sampled_from([tree for tree in _contents() if "facesr" in tree]))
    record = draw(edited_trees(st.just(content["facesr"]), odd_values("dic", "DICNet", "LightCNN", 40_000)))
    if draw(st.booleans()):
        tensors = {key: value.contiguous() for key, value in content["params"].items()}
        try:
            metadata = {"facesr": json.dumps(record), "kind": draw(st.sampled_from(("params", "params_ema", "x", "")))}
            return save(tensors, metadata)
        except (TypeError, ValueError, UnicodeEncodeError):
            pass
    return torch_bytes({**content, "facesr": record})


_GLOBALS = (
    "os system",
    "posix system",
    "builtins eval",
    "builtins exec",
    "builtins getattr",
    "subprocess Popen",
    "torch load",
    "torch.hub load",
    "torch.storage _load_from_bytes",
    "functools partial",
    "numpy load",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor",
    "collections OrderedDict",
    "collections Counter",
    "torch Size",
    "torch device",
    "_codecs encode",
    "numpy dtype",
    "numpy ndarray",
    "numpy.core.multiarray scalar",
    "numpy.core.multiarray _reconstruct",
    "torch FloatStorage",
    "torch float32",
    "torch QInt8Storage",
    "fan_model fan_squeeze",
    "torch.nn.modules.conv Conv2d",
    "__main__ x",
    " ",
    "a",
)


def _snippets() -> st.SearchStrategy[bytes]:
    number = st.sampled_from(INTEGERS[:-1]).map(integer)
    size = st.sampled_from((0, 1, 2, 4, 2**31, 2**40, 2**62, 2**64, -1))
    tensors = st.builds(
        lambda sides, strides, offset, numel, kind, legacy: tensor_opcodes(
            tuple(sides), tuple(strides), offset=offset, numel=numel, kind=kind, legacy=legacy
        ),
        st.lists(size, max_size=3),
        st.lists(size, max_size=3),
        size,
        size,
        st.sampled_from(("FloatStorage", "DoubleStorage", "BoolStorage", "QInt8Storage", "ComplexFloatStorage")),
        st.booleans(),
    )
    lengths = st.sampled_from((0, 1, 255, 2**31 - 1, 2**32 - 1)).map(lambda value: struct.pack("<I", value))
    longs = st.sampled_from((0, 2**31, 2**40, 2**62, 2**64 - 1)).map(lambda value: struct.pack("<Q", value))
    single = st.sampled_from(
        [bytes([code]) for code in b"()]}.0123NstuaebRoi\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98Q2dl"]
    )
    return st.one_of(
        single,
        single,
        number,
        tensors,
        st.sampled_from(_GLOBALS).map(lambda name: b"c" + name.replace(" ", "\n").encode() + b"\n"),
        st.sampled_from(_GLOBALS).map(lambda name: b"(i" + name.replace(" ", "\n").encode() + b"\n"),
        st.sampled_from(_GLOBALS).map(
            lambda name: text(name.partition(" ")[0]) + text(name.partition(" ")[2]) + b"\x93"
        ),
        st.sampled_from(("params", "storage", "touch CANARY", "latin1", "f8", "x" * 300, "i4", "O", "", "é")).map(text),
        st.sampled_from(
            (
                b"\x82\x01",
                b"\x83\x01\x00",
                b"\x84\x01\x00\x00\x00",
                b"Px\n",
                b"I1\n",
                b"F1.5\n",
                b"L5L\n",
                b"S'x'\n",
                b"Vx\n",
                b"\x80\x02",
                b"G" + struct.pack(">d", float("inf")),
                b"h\x00",
                b"q\x00",
                b"q\x01",
                b"h\x01",
                b"K\x01",
                b"C\x02ab",
            )
        ),
        st.builds(
            lambda code, length: code + length, st.sampled_from((b"X", b"T", b"B", b"j", b"r", b"\x8b")), lengths
        ),
        st.builds(lambda code, length: code + length, st.sampled_from((b"\x8d", b"\x8e", b"\x96", b"\x95")), longs),
    )


@st.composite
def pickles(draw: Callable) -> bytes:
    opcodes = b"".join(draw(st.lists(_snippets(), max_size=12)))
    repeat = draw(st.sampled_from((1, 1, 1, 1, 30, 5000)))
    body = draw(st.sampled_from((opcodes, dict_of(params=opcodes), b"]" + opcodes * repeat, opcodes * repeat + b"}")))
    data = pickle_of(body)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        form = draw(st.sampled_from(("zip", "legacy", "plain", "deflated")))
        if form == "plain":
            return data
        if form == "legacy":
            return write_legacy(path, data, ["0"], struct.pack("<q", 4) + bytes(16)).read_bytes()
        compression = zipfile.ZIP_DEFLATED if form == "deflated" else zipfile.ZIP_STORED
        return write_zip(path, data, {"data/0": bytes(16), "version": b"3\n"}, compression=compression).read_bytes()


@st.composite
def calls(draw: Callable) -> bytes:
    """What Python's pickle makes of an object that calls a function when it is loaded."""

    class Call:
        def __init__(self, *call: Any) -> None:
            self.call = call

        def __reduce__(self) -> tuple:
            return self.call

    import os

    calls = [
        (os.system, ("touch CANARY",)),
        (exec, ("open('CANARY','w')",)),
        (eval, ("1",)),
        (bytearray, (2**40,)),
        (open, ("CANARY", "w")),
    ]
    value = Call(*draw(st.sampled_from(calls)))
    content = draw(
        st.sampled_from(({"params": value}, value, [value], {"facesr": value, "params": {}}, {"params": {"x": value}}))
    )
    if draw(st.booleans()):
        return torch_bytes(content, draw(st.sampled_from(("zip", "legacy"))))
    return pickle.dumps(content, draw(st.integers(0, 5)))


_HEADERS = ("'<f4'", "'>f8'", "'O'", "'<U4'", "'|b1'", "'<c16'", "[('a', '<f4')]", "'<f3'")


@st.composite
def npz_members(draw: Callable, names: tuple[str, ...]) -> bytes:
    """An npz whose arrays declare odd types and sizes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))) as archive:
        for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)):
            shape = ", ".join(
                map(str, draw(st.lists(st.sampled_from((0, 1, 2, 5, 68, 2**31, 2**40, 2**63, -1)), max_size=4)))
            )
            kind = draw(st.sampled_from(_HEADERS))
            header = f"{{'descr': {kind}, 'fortran_order': {draw(st.booleans())}, 'shape': ({shape},), }}".replace(
                "(,)", "()"
            ).encode()
            header = draw(
                st.sampled_from(
                    (header, header, header, b"(" * 9000, b"-" * 9000 + b"1", header[:-2], header + b" " * 70_000)
                )
            )
            version = draw(st.sampled_from((b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00")))
            length = (
                struct.pack("<H", len(header) % 65536) if version == b"\x01\x00" else struct.pack("<I", len(header))
            )
            body = draw(st.sampled_from((b"", bytes(4), bytes(40), bytes(544), bytes(2**16))))
            archive.writestr(f"{name}.npy", b"\x93NUMPY" + version + length + header + body)
    return buffer.getvalue()


@cache
def bomb(kind: str) -> bytes:
    """Small files of much content: 2 GiB of zeros behind 2 MiB."""
    buffer = io.BytesIO()
    names = {
        "npz": ("x.npy",),
        "landmarks": ("names.npy", "points.npy"),
        "torch": ("archive/data.pkl", "archive/data/0"),
    }[kind]
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            count = 2**28 if name != "names.npy" else 4
            header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count // 4}, 2, 2), }}".encode()
            if name == "names.npy":
                header = b"{'descr': '<U4', 'fortran_order': False, 'shape': (4,), }"
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
                for _ in range(64 if count > 4 else 0):
                    member.write(bytes(2**24))
                member.write(bytes(64 if count == 4 else 0))
    return buffer.getvalue()


@st.composite
def cases(draw: Callable) -> Case:
    wholes = st.builds(_whole, st.integers(0, len(_contents()) - 1), st.sampled_from(FORMS))
    content = draw(
        st.one_of(
            damaged(wholes),
            damaged(wholes),
            _edited(),
            _record_edits(),
            pickles(),
            pickles(),
            calls(),
            npz_members(("a.weight", "x", "../x", "")),
            st.sampled_from(("npz", "torch")).map(bomb),
            st.builds(
                bytes.__add__,
                st.sampled_from(
                    (b"", b"PK\x03\x04", b"PK\x05\x06", b"\x80\x02", b"\x10\0\0\0\0\0\0\0{", b"{\0\0\0\0\0\0\0{")
                ),
                st.binary(max_size=120),
            ),
        )
    )
    arguments = {
        "entry": draw(st.sampled_from(("load", "load", "read", "convert", "numpy"))),
        "prefer": draw(st.sampled_from(("params", "params_ema"))),
        "system": draw(st.sampled_from((None, None, "sparnet", "dic", "progressive", "jasrnet"))),
        "arch": draw(st.sampled_from((None, None, "SPARNet", "DICNet", "CompressedFAN"))),
        "to": draw(st.sampled_from(("facesr", "official"))),
        "out": draw(st.sampled_from(("out.pth", "out.safetensors"))),
        "fold": draw(st.booleans()),
    }
    return Case("checkpoints", {"weights.pth": content}, arguments)


def attempt(folder: Path, case: Case) -> None:
    arguments, path = case.arguments, folder / "weights.pth"
    if arguments["entry"] == "read":
        read_checkpoint(path)
    elif arguments["entry"] == "numpy":
        read_numpy_pickle(path)
    elif arguments["entry"] == "load":
        load_weights(path, system=arguments["system"], prefer=arguments["prefer"], arch=arguments["arch"])
    else:
        parser = argparse.ArgumentParser()
        convert.add_parser(parser.add_subparsers())
        fold = ["--fold-spectral-norm"] if arguments["fold"] else []
        parsed = parser.parse_args(
            ["convert", str(path), str(folder / arguments["out"]), "--to", arguments["to"], *fold]
        )
        parsed.func(parsed)
