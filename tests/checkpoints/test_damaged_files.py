"""Cut and bit-flipped files: an error of ours or the right tensors, never another exception."""

import random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from facesr_plugin.checkpoints import UnsupportedCheckpointError, read_checkpoint

STATE = {
    "a.weight": torch.arange(72.0).reshape(2, 4, 3, 3),
    "a.bias": torch.arange(4).half(),
    "count": torch.tensor(3),
    "empty": torch.zeros(0, 2),
}


def write(path, form):
    if form == "safetensors":
        save_file(STATE, path, metadata={"facesr": "{}"})
    elif form == "npz":
        with path.open("wb") as file:
            np.savez_compressed(file, **{key: value.numpy() for key, value in STATE.items()})
    else:
        torch.save({"params": STATE}, path, _use_new_zipfile_serialization=form == "zip")
    return path.read_bytes()


def flat(path):
    content = read_checkpoint(path)
    return content.get("params", content)


def same(state):
    return list(state) == list(STATE) and all(torch.equal(state[key], value) for key, value in STATE.items())


def outcomes(tmp_path, form, damage, count):
    """Count what happens to ``count`` damaged files: refused, read as it was, read as something else."""
    raw, rng, path = write(tmp_path / "good", form), random.Random(0), tmp_path / "bad"
    seen = {"refused": 0, "same": 0, "other": 0}
    for _ in range(count):
        path.write_bytes(damage(bytearray(raw), rng))
        try:
            seen["same" if same(flat(path)) else "other"] += 1
        except UnsupportedCheckpointError as error:
            assert len(str(error)) < 1000  # noqa: PT017
            seen["refused"] += 1
    return seen


def flip(data, rng):
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def flip_many(data, rng):
    for _ in range(8):
        flip(data, rng)
    return data


def cut(data, rng):
    return data[: rng.randrange(len(data))]


@pytest.mark.parametrize("damage", [flip, flip_many])
@pytest.mark.parametrize("form", ["zip", "npz"])
def test_reader_notices_flipped_bits_by_the_checksums_of_archives(tmp_path, form, damage):
    seen = outcomes(tmp_path, form, damage, 300)
    assert seen["other"] == 0
    assert seen["refused"] > 100


@pytest.mark.parametrize("damage", [flip, flip_many])
@pytest.mark.parametrize("form", ["legacy", "safetensors"])  # these forms have no checksum: values may change
def test_reader_survives_flipped_bits(tmp_path, form, damage):
    assert outcomes(tmp_path, form, damage, 300)["refused"] > 50


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors", "npz"])
def test_reader_refuses_every_truncation(tmp_path, form):
    assert outcomes(tmp_path, form, cut, 150) == {"refused": 150, "same": 0, "other": 0}
