"""The package's registries and their copy into BasicSR's."""

from __future__ import annotations

import pytest

from facesr_plugin import registry
from facesr_plugin.registry import Registry


class TheirRegistry:
    """The part of BasicSR's registry that is used."""

    def __init__(self) -> None:
        self._obj_map: dict[str, object] = {}

    def register(self, obj: type) -> None:
        if obj.__name__ in self._obj_map:
            raise AssertionError(f"{obj.__name__} was already registered")
        self._obj_map[obj.__name__] = obj


def make_class(name: str, module: str) -> type:
    return type(name, (), {"__module__": module})


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setattr(registry, "_reported", set())
    made = Registry("arch")
    made.register()(make_class("Net", "facesr_plugin.archs.net_arch"))
    return made


def test_registry_returns_what_was_registered(ours: Registry) -> None:
    assert ours.get("Net").__name__ == "Net"
    assert "Net" in ours
    assert [name for name, _ in ours.items()] == ["Net"]


def test_registry_accepts_the_same_object_again(ours: Registry) -> None:
    net = ours.get("Net")
    assert ours.register()(net) is net


def test_registry_refuses_a_second_object_of_a_name(ours: Registry) -> None:
    with pytest.raises(KeyError, match="arch 'Net' is already registered by facesr_plugin.archs.net_arch"):
        ours.register()(make_class("Net", "elsewhere"))


def test_registry_names_what_it_knows(ours: Registry) -> None:
    with pytest.raises(KeyError, match="unknown arch 'Nte'. Known: Net"):
        ours.get("Nte")


def test_empty_registry_says_that_it_is_empty() -> None:
    with pytest.raises(KeyError, match="Known: none"):
        Registry("loss").get("L1")


def test_copy_is_idempotent(ours: Registry) -> None:
    theirs = TheirRegistry()
    registry._copy(ours, theirs)
    registry._copy(ours, theirs)
    assert theirs._obj_map == dict(ours.items())


def test_copy_leaves_a_taken_name_and_warns_once(ours: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(registry.logger, "warning", lambda text, *args: warnings.append(text % args))
    theirs = TheirRegistry()
    other = make_class("Net", "other_plugin")
    theirs.register(other)
    registry._copy(ours, theirs)
    registry._copy(ours, theirs)
    assert theirs._obj_map["Net"] is other
    (warning,) = warnings
    assert "facesr_plugin.archs.net_arch" in warning
    assert "other_plugin" in warning


def test_register_makes_every_name_known_to_basicsr() -> None:
    from basicsr.utils import registry as theirs

    registry.register()
    for name, ours in registry._OURS.items():
        for key, obj in ours.items():
            assert getattr(theirs, name).get(key) is obj


def test_registered_names_do_not_clash_with_general_ones() -> None:
    general = {"Generator", "FAN", "MultiScaleDiscriminator", "ResBlock", "Discriminator", "UNet"}
    names = {name for ours in registry._OURS.values() for name, _ in ours.items()}
    assert not names & general
