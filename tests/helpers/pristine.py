"""BasicSR's modules as they were released, beside the repaired ones of this process."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType


def pristine(name: str) -> ModuleType:
    """Execute the source of an imported module again under another name; nothing of the repaired one is touched."""
    origin = importlib.import_module(name).__file__
    spec = importlib.util.spec_from_file_location(f"pristine_{name.replace('.', '_')}", origin)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
