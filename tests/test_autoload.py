"""The start-up hook by itself, with invented packages in place of BasicSR and of this plugin."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import _facesr_autoload

HOOK = Path(_facesr_autoload.__file__)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder with an invented basicsr and an invented plugin; both write what they do."""
    (tmp_path / "basicsr").mkdir()
    (tmp_path / "basicsr" / "__init__.py").write_text("import sys; sys.stdout.write('basicsr ')\n")
    (tmp_path / "basicsr" / "part.py").write_text("")
    (tmp_path / "facesr_plugin").mkdir()
    (tmp_path / "facesr_plugin" / "__init__.py").write_text("")
    (tmp_path / "facesr_plugin" / "registry.py").write_text(
        "import sys\n\ndef register():\n    sys.stdout.write('registered ')\n"
    )
    (tmp_path / "_facesr_autoload.py").write_bytes(HOOK.read_bytes())
    return tmp_path


def python(world: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter that has no start-up files, from ``world``."""
    command = [sys.executable, "-S", "-c", textwrap.dedent(code)]
    return subprocess.run(command, cwd=world, capture_output=True, text=True, check=True)


def test_import_registers_after_basicsr_has_run(world: Path) -> None:
    done = python(world, "import _facesr_autoload as a; a.install(); import basicsr.part")
    assert (done.stdout, done.stderr) == ("basicsr registered ", "")


def test_second_install_changes_nothing(world: Path) -> None:
    code = """
        import _facesr_autoload as a, sys
        a.install()
        before = list(sys.meta_path)
        a.install()
        import basicsr, basicsr.part
        a.install()
        print(before == sys.meta_path)
    """
    assert python(world, code).stdout == "basicsr registered True\n"


def test_late_install_registers_at_once(world: Path) -> None:
    assert python(world, "import basicsr, _facesr_autoload as a; a.install()").stdout == "basicsr registered "


def test_install_inside_basicsrs_own_import_waits_for_its_end(world: Path) -> None:
    (world / "basicsr" / "__init__.py").write_text(
        "import sys, _facesr_autoload\n_facesr_autoload.install()\nsys.stdout.write('half ')\n"
    )
    assert python(world, "import basicsr").stdout == "half "


def test_original_loader_is_put_back(world: Path) -> None:
    code = """
        import _facesr_autoload as a
        a.install()
        import basicsr
        print(type(basicsr.__spec__.loader).__name__, basicsr.__loader__ is basicsr.__spec__.loader)
    """
    assert python(world, code).stdout.endswith("SourceFileLoader True\n")


def test_looking_for_basicsr_imports_nothing(world: Path) -> None:
    code = """
        import importlib.util, _facesr_autoload as a
        a.install()
        print(importlib.util.find_spec("basicsr").origin.endswith("__init__.py"), importlib.util.find_spec("nothing"))
    """
    assert python(world, code).stdout == "True None\n"


def test_missing_basicsr_is_the_usual_error(world: Path) -> None:
    code = """
        import sys, _facesr_autoload as a
        a.install()
        sys.path.remove("")
        try:
            import basicsr
        except ModuleNotFoundError as error:
            print(error)
    """
    assert python(world, code).stdout == "No module named 'basicsr'\n"


def test_failing_plugin_is_one_warning(world: Path) -> None:
    (world / "facesr_plugin" / "registry.py").write_text("raise SyntaxError('half an update')\n")
    done = python(world, "import _facesr_autoload as a; a.install(); import basicsr, basicsr.part; print('goes on')")
    assert done.stdout == "basicsr goes on\n"
    assert done.stderr.count("facesr_plugin is not registered in BasicSR") == 1
    assert "half an update" in done.stderr


def test_reload_of_basicsr_registers_again(world: Path) -> None:
    code = "import _facesr_autoload as a, importlib; a.install(); import basicsr; importlib.reload(basicsr)"
    assert python(world, code).stdout == "basicsr registered " * 2


@pytest.fixture
def meta_path() -> Iterator[list]:
    """``sys.meta_path`` without the hook; put back afterwards."""
    before = list(sys.meta_path)
    sys.meta_path[:] = [finder for finder in before if type(finder).__module__ != "_facesr_autoload"]
    yield sys.meta_path
    sys.meta_path[:] = before


def test_environment_turns_it_off_but_not_on_request(meta_path: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESR_AUTOLOAD", "0")
    number = len(meta_path)
    _facesr_autoload.install()
    assert len(meta_path) == number
    _facesr_autoload.install(force=True)
    assert len(meta_path) == number + 1


def interpreter_start() -> float:
    """Seconds that a bare interpreter takes, the least of some: other processes only ever add."""
    times = []
    for _ in range(8):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)
        times.append(time.perf_counter() - begin)
    return min(times)


def test_install_takes_less_than_a_tenth_of_the_interpreters_start(
    meta_path: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one millisecond where a start takes 11; a ratio in one run, because machines are slow and shared
    monkeypatch.delitem(sys.modules, "basicsr", raising=False)
    times = []
    for _ in range(40):
        begin = time.perf_counter()
        spec = importlib.util.spec_from_file_location("fresh_autoload", HOOK)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.install()
        times.append(time.perf_counter() - begin)
        meta_path.pop(0)
    assert min(times) < interpreter_start() / 11


def test_hook_is_small_and_needs_the_standard_library_only() -> None:
    text = HOOK.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 80
    at_start = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert at_start == ["import os", "import sys"]
