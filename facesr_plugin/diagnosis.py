"""Facts about an installation, for ``facesr doctor``."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
import warnings
from pathlib import Path

from facesr_plugin.version import __version__

PACKAGES = (
    "basicsr", "torch", "torchvision", "facexlib", "numpy", "opencv-python", "Pillow", "lmdb", "PyYAML", "safetensors",
    "mmcv",
)  # fmt: skip


def report() -> tuple[list[str], bool]:
    """Describe versions, BasicSR, the hook, the repairs, the devices and where weights come from.

    Returns:
        Lines to print, and whether training can start. Without BasicSR only ``facesr train`` and ``test`` are
        missing, which is no fault on Python 3.13.
    """
    lines = [f"facesr-plugin {__version__} in {Path(__file__).parent}", f"Python {platform.python_version()}"]
    lines += [f"  {name:14s} {version_of(name)}" for name in PACKAGES]
    copies = basicsr_copies()
    lines += ["", *_describe_copies(copies), *_describe_hook()]
    healthy = len(copies) <= 1
    if copies:
        repaired, lines_of_patches = _describe_patches()
        healthy = healthy and repaired
        lines += ["", *lines_of_patches]
    rest = [*_describe_devices(), *_describe_operators(), *_describe_weights()]
    healthy = healthy and not any(line.startswith("PROBLEM") for line in rest)
    return [*lines, "", *rest], healthy


def version_of(distribution: str) -> str:
    """Installed version of a distribution, or ``not installed``."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def basicsr_copies() -> list[Path]:
    """Folders named ``basicsr`` that Python could import, in the order of the path; the first one wins.

    The current folder counts, because ``python -m`` and ``PYTHONPATH=.`` look there. An editable installation is
    found through its finder.
    """
    folders = [Path(entry or ".").resolve() / "basicsr" for entry in [*sys.path, "."]]
    found = [folder for folder in folders if (folder / "__init__.py").is_file()]
    spec = importlib.util.find_spec("basicsr")
    if spec is not None and spec.origin:
        found.insert(0, Path(spec.origin).resolve().parent)
    return list(dict.fromkeys(found))


def _describe_copies(copies: list[Path]) -> list[str]:
    if not copies:
        return ["basicsr: not installed; infer, convert, prepare and options work, train and test need it"]
    lines = [f"basicsr: imported from {copies[0]}"]
    if len(copies) > 1:
        others = ", ".join(str(copy) for copy in copies[1:])
        lines.append(
            f"  PROBLEM: {len(copies)} copies; also {others}. Names registered in one are unknown in the other:"
        )
        lines.append("  `pip uninstall basicsr` or leave the checkout's folder")
    return lines


def _describe_hook() -> list[str]:
    active = any(type(finder).__module__ == "_facesr_autoload" for finder in sys.meta_path)
    started = importlib.util.find_spec("_facesr_autoload")
    origin = started.origin if started else "not found"
    if os.environ.get("FACESR_AUTOLOAD") == "0":
        return [f"hook: off (FACESR_AUTOLOAD=0), {origin}"]
    return [f"hook: {'active' if active else 'NOT active: use facesr train'}, {origin}"]


def _describe_patches() -> tuple[bool, list[str]]:
    """Import BasicSR, register, and list the repairs."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            import basicsr  # noqa: F401

            import facesr_plugin
            from facesr_plugin import compat

            facesr_plugin.register()
        except Exception as error:  # whatever is wrong with BasicSR is what the user asked to see
            return False, [f"PROBLEM: import basicsr fails: {error!r}"]
    problems = [f"PROBLEM: {warning.message}" for warning in caught if "facesr_plugin" in str(warning.message)]
    states = compat.apply()
    problems += [f"PROBLEM: repair {name} {state}" for name, state in states.items() if state.startswith("failed")]
    lines = [f"  {patch.name:20s} {states[patch.name]:20s} {patch.reason}" for patch in compat.PATCHES]
    return not problems, ["repairs of BasicSR:", *lines, *problems]


def _describe_devices() -> list[str]:
    if importlib.util.find_spec("torch") is None:
        return ["devices: torch is not installed"]
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [f"devices: cpu ({torch.get_num_threads()} threads)" + "".join(f", {name}" for name in gpus)]


def _describe_operators() -> list[str]:
    if importlib.util.find_spec("torch") is None:
        return []
    from facesr_plugin.ops.backends import describe

    try:
        return describe()
    except ValueError as error:
        return [f"PROBLEM: {error}"]


def _describe_weights() -> list[str]:
    """Say where the networks of others are looked for; a trained network is always given by path."""
    if importlib.util.find_spec("torch") is None:
        return []
    from facesr_plugin.utils.weights import WEIGHTS, find_weights, search_folders

    here = [name for name in WEIGHTS if find_weights(name)]
    folders = ", ".join(map(str, search_folders()))
    return [f"weights: {', '.join(here) or 'none'} in {folders} (facesr weights list); trained networks go by path"]
