"""``facesr train`` and ``facesr test`` with wrong options or data: one line that says what is wrong, and status 2."""

from __future__ import annotations

import pickle
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from facesr_plugin import cli
from facesr_plugin import train as entry
from facesr_plugin.utils.run_lock import take_run_lock
from facesr_plugin.utils.stopping import SIGNALS
from helpers.runs import train_options, write_faces, write_options

pytestmark = pytest.mark.usefixtures("run_folder")


@pytest.fixture
def options(tmp_path: Path) -> Path:
    """A run of two iterations that works."""
    faces = write_faces(tmp_path / "faces", 4)
    return train_options(tmp_path / "run.yml", "run", faces, faces, 2)


def change(path: Path, edit: Callable[[dict], object]) -> None:
    """Edit the mapping in an option file."""
    content = yaml.safe_load(path.read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content))


def test_train_runs_and_puts_everything_below_the_current_folder(options: Path, tmp_path: Path) -> None:
    before = list(sys.argv)
    assert cli.main(["train", "-opt", "run.yml", "--set", "train.total_iter=1"]) == 0
    assert (tmp_path / "experiments" / "run" / "models" / "net_g_1.pth").is_file()
    assert sys.argv == before


def test_train_that_goes_on_with_fewer_iterations_than_it_has_is_refused(
    options: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(["train", "-opt", "run.yml", "--set", "val.val_freq=100"]) == 0
    assert " @ 2 iter\n" in next((tmp_path / "experiments" / "run").glob("*.log")).read_text()
    assert cli.main(["train", "-opt", "run.yml", "--set", "train.total_iter=1", "--auto-resume"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        "error: train.total_iter must be at least the iterations that the training state has, 2, got"
    )


def test_train_twice_in_one_process_leaves_signals_and_folder_free(options: Path, tmp_path: Path) -> None:
    handlers = [signal.getsignal(signum) for signum in SIGNALS]
    for _ in range(2):
        assert cli.main(["train", "-opt", "run.yml", "--set", "train.total_iter=1"]) == 0
        assert [signal.getsignal(signum) for signum in SIGNALS] == handlers
    assert len(list((tmp_path / "experiments").glob("run_archived_*"))) == 1


def test_train_beside_a_run_in_another_thread_is_refused(
    options: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        take_run_lock(tmp_path / "experiments" / "run")
        taken.set()
        done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(60)
    assert cli.main(["train", "-opt", "run.yml"]) == 2
    done.set()
    thread.join()
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        f"error: {tmp_path / 'experiments' / 'run'} must be free of other runs, got one in it: another"
    )
    assert not (tmp_path / "experiments" / "run").exists()


def test_train_records_the_merged_options(options: Path, tmp_path: Path) -> None:
    assert cli.main(["train", "-opt", "run.yml", "--set", "train.total_iter=1"]) == 0
    recorded = yaml.safe_load((tmp_path / "experiments" / "run" / "run.yml").read_text())
    assert recorded["train"]["total_iter"] == 1


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda o: o["train"].update(total_itr=3), "train has no option 'total_itr', did you mean 'total_iter'?"),
        (
            lambda o: o["datasets"]["train"].update(use_hflp=True),
            "datasets.train: unknown key 'use_hflp', did you mean",
        ),
        (lambda o: o["datasets"]["val"].update(dataroot_gt="no.lmdb", io_backend={"type": "lmdb"}), "no.lmdb"),
        (lambda o: o["datasets"]["val"].update(dataroot_gt="none"), "none"),
        (
            lambda o: o["train"].pop("pixel_opt"),
            "train must have at least one loss section such as pixel_opt, got none",
        ),
        (lambda o: o["train"]["optim_g"].update(type="Adm"), "optimizer type must be one of Adam, AdamW, got 'Adm'"),
        (lambda o: o["network_g"].update(max_chn=8), "network_g has no option 'max_chn', did you mean 'max_ch'?"),
        (
            lambda o: o["network_g"].update(type="SPARNett"),
            "network_g.type must be a registered network, got 'SPARNett', did you mean 'SPARNet'?",
        ),
        (lambda o: o["datasets"]["train"].update(use_hflip="yes"), "datasets.train.use_hflip must be bool, got 'yes'"),
        (lambda o: o["path"].update(pretrain_network_g="no.pth"), "no.pth"),
        (lambda o: o.update(nam="x"), "the option file has no option 'nam', did you mean 'name'?"),
        (lambda o: o.update(name="../x"), "name must be the name of a folder"),
        (lambda o: o.pop("name"), "the option file must have 'name'"),
        (lambda o: o.pop("path"), "the option file must have 'path'"),
        (
            lambda o: o.update(model_type="SPARNetModl"),
            "model_type must be a registered name, got 'SPARNetModl', did you",
        ),
        (lambda o: o.update(datasets=[1]), "datasets must be a section of keys, got [1]"),
        (lambda o: o["datasets"]["val"].update(type="FaceSRDatset"), "datasets.val.type must be a registered name"),
        (lambda o: o["val"].update(val_frq=1), "val has no option 'val_frq', did you mean 'val_freq'?"),
        (lambda o: o["val"]["metrics"].update(x={"type": "psnrr"}), "val.metrics.x.type must be a registered name"),
        (lambda o: o["logger"].update(print_frq=1), "logger has no option 'print_frq', did you mean 'print_freq'?"),
        (lambda o: o["path"].update(pretrain_netwrk_g="x"), "path has no option 'pretrain_netwrk_g'"),
        (lambda o: o["train"].pop("total_iter"), "train must have 'total_iter'"),
        (lambda o: o["train"]["optim_g"].update(lr="2e-4"), "train.optim_g.lr must be a number, got '2e-4'"),
        (lambda o: o["train"]["optim_g"].update(momentun=1), "optimizer Adam: "),
        (lambda o: o["train"]["pixel_opt"].update(weight=1), "train.pixel_opt: "),
        (lambda o: o["train"]["pixel_opt"].update(type="L1Los"), "train.pixel_opt.type must be a registered name"),
    ],
    ids=[
        "train key",
        "data key",
        "missing lmdb",
        "missing folder",
        "no loss",
        "optimiser",
        "network key",
        "network",
        "type of a value",
        "missing weights",
        "top key",
        "name with a path",
        "no name",
        "no path",
        "model",
        "data sets as a list",
        "data set",
        "val key",
        "metric",
        "logger key",
        "path key",
        "no number of iterations",
        "number as text",
        "optimiser key",
        "loss key",
        "loss",
    ],
)
def test_wrong_option_is_one_line(options: Path, edit: Callable, text: str, capsys: pytest.CaptureFixture) -> None:
    change(options, edit)
    assert cli.main(["train", "-opt", str(options)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert text in last


def test_several_problems_are_listed_together(options: Path, capsys: pytest.CaptureFixture) -> None:
    change(options, lambda o: (o.update(nam="x"), o["val"].update(val_frq=1)))
    assert cli.main(["train", "-opt", str(options)]) == 2
    printed = capsys.readouterr().err
    assert "2 problems in the options:" in printed
    assert "'nam'" in printed
    assert "'val_frq'" in printed


def test_missing_option_file_is_one_line(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["train", "-opt", "none.yml"]) == 2
    assert capsys.readouterr().err.startswith("error: option file none.yml does not exist. `facesr options list`")


def test_a_broken_image_is_one_line(options: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "faces/001.png").write_bytes(b"no image")
    changes = ["datasets.train.num_worker_per_gpu=1", "datasets.train.name=people"]
    assert cli.main(["train", "-opt", "run.yml", *(word for text in changes for word in ("--set", text))]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: data set 'people' (phase train): {tmp_path / 'faces/001.png'} must be an image"), (
        said
    )
    assert "Traceback" not in said


def test_option_file_with_a_python_tag_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "evil.yml").write_text(f"name: !!python/object/apply:os.mkdir ['{marker}']\n")
    assert cli.main(["train", "-opt", "evil.yml"]) == 2
    assert "Tags that build Python objects are refused" in capsys.readouterr().err
    assert not marker.exists()


def test_override_of_an_unknown_key_is_one_line(options: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["train", "-opt", str(options), "--set", "train.total_itr=3"]) == 2
    assert "has no key 'total_itr', did you mean 'total_iter'?" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "test"])
