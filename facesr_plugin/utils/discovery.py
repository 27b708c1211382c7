"""Import every module of a package that registers something, found by its file name (BasicSR's habit)."""

from __future__ import annotations

import importlib
import pkgutil


def import_by_suffix(package: str, suffix: str) -> None:
    """Import the modules of ``package`` whose names end with ``suffix``.

    Args:
        package: Dotted name of an imported package (``__name__`` of its ``__init__``).
        suffix: For instance ``_arch``; only the package's own folder is looked at.
    """
    path = importlib.import_module(package).__path__
    for module in sorted(info.name for info in pkgutil.iter_modules(path)):
        if module.endswith(suffix):
            importlib.import_module(f"{package}.{module}")
