"""Child environments for the process tests: real installs of this plugin that borrow the packages of the parent.

A child is an ordinary ``venv``. What it borrows (torch, BasicSR ...) comes through a folder of links, named by one path
line in ``zz_shared.pth``. The plugin itself, start-up files and editable finders of the parent are never linked, so
that the child sees only what pip installed into it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

REPO = Path(__file__).parents[2]
PARENT_SITE = Path(sysconfig.get_paths()["purelib"])
OURS = ("facesr_plugin", "_facesr_autoload", "facesr_plugin-", "__editable__")
# torchrun with two ranks on ports of its own: --standalone takes a fixed one with torch 2.1.
TORCHRUN = ("-m", "torch.distributed.run", "--nnodes=1", "--nproc_per_node=2", "--rdzv-backend=c10d",
            "--rdzv-endpoint=localhost:0", "--local-addr=127.0.0.1")  # fmt: skip
SOURCES = ("_facesr_autoload.py", "facesr_plugin", "facesr_plugin.pth", "facesr_plugin.start", "options", "scripts",
           "tests", "setup.py", "pyproject.toml", "README.md", "LICENSE")  # fmt: skip


def clean_env(**changes: str) -> dict[str, str]:
    """This process's environment without what could lead a child to other code; one thread."""
    foreign = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSAFEPATH", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    kept = {key: value for key, value in os.environ.items() if key not in foreign and not key.startswith("FACESR_")}
    return {**kept, "OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", **changes}


def run(
    command: Sequence[str | os.PathLike], *, cwd: Path, timeout: float = 300, check: bool = True, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in ``clean_env(**env)``; with ``check`` a failure shows the whole output. No child outlives it."""
    words = [str(word) for word in command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=cwd, env=clean_env(**env), start_new_session=True, **pipes) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)  # torchrun ends its ranks, which have sessions of their own
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if check and process.returncode != 0:
        raise AssertionError(f"{words} gave {process.returncode}\n{output[-8000:]}\n{errors[-8000:]}")
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


@dataclass(frozen=True)
class ChildEnv:
    """A virtual environment; ``python`` is its interpreter, ``site`` its site-packages folder."""

    root: Path
    python: Path
    site: Path

    @classmethod
    def create(cls, root: Path, shared: Path, interpreter: str = sys.executable) -> ChildEnv:
        """Make one at ``root`` that also finds what lies in ``shared``."""
        run([interpreter, "-m", "venv", "--without-pip", root], cwd=root.parent)
        python = root / "bin" / "python"
        where = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
        site = Path(run([python, "-c", where], cwd=root).stdout.strip())
        (site / "zz_shared.pth").write_text(f"{shared}\n")
        return cls(root, python, site)

    def pip(self, *arguments: str | os.PathLike, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run the parent's pip on this environment."""
        return run([sys.executable, "-m", "pip", "--python", self.python, *arguments], cwd=self.root, timeout=timeout)

    def install(self, *what: str | os.PathLike) -> None:
        """Install without dependencies and without build isolation."""
        self.pip("install", "--no-deps", "--no-build-isolation", "--no-index", *what)

    def code(self, text: str, *flags: str, cwd: Path | None = None, **settings: object) -> str:
        """Run Python code and return what it printed; ``settings`` as ``run``."""
        return run([self.python, *flags, "-c", text], cwd=cwd or self.root, **settings).stdout


def link_packages(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> Path:
    """Fill ``folder`` with links to the parent's installed files, except this plugin, by top-level name."""
    folder.mkdir(parents=True)
    for entry in PARENT_SITE.iterdir():
        foreign = not entry.name.startswith(OURS) and entry.suffix not in (".pth", ".start")
        if foreign and entry.name != "__pycache__" and wanted(entry.name):
            (folder / entry.name).symlink_to(entry)
    return folder


def portable_names() -> set[str]:
    """Top-level names of the parent's distributions that any Python 3 can import (wheel tag ``py3-none-...``)."""
    names: set[str] = set()
    for distribution in metadata.distributions(path=[str(PARENT_SITE)]):
        tags = [line for line in (distribution.read_text("WHEEL") or "").splitlines() if line.startswith("Tag:")]
        if tags and all("py3-none-" in tag for tag in tags):
            names |= {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
    return names


def copy_source(folder: Path) -> Path:
    """Copy what a checkout of this repository holds for the build; no build output travels along."""
    folder.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", ".pytest_cache", ".ruff_cache")
    for name in SOURCES:
        source = REPO / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            shutil.copy2(source, folder / name)
    return folder


def other_python(version: str) -> str | None:
    """A working interpreter of that version (``3.13``), from PATH or pyenv, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}*/bin/python{version}"))]
    for candidate in filter(None, candidates):
        if subprocess.run([str(candidate), "-c", ""], capture_output=True).returncode == 0:
            return str(candidate)
    return None
