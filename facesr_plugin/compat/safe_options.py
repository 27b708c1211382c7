"""``safe-options``: BasicSR reads option files with a YAML loader that runs what they tell it to.

A tag such as ``!!python/object/apply:os.system`` is a command; option files are passed on like weights. The replacement
gives the same values for everything else.
"""

from __future__ import annotations

import functools
from typing import Any

import yaml

from facesr_plugin.compat.patch import Patch, rebind

_MAPPING = yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG


def _options() -> Any:
    import basicsr.utils.options as options

    return options


def _runs_code() -> bool:
    return issubclass(_options().ordered_yaml()[0], yaml.constructor.UnsafeConstructor)


def _apply() -> None:
    original = _options().ordered_yaml

    @functools.wraps(original)
    def ordered_yaml() -> tuple[type, type]:
        """Return BasicSR's dumper, and a loader of plain values that keeps the order of keys as BasicSR's does."""
        loader, dumper = original()
        plain = type("PlainLoader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
        plain.add_constructor(_MAPPING, loader.yaml_constructors[_MAPPING])
        return plain, dumper

    rebind(original, ordered_yaml)


SAFE_OPTIONS = Patch(
    name="safe-options",
    reason="option files can run any code: BasicSR reads them with YAML's unsafe loader",
    needed=_runs_code,
    apply=_apply,
)
