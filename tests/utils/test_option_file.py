"""Option files: safe reading, overrides, shipped files."""

from __future__ import annotations

from pathlib import Path

import pytest

from facesr_plugin.utils.option_file import find_shipped, find_unknown_keys, load_option_file, override, shipped_options


def write(folder: Path, text: str) -> Path:
    path = folder / "x.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_load_reads_basicsr_numbers(tmp_path: Path) -> None:
    assert load_option_file(write(tmp_path, "lr: !!float 2e-4\n")) == {"lr": 2e-4}


def test_load_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"option file .*none.yml does not exist"):
        load_option_file(tmp_path / "none.yml")


def test_load_names_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^option file .* must be a file, got a folder$"):
        load_option_file(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.system ['true']\n", "Tags that build Python objects are refused"),
        ("a: [1, 2\n", "is not valid YAML"),
        ("- 1\n", "must be a mapping, got list"),
        ("", "must be a mapping, got NoneType"),
    ],
)
def test_load_refuses_what_is_no_option_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_option_file(write(tmp_path, text))


def test_load_never_runs_code(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(ValueError, match="refused"):
        load_option_file(write(tmp_path, f"a: !!python/object/apply:pathlib.Path.touch [!!python/name:x {marker}]\n"))
    assert not marker.exists()


def test_override_sets_nested_values_as_yaml() -> None:
    options = {"train": {"total_iter": 1}, "betas": [0.9, 0.99], "path": {"resume_state": None}}
    override(options, ["train.total_iter=100", "betas.1=0.5", "path.resume_state=a=b.state"])
    assert options == {"train": {"total_iter": 100}, "betas": [0.9, 0.5], "path": {"resume_state": "a=b.state"}}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.totl_iter=1", "section 'train' has no key 'totl_iter', did you mean 'total_iter'"),
        ("trian.total_iter=1", "the options has no key 'trian', did you mean 'train'"),
        ("train.total_iter.x=1", "section 'train.total_iter' has no key 'x'"),
        ("train.total_iter", "takes key=value"),
        ("train.total_iter=[", "not valid YAML"),
        ("train.total_iter=!!int ''", "'' is no valid int"),
        ("betas.²=1", "section 'betas' has no key '²'"),
        ("x" * 9000, r"takes key=value, got 'x{199}\.\.\.$"),
    ],
)
def test_override_refuses_unknown_keys_and_bad_values(assignment: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override({"train": {"total_iter": 1}, "betas": [0.9]}, [assignment])


def test_find_unknown_keys_lists_the_known_ones() -> None:
    assert list(find_unknown_keys({"x": 1}, ["b", "a"], "val")) == ["val has no option 'x'. Known: a, b"]


def test_every_shipped_file_starts_with_its_command() -> None:
    for name, path in shipped_options().items():
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("# python basicsr/")
        assert f"options/{name}.yml" in first


def test_switches_of_every_shipped_training_can_be_set() -> None:
    for path in shipped_options().values():
        options = load_option_file(path)
        if "train" in options:
            override(options, [f"train.{key}=x" for key in ("channels_last", "amp", "compile", "tf32", "accumulate")])


def test_find_shipped_suggests_a_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'sparnet'"):
        find_shipped("sparnett")
