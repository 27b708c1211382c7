"""Option files and results of tiny training runs: derived from the shipped files, seconds on one core."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from facesr_plugin.checkpoints import read_checkpoint
from facesr_plugin.utils.imageio import write_png
from facesr_plugin.utils.option_file import find_shipped, load_option_file, override
from helpers.environments import ChildEnv, clean_env
from helpers.options import TINY_SPARNET

NETWORK = [f"network_g.{key}={value}" for key, value in TINY_SPARNET.items()]
SIZE = TINY_SPARNET["out_size"]
_ITERATION = re.compile(r"epoch:\s*\d+, iter:\s*([\d,]+)")


def write_faces(folder: Path, number: int, size: int = SIZE) -> Path:
    """Write smooth random pictures, ``000.png`` and so on; good enough to compute with."""
    rng = np.random.default_rng(size)
    ramp = np.linspace(0, 3, size)
    for index in range(number):
        waves = [np.sin(ramp[:, None] * rng.uniform(1, 3) + ramp * rng.uniform(1, 3)) for _ in range(3)]
        write_png(folder / f"{index:03d}.png", (np.stack(waves, axis=2) * 100 + 128).astype(np.uint8))
    return folder


def write_options(path: Path, shipped: str, assignments: list[str], **sections: Any) -> Path:
    """Write a shipped option file with a tiny network, other values (``key=value``) and new keys by section."""
    options = load_option_file(find_shipped(shipped))
    override(options, [*NETWORK, "num_gpu=0", *assignments])
    for name, additions in sections.items():
        options[name].update(additions)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    return path


def train_options(path: Path, name: str, train: Path, val: Path, total: int, *more: str, **sections: Any) -> Path:
    """Options of a training run of ``total`` iterations on two data stores; saves half-way and at the end."""
    kind = "lmdb" if train.suffix == ".lmdb" else "disk"
    assignments = [
        f"name={name}",
        f"datasets.train.dataroot_gt={train}",
        f"datasets.train.io_backend.type={kind}",
        "datasets.train.batch_size_per_gpu=2",
        "datasets.train.num_worker_per_gpu=0",
        f"datasets.val.dataroot_gt={val}",
        f"datasets.val.io_backend.type={kind}",
        f"train.total_iter={total}",
        f"val.val_freq={total // 2}",
        f"logger.save_checkpoint_freq={total // 2}",
        "logger.print_freq=1",
        "logger.use_tb_logger=false",
        *more,
    ]
    path = write_options(path, "sparnet", assignments, **sections)
    options = yaml.safe_load(path.read_text())
    for dataset in options["datasets"].values():
        dataset["gt_size"] = SIZE
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    return path


def train_checkout(
    child: ChildEnv, checkout: Path, options: Path, kill_after: int | None = None, wait_s: float = 0
) -> str:
    """Train by BasicSR's own script, continuing if there is a state; return the log.

    Args:
        child: Environment with the plugin.
        checkout: Of BasicSR; the options are below it.
        options: Option file that prints every iteration.
        kill_after: Kill the whole process group once this iteration is logged.
        wait_s: How long after that.
    """
    command = [child.python, "basicsr/train.py", "-opt", options.relative_to(checkout), "--auto_resume"]
    process = subprocess.Popen(
        [str(word) for word in command], cwd=checkout, env=clean_env(PYTHONPATH=".", CUDA_VISIBLE_DEVICES=""),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    log = []
    for line in process.stderr:
        log.append(line)
        found = _ITERATION.search(line)
        if kill_after is not None and found and int(found[1].replace(",", "")) >= kill_after:
            time.sleep(wait_s)
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.stderr.close()
    code = process.wait(timeout=60)
    assert code == (0 if kill_after is None else -signal.SIGKILL), "".join(log[-30:])
    return "".join(log)


def same(one: Any, other: Any) -> bool:
    """Whether two trees of plain containers and tensors are equal in every bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other


def differences(one: Path, other: Path, iteration: int) -> list[str]:
    """Names of the files of two experiments' last checkpoints that do not hold the same; empty if all do."""
    nets = {path.name.split("_")[1] for path in (one / "models").iterdir()}
    names = [f"models/net_{net}_{place}.pth" for net in sorted(nets) for place in (iteration, "latest")]
    names.append(f"training_states/{iteration}.state")
    return [name for name in names if not same(read_checkpoint(one / name), read_checkpoint(other / name))]
