"""Python 3.13, for which BasicSR has no release: everything but training works, and training says what to do.

A compiled torch cannot be borrowed from another Python. One environment with a torch of the same version is made under
``.cache`` (a minute and 0.8 GB, once); it borrows what does not depend on the Python version, above all NVIDIA's
libraries. The plugin is installed anew in every session, by pip and with its requirements.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from helpers.checkpoint_files import official_state
from helpers.environments import REPO, ChildEnv, link_packages, other_python, portable_names, run
from helpers.runs import train_options
from helpers.tiny import save_tiny_sparnet

PYTHON = other_python("3.13")
pytestmark = [pytest.mark.process, pytest.mark.skipif(PYTHON is None, reason="there is no Python 3.13 on this machine")]


def version(module: object) -> str:
    """A package's public version: ``2.15.0+cpu`` is ``2.15.0``."""
    return module.__version__.partition("+")[0]


@pytest.fixture(scope="module")
def child(wheel: Path) -> ChildEnv:
    """The wheel with its requirements on Python 3.13."""
    root = REPO / ".cache" / f"python3.13-torch{version(torch)}"
    finished = root / "env" / "finished"
    if not finished.is_file():
        shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(root / "shared", ignore_errors=True)
    portable = portable_names()
    link_packages(root / "shared", lambda name: name in portable and not name.startswith("basicsr"))
    made = ChildEnv.create(root / "env", root / "shared", PYTHON)
    if not finished.is_file():
        wanted = [f"torch=={version(torch)}", f"torchvision=={version(torchvision)}"]
        made.pip("install", *wanted, timeout=900)
        finished.touch()
    made.pip("uninstall", "-y", "facesr-plugin")
    made.pip("install", wheel, timeout=600)
    return made


def facesr(child: ChildEnv, folder: Path, *words: object, check: bool = True) -> tuple[int, str]:
    """Exit status and output of one command."""
    done = run([child.root / "bin" / "facesr", *words], cwd=folder, check=check, CUDA_VISIBLE_DEVICES="")
    return done.returncode, done.stdout + done.stderr


def test_plugin_is_there_without_basicsr(child: ChildEnv) -> None:
    code = """if True:
        import sys, facesr_plugin, importlib.util as util
        print(sys.version_info[:2], util.find_spec("basicsr"), facesr_plugin.__file__.startswith(sys.prefix))
    """
    assert child.code(code) == "(3, 13) None True\n"


def test_doctor_says_what_is_missing(child: ChildEnv, tmp_path: Path) -> None:
    status, printed = facesr(child, tmp_path, "doctor")
    assert status == 0
    assert "basicsr: not installed; infer, convert, prepare and options work, train and test need it" in printed


def test_options_can_be_copied(child: ChildEnv, tmp_path: Path) -> None:
    facesr(child, tmp_path, "options", "copy", "sparnet", "options")
    assert (tmp_path / "options" / "sparnet.yml").is_file()


def test_official_weights_are_converted(child: ChildEnv, tmp_path: Path) -> None:
    torch.save(official_state("tiny_in_sn_attn3d"), tmp_path / "official.pth")
    _, printed = facesr(child, tmp_path, "convert", "official.pth", "ours.safetensors")
    assert "sparnethd SPARNet" in printed
    assert (tmp_path / "ours.safetensors").is_file()


def test_faces_are_restored(child: ChildEnv, tmp_path: Path) -> None:
    import facesr_plugin
    from facesr_plugin.utils.imageio import read_image, write_png

    weights = save_tiny_sparnet(tmp_path / "w.pth")
    face = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    write_png(tmp_path / "in" / "face.png", face)
    facesr(child, tmp_path, "infer", "in", "--weights", weights, "--out", "out")
    restored = read_image(tmp_path / "out" / "face.png").astype(int)
    (here,) = facesr_plugin.load(weights, device="cpu")([face])
    assert restored.shape == (128, 128, 3)
    # another build may round the other way
    assert np.abs(restored - here.astype(int)).max() <= 1


@pytest.mark.parametrize("command", ["train", "test"])
def test_training_says_what_to_do(child: ChildEnv, tmp_path: Path, command: str) -> None:
    options = train_options(tmp_path / "run.yml", "run", tmp_path, tmp_path, 2)
    status, printed = facesr(child, tmp_path, command, "-opt", options, check=False)
    assert status == 2
    assert printed.startswith("error: BasicSR is not installed.")
    assert "use Python 3.10 to 3.12 there" in printed
