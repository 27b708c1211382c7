"""The list of repairs, the switch, and the replacement of functions."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from _facesr_autoload import compat_enabled
from facesr_plugin import compat
from facesr_plugin.compat.patch import Patch, names_in, rebind

NAMES = [patch.name for patch in compat.PATCHES]


@pytest.mark.parametrize(
    ("setting", "enabled"),
    [("", True), ("off", False), ("-a", False), ("-b, -a", False), ("-b", True), ("a", True), ("-ab", True)],
)
def test_compat_setting_drops_the_named_repairs(monkeypatch: pytest.MonkeyPatch, setting: str, enabled: bool) -> None:
    monkeypatch.setenv("FACESR_COMPAT", setting)
    assert compat_enabled("a") is enabled


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three invented repairs in place of the real ones; the names of those that were applied."""
    done: list[str] = []
    made = [
        Patch("present", "defect is here", lambda: True, lambda: done.append("present")),
        Patch("absent", "defect is not here", lambda: False, lambda: done.append("absent")),
        Patch("dropped", "switched off", lambda: True, lambda: done.append("dropped")),
    ]
    monkeypatch.setattr(compat, "PATCHES", tuple(made))
    monkeypatch.setattr(compat, "_state", {})
    monkeypatch.setenv("FACESR_COMPAT", "-dropped")
    return done


def test_apply_repairs_only_what_is_broken_and_wanted(applied: list[str]) -> None:
    states = compat.apply()
    assert applied == ["present"]
    assert states == {"present": "applied", "absent": "not needed", "dropped": "off (FACESR_COMPAT)"}


def test_apply_is_idempotent(applied: list[str]) -> None:
    assert compat.apply() == compat.apply()
    assert applied == ["present"]


def test_every_repair_has_a_name_a_reason_and_a_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert len(set(NAMES)) == len(NAMES)
    for patch in compat.PATCHES:
        assert patch.reason
        assert f'"{patch.name}"' in tests, f"no test names the repair {patch.name}"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("functional-tensor", "root-path")])
def test_repair_is_in_force_with_basicsr_1_4_2(name: str) -> None:
    import basicsr

    assert basicsr.__version__ == "1.4.2"
    assert compat.apply()[name] == "applied"


def test_functional_tensor_is_importable_and_listed() -> None:
    # without the alias the import below fails: tests/process/test_start_up.py shows it in a fresh interpreter
    from torchvision.transforms import functional, functional_tensor

    if compat.apply()["functional-tensor"] == "applied":
        assert functional_tensor.rgb_to_grayscale is functional.rgb_to_grayscale


def test_rebind_replaces_every_copy_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {name: ModuleType(name) for name in ("basicsr.invented_a", "basicsr.invented_b", "elsewhere")}
    for name, module in modules.items():
        module.function = names_in
        monkeypatch.setitem(sys.modules, name, module)
    rebind(names_in, "new")
    assert modules["basicsr.invented_a"].function == modules["basicsr.invented_b"].function == "new"
    assert modules["elsewhere"].function is names_in


def test_names_in_of_something_without_code_is_empty() -> None:
    assert names_in(len) == ()
    assert "code" not in names_in(names_in)
    assert "getattr" in names_in(names_in)
