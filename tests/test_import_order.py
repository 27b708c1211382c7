"""Imports inside the package point one way, and what must work without BasicSR does."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import facesr_plugin

ROOT = Path(facesr_plugin.__file__).parent
LEVELS = (
    ("__init__", "version", "cards", "utils"),
    ("compat",),
    ("registry",),
    ("ops",),
    ("archs", "checkpoints"),
    ("losses", "metrics", "data"),
    ("models",),
    ("pipeline", "inference", "evaluation"),
    ("diagnosis", "option_check", "run_check", "train", "test", "commands", "cli"),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
# Upward imports that are meant, (importing module, imported part): all inside functions, so that nothing loads early.
EXCEPTIONS = {
    ("__init__", "registry"),  # facesr_plugin.register()
    ("__init__", "pipeline"),  # facesr_plugin.load()
    ("compat.option_list", "registry"),  # which models are this package's
    ("compat.option_list", "run_check"),  # the check of a whole run
    ("compat.resume", "checkpoints"),  # training states are read by the restricted reader
}


def modules() -> list[str]:
    """Dotted names below the package, without it: ``archs.sparnet_arch``."""
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.rglob("*.py"))


def imported(module: str) -> Iterator[str]:
    """Parts of the package (first name below it) that a module imports, in functions too, but not for types alone."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import"
            whole = node.module == "facesr_plugin"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if whole else [node.module]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("facesr_plugin."))


def test_every_part_has_its_place_in_the_order() -> None:
    assert {module.split(".")[0] for module in modules()} <= set(LEVEL)


@pytest.mark.parametrize("module", modules())
def test_imports_point_one_way(module: str) -> None:
    part = module.split(".")[0]
    upward = {name for name in imported(module) if name in LEVEL and LEVEL[name] > LEVEL[part]}
    assert not {(module, name) for name in upward} - EXCEPTIONS


def test_exceptions_are_still_used() -> None:
    assert {(module, name) for module, name in EXCEPTIONS if name not in set(imported(module))} == set()


BLOCKED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "basicsr":
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Refuse())
import facesr_plugin, facesr_plugin.inference
import facesr_plugin.archs, facesr_plugin.ops.protocol, facesr_plugin.checkpoints, facesr_plugin.pipeline.restorer
import facesr_plugin.cards, facesr_plugin.registry, facesr_plugin.compat, facesr_plugin.data, facesr_plugin.metrics
print("SPARNet" in facesr_plugin.registry.ARCH_REGISTRY)
"""
LIGHT = """
import sys
import facesr_plugin
from facesr_plugin.cli import build_parser
build_parser()
heavy = {"torch", "basicsr", "numpy", "cv2", "lmdb", "yaml", "PIL"}
print(sorted({name.split(".")[0] for name in sys.modules} & heavy))
"""


def python(code: str) -> str:
    """Run code in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_networks_checkpoints_and_pipeline_import_without_basicsr() -> None:
    assert python(BLOCKED) == "True\n"


def test_package_and_parser_load_nothing_heavy() -> None:
    assert python(LIGHT) == "[]\n"
