"""The package's own registries, and the one function that copies them into BasicSR's.

Networks, losses, data sets, models and metrics register here, so that archs import without BasicSR
(Python 3.13 has none); ``register()`` makes them known to ``build_network`` and its siblings.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from facesr_plugin import compat

logger = logging.getLogger("basicsr.facesr")

T = TypeVar("T")


class Registry:
    """Map class and function names to objects.

    Args:
        name: What the registry holds, for messages: ``arch``, ``model`` ...

    Raises:
        KeyError: From ``register`` if the name is taken, from ``get`` if it is unknown.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._objects: dict[str, Any] = {}

    def register(self) -> Callable[[T], T]:
        """Return a decorator that registers an object under its ``__name__``."""

        def add(obj: T) -> T:
            key = obj.__name__  # type: ignore[attr-defined]
            if self._objects.get(key, obj) is not obj:
                raise KeyError(f"{self.name} {key!r} is already registered by {_origin(self._objects[key])}")
            self._objects[key] = obj
            return obj

        return add

    def get(self, name: str) -> Any:
        """Return the object registered as ``name``."""
        if name not in self._objects:
            known = ", ".join(sorted(self._objects)) or "none"
            raise KeyError(f"unknown {self.name} {name!r}. Known: {known}")
        return self._objects[name]

    def items(self) -> Iterator[tuple[str, Any]]:
        """Iterate over ``(name, object)`` in order of registration."""
        return iter(list(self._objects.items()))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._objects


ARCH_REGISTRY = Registry("arch")
DATASET_REGISTRY = Registry("dataset")
LOSS_REGISTRY = Registry("loss")
METRIC_REGISTRY = Registry("metric")
MODEL_REGISTRY = Registry("model")

_OURS = {
    "ARCH_REGISTRY": ARCH_REGISTRY,
    "DATASET_REGISTRY": DATASET_REGISTRY,
    "LOSS_REGISTRY": LOSS_REGISTRY,
    "METRIC_REGISTRY": METRIC_REGISTRY,
    "MODEL_REGISTRY": MODEL_REGISTRY,
}
_PACKAGES = ("archs", "losses", "metrics", "data", "models")
_reported: set[tuple[str, str]] = set()  # (registry, name) of the warnings given; register() may run more than once


def register() -> None:
    """Repair BasicSR (compat), import the package's registered parts and copy them into its registries.

    Idempotent. A name that another project has taken is left to it, with a warning that names both.

    Raises:
        ImportError: If BasicSR is not installed.
    """
    theirs = importlib.import_module("basicsr.utils.registry")
    compat.apply()
    for package in _PACKAGES:
        importlib.import_module(f"facesr_plugin.{package}")
    for name, ours in _OURS.items():
        _copy(ours, getattr(theirs, name))


def _copy(ours: Registry, theirs: Any) -> None:
    for name, obj in ours.items():
        present = theirs._obj_map.get(name)
        if present is None:
            theirs.register(obj)
        elif present is not obj and (ours.name, name) not in _reported:
            _reported.add((ours.name, name))
            logger.warning(
                "%s %s of %s is not registered: the name is taken by %s",
                ours.name,
                name,
                _origin(obj),
                _origin(present),
            )


def _origin(obj: Any) -> str:
    try:
        return f"{obj.__module__} ({inspect.getsourcefile(obj)})"
    except TypeError:
        return str(getattr(obj, "__module__", obj))
