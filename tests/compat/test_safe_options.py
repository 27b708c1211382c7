"""``safe-options``: option files are values, not programs."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import basicsr.utils.options
import pytest
import yaml

from facesr_plugin.compat import safe_options
from facesr_plugin.utils.option_file import shipped_options
from helpers.pristine import pristine

PROGRAM = "x: !!python/object/apply:os.mkdir [{}]"


@pytest.fixture
def released() -> ModuleType:
    return pristine("basicsr.utils.options")


def test_repair_is_named_and_finds_the_defect() -> None:
    assert safe_options.SAFE_OPTIONS.name == "safe-options"
    assert not safe_options._runs_code()


def test_released_reader_runs_an_option_file(released: ModuleType, tmp_path: Path) -> None:
    yaml.load(PROGRAM.format(tmp_path / "made"), Loader=released.ordered_yaml()[0])
    assert (tmp_path / "made").exists()


def test_repaired_reader_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(yaml.constructor.ConstructorError, match="could not determine a constructor for the tag"):
        yaml.load(PROGRAM.format(tmp_path / "made"), Loader=basicsr.utils.options.ordered_yaml()[0])
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", shipped_options())
def test_repaired_reader_gives_the_same_values_in_the_same_order(released: ModuleType, name: str) -> None:
    text = shipped_options()[name].read_text()
    before, now = (yaml.load(text, Loader=module.ordered_yaml()[0]) for module in (released, basicsr.utils.options))
    assert repr(now) == repr(before)
