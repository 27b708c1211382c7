"""The ``facesr`` command: help, exit status, one-line errors."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from facesr_plugin import __version__, cli
from facesr_plugin.utils import cliargs
from facesr_plugin.utils.option_file import shipped_options

COMMANDS = ("convert", "doctor", "eval", "infer", "options", "prepare", "restore", "test", "train", "weights")


def test_parser_has_every_command() -> None:
    (subparsers,) = (action for action in cli.build_parser()._actions if hasattr(action, "choices") and action.choices)
    assert set(subparsers.choices) >= set(COMMANDS)


@pytest.mark.parametrize("words", [[], *([command] for command in COMMANDS), ["prepare", "faces"], ["options", "copy"]])
def test_help_ends_well(words: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("usage: facesr")


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\nfrom facesr_plugin import cli\ntry:\n    cli.main(['infer', '--help'])\nexcept SystemExit:\n"
        "    print(sorted({'torch', 'numpy', 'basicsr', 'cv2'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


def test_version_is_the_packages(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"facesr-plugin {__version__}\n"


@pytest.mark.parametrize("words", [[], ["nonsense"], ["options"], ["train"], ["options", "list", "extra"]])
def test_wrong_words_are_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == cliargs.EXIT_USAGE


def _raising(error: BaseException) -> object:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("size must be 1 or more, got 0"), 2, "error: size must be 1 or more, got 0\n"),
        (FileNotFoundError("option file x.yml does not exist"), 2, "error: option file x.yml does not exist\n"),
        (FileNotFoundError(2, "No such file or directory", "x.png"), 2, "error: No such file or directory: x.png\n"),
        (ImportError("BasicSR is not installed"), 2, "error: BasicSR is not installed\n"),
        (KeyboardInterrupt(), 130, "interrupted; the same command continues where it stopped\n"),
    ],
)
def test_errors_are_one_line_and_a_status(
    error: BaseException, status: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("facesr_plugin.commands.options.run_list", _raising(error))
    assert cli.main(["options", "list"]) == status
    assert capsys.readouterr().err == text


def test_defects_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facesr_plugin.commands.options.run_list", _raising(RuntimeError("a defect")))
    with pytest.raises(RuntimeError, match="a defect"):
        cli.main(["options", "list"])


def test_options_list_names_every_file_and_its_command(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["options", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_options())
    assert all("-opt" in line for line in lines)


def test_options_copy_never_replaces_unasked(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "sparnet.yml").write_text("mine")
    assert cli.main(["options", "copy", "sparnet", str(tmp_path)]) == 2
    assert "sparnet.yml exists already. Give --overwrite to replace it" in capsys.readouterr().err
    assert (tmp_path / "sparnet.yml").read_text() == "mine"
    assert cli.main(["options", "copy", "sparnet.yml", str(tmp_path), "--overwrite"]) == 0
    assert (tmp_path / "sparnet.yml").read_bytes() == shipped_options()["sparnet"].read_bytes()


def test_options_copy_all_copies_all(tmp_path: Path) -> None:
    assert cli.main(["options", "copy", "all", str(tmp_path / "new")]) == 0
    assert sorted(path.stem for path in (tmp_path / "new").iterdir()) == sorted(shipped_options())


def test_options_copy_suggests_a_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["options", "copy", "sparnett", str(tmp_path)]) == 2
    assert "did you mean 'sparnet'?" in capsys.readouterr().err


def test_add_common_gives_the_shared_flags() -> None:
    parser = argparse.ArgumentParser()
    cliargs.add_common(parser)
    assert vars(parser.parse_args([])) == {
        "device": "auto", "precision": "fp32", "batch": 16, "workers": 2, "overwrite": False,
    }  # fmt: skip


@pytest.mark.parametrize("words", [["--batch", "0"], ["--workers", "-1"], ["--batch", "x"], ["--precision", "fp8"]])
def test_add_common_refuses_nonsense(words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    cliargs.add_common(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(words)


def test_doctor_reports_and_ends_well(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for word in (
        f"facesr-plugin {__version__}",
        "basicsr: imported from",
        "hook: active",
        "sampler-position",
        "devices:",
    ):
        assert word in printed
