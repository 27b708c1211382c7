"""``option-list``: the check before BasicSR reads its options, with what its command line changes in them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import basicsr.utils.options
import pytest
import yaml

from facesr_plugin import run_check
from facesr_plugin.compat import option_list
from facesr_plugin.compat.option_list import force, settled
from helpers.pristine import pristine
from helpers.runs import train_options, write_faces


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Option file of a training that lacks its data, named by the command line."""
    path = train_options(tmp_path / "run.yml", "run", tmp_path / "none", write_faces(tmp_path / "faces", 2), 2)
    monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(path)])
    return path


def test_repair_is_named_and_finds_the_defect() -> None:
    assert option_list.OPTION_LIST.name == "option-list"
    released = pristine("basicsr.utils.options").parse_options
    assert "check_command" not in option_list.names_in(released)


def test_problems_end_the_run_before_anything_is_made(path: Path, capsys: pytest.CaptureFixture) -> None:
    sys.argv += ["--force_yml", "path:pretrain_network_g=no.pth", "num_gpu=!!float2"]
    before = set(path.parent.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        basicsr.utils.options.parse_options(str(path.parent), is_train=True)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 3 problems in the options:\n  num_gpu must be auto or a whole number, got 2.0\n")
    assert "datasets.train.dataroot_gt: no such file or folder" in error
    assert set(path.parent.rglob("*")) == before


def test_run_that_goes_on_is_told_from_a_new_one(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    state = tmp_path / "experiments" / "run" / "training_states" / "2.state"
    state.parent.mkdir(parents=True)
    state.touch()
    sys.argv += ["--auto_resume", "--force_yml", "path:pretrain_network_g=no.pth"]
    with pytest.raises(SystemExit):
        option_list.check_command(tmp_path, is_train=True)
    assert "pretrain_network_g" not in capsys.readouterr().err


@pytest.mark.parametrize(("rank", "said"), [("0", f"error: {option_list._NO_LAUNCHER}\n"), ("1", "")])
def test_ranks_without_a_launcher_are_refused_once(
    path: Path, rank: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": rank}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(run_check.time, "sleep", lambda seconds: None)
    with pytest.raises(SystemExit) as caught:
        option_list.check_command(path.parent, is_train=True)
    assert (caught.value.code, capsys.readouterr().err) == (2, said)


@pytest.mark.parametrize("model_type", ["SRModel", None])
def test_other_models_are_left_to_basicsr(path: Path, model_type: str | None) -> None:
    content = yaml.safe_load(path.read_text()) | {"model_type": model_type}
    path.write_text(yaml.safe_dump(content))
    option_list.check_command(path.parent, is_train=True)


@pytest.mark.parametrize(
    "arguments", [[], ["-opt"], ["-opt", "none.yml"], ["-opt", "bad.yml"], ["-opt", "run.yml", "--force_yml", "a:b"]]
)
def test_what_basicsr_refuses_itself_is_left_to_it(
    path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    Path("bad.yml").write_text("a: [")
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    option_list.check_command(path.parent, is_train=True)


def test_file_that_was_checked_is_not_checked_again(path: Path) -> None:
    with settled(path):
        option_list.check_command(path.parent, is_train=True)
    with pytest.raises(SystemExit):
        option_list.check_command(path.parent, is_train=True)


@pytest.mark.parametrize(
    "text",
    ["~", "None", "True", "false", "3", "-3", "2.5", "1e-4", "!!float 1e-4", "[1, 2]", "a b", "1.2.3", "!!floatx", ""],
)
def test_values_are_those_that_basicsr_reads(text: str) -> None:
    options: dict[str, Any] = {"train": {"x": 0}}
    assert force(options, [f"train:x={text}"])
    try:
        expected = basicsr.utils.options._postprocess_yml_value(text)
    except ValueError:  # BasicSR stops there itself
        expected = text
    assert options == {"train": {"x": expected}}


def test_forced_values_are_never_run() -> None:
    options: dict[str, Any] = {}
    assert force(options, ["x=[print('run')]"])
    assert options == {"x": "[print('run')]"}


@pytest.mark.parametrize("entry", ["train", "train:a:b=1", "none:x=1"])
def test_forced_values_of_no_section_are_not_understood(entry: str) -> None:
    assert not force({"train": {"a": 1}}, [entry])


@pytest.mark.parametrize("key", ["model_type", "'model_type'"])
def test_file_that_cannot_be_read_safely_is_refused(path: Path, key: str, capsys: pytest.CaptureFixture) -> None:
    path.write_text(f"{key}: SPARNetModel\nscale: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(SystemExit):
        option_list.check_command(path.parent, is_train=True)
    assert "Tags that build Python objects are refused" in capsys.readouterr().err


def test_file_of_another_model_is_left_to_basicsr(path: Path) -> None:
    path.write_text("model_type: SRModel\nscale: 1\nscale: 2\n")
    option_list.check_command(path.parent, is_train=True)