def test_without_basicsr_it_says_what_to_do(
    command: str, options: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(entry.importlib.util, "find_spec", lambda name: None)
    assert cli.main([command, "-opt", str(options)]) == 2
    error = capsys.readouterr().err
    assert "BasicSR is not installed" in error
    assert "use Python 3.10 to 3.12" in error


class Surprise:
    """Runs a command when unpickled."""

    def __reduce__(self) -> tuple:
        return print, ("code was run",)


def _foreign(path: Path) -> None:
    torch.save({"params": {"conv.weight": torch.zeros(3)}}, path)


def _hostile(path: Path) -> None:
    torch.save({"params": Surprise()}, path)


def _plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Surprise()))


@pytest.mark.parametrize("write", [_foreign, _hostile, _plain_pickle])
def test_wrong_weights_are_one_line(
    write: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write(tmp_path / "w.pth")
    faces = write_faces(tmp_path / "faces", 1)
    assignments = [f"datasets.test_1.dataroot_gt={faces}", "datasets.test_1.io_backend.type=disk"]
    options = write_options(tmp_path / "test.yml", "test_sparnet", [*assignments, "path.pretrain_network_g=w.pth"])
    change(options, lambda o: o["datasets"]["test_1"].update(gt_size=32))
    assert cli.main(["test", "-opt", str(options)]) == 2
    printed = capsys.readouterr()
    last = printed.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "w.pth" in last
    assert "code was run" not in printed.out + printed.err
