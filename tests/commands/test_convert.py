import os
import subprocess
import sys

import pytest
import torch

from facesr_plugin.archs.dic_arch import DICNet
from facesr_plugin.checkpoints import load_weights, make_record
from facesr_plugin.cli import main
from helpers.checkpoint_files import official_state
from helpers.tiny_dic import TINY_DIC, save_tiny_dic


@pytest.fixture
def official(tmp_path):
    torch.save(official_state("tiny_in_sn_attn3d"), tmp_path / "official.pth")
    return tmp_path / "official.pth"


def convert(*arguments):
    return main(["convert", *map(str, arguments)])


def test_convert_goes_to_ours_and_back(tmp_path, official, capsys):
    assert convert(official, tmp_path / "ours.safetensors") == 0
    out = capsys.readouterr().out
    assert "sparnethd SPARNet, 372 tensors (official names): min_ch 10, max_ch 32" in out
    assert out.count("\n") == 1
    assert convert(tmp_path / "ours.safetensors", tmp_path / "back.pth", "--to", "official") == 0
    back, wanted = torch.load(tmp_path / "back.pth", weights_only=True), official_state("tiny_in_sn_attn3d")
    assert list(back) == list(wanted)
    assert all(torch.equal(back[key], value) for key, value in wanted.items())


def test_convert_folds_spectral_norm(tmp_path, official, capsys):
    assert convert(official, tmp_path / "ours.pth", "--fold-spectral-norm", "--system", "sparnethd") == 0
    assert "spectral norm folded" in capsys.readouterr().out
    loaded = load_weights(tmp_path / "ours.pth")
    assert loaded.args["spectral_norm"] is False
    assert convert(tmp_path / "ours.pth", tmp_path / "again.pth", "--fold-spectral-norm") == 2
    assert "which has none" in capsys.readouterr().err


def test_convert_goes_to_the_names_of_mmagic_and_back(tmp_path, capsys):
    source = save_tiny_dic(tmp_path / "dic.pth")
    assert convert(source, tmp_path / "theirs.pth", "--to", "mmagic") == 0
    assert capsys.readouterr().out.endswith(f"-> {tmp_path / 'theirs.pth'} (mmagic names)\n")
    theirs = torch.load(tmp_path / "theirs.pth", weights_only=True)["state_dict"]
    assert all(key.startswith("generator.") for key in theirs)
    assert convert(tmp_path / "theirs.pth", tmp_path / "ours.pth", "--arg", "num_steps=3") == 0
    assert "dic DICNet, " in (out := capsys.readouterr().out)
    assert " tensors (mmagic names): num_landmarks 68, " in out
    ours, again = load_weights(source), load_weights(tmp_path / "ours.pth")
    assert again.args == {**ours.args, "num_landmarks": 68}
    assert all(torch.equal(again.state_dict[key], value) for key, value in ours.state_dict.items())


def test_convert_names_what_files_of_other_programs_do_not_show(tmp_path, capsys):
    args = TINY_DIC | {"num_landmarks": 194, "whole_contours": True, "init_type": "kaiming"}
    record = make_record("dic", "DICNet", args)
    torch.save({"params": DICNet(**args).state_dict(), "facesr": record}, tmp_path / "dic.pth")
    assert convert(tmp_path / "dic.pth", tmp_path / "official.pth", "--to", "official") == 0
    told = capsys.readouterr().err
    assert told.startswith(f"{tmp_path / 'official.pth'} does not show num_steps=3, whole_contours=True: ")
    options = told.split(": facesr convert ")[1].split()[:4]
    assert convert(tmp_path / "official.pth", tmp_path / "back.pth", *options) == 0
    assert load_weights(tmp_path / "back.pth").args | {"init_type": "kaiming"} == args
    assert capsys.readouterr().err == ""


def test_convert_takes_the_network_that_is_named(tmp_path, official, capsys):
    source = save_tiny_dic(tmp_path / "dic.pth")
    assert convert(source, tmp_path / "part.pth", "--arch", "FeedbackHourglass", "--to", "official") == 0
    assert "dic FeedbackHourglass, 114 tensors" in capsys.readouterr().out
    assert load_weights(tmp_path / "part.pth").arch == "FeedbackHourglass"
    assert convert(official, tmp_path / "none.pth", "--arch", "FeedbackHourglass") == 2
    assert "weights of sparnethd (SPARNet), not of FeedbackHourglass" in capsys.readouterr().err
    assert convert(official, tmp_path / "none.pth", "--to", "mmagic") == 2
    assert "key names of SPARNet must be facesr or official, got 'mmagic'" in capsys.readouterr().err


def test_convert_keeps_what_exists_unless_told(tmp_path, official, capsys):
    target = tmp_path / "ours.pth"
    target.write_bytes(b"precious")
    assert convert(official, target) == 2
    assert "Use --overwrite" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert convert(official, target, "--overwrite") == 0
    assert load_weights(target).system == "sparnethd"


def test_convert_replaces_its_own_input(official):
    assert convert(official, official, "--overwrite") == 0
    assert load_weights(official).kind == "params"


def test_convert_takes_arguments_that_shapes_hide(tmp_path, official):
    assert convert(official, tmp_path / "ours.pth", "--arg", "relu_type=relu", "--arg", "in_size=128") == 2
    assert convert(official, tmp_path / "ours.pth", "--arg", "relu_type=relu") == 0
    assert load_weights(tmp_path / "ours.pth").args["relu_type"] == "relu"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["missing.pth", "out.pth"], "must be an existing file"),
        ([".", "out.pth"], "must be a file"),
        (["empty.pth", "out.pth"], "the file is empty"),
        (["official.pth", "out.onnx"], "output must end in"),
        (["official.pth", "out.pth", "--system", "nonsense"], "system must be one of"),
        (["official.pth", "out.pth", "--arg", "res_depth=7"], "args say res_depth 7"),
    ],
)
def test_convert_reports_bad_input_in_one_line(tmp_path, official, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.pth").touch()
    assert convert(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert text in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("argument", ["relu_type", "=relu"])
def test_convert_refuses_malformed_arguments(official, capsys, argument):
    with pytest.raises(SystemExit):
        convert(official, "out.pth", "--arg", argument)
    assert "must be NAME=VALUE" in capsys.readouterr().err


def test_convert_help_loads_no_torch():
    code = "import sys; from facesr_plugin.cli import build_parser; build_parser(); sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
