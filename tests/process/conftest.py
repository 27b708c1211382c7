"""Session fixtures of the process tests: one wheel, a few child environments, one unmodified BasicSR checkout."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import pytest

from helpers.environments import REPO, ChildEnv, copy_source, link_packages, run


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("install")


@pytest.fixture(scope="session")
def wheel(workspace: Path) -> Path:
    """The wheel of this source tree, built by pip."""
    source = copy_source(workspace / "wheel-source")
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", workspace / "wheels", source]
    run([sys.executable, "-m", "pip", *build], cwd=workspace)
    (built,) = (workspace / "wheels").glob("*.whl")
    return built


@pytest.fixture(scope="session")
def shared(workspace: Path) -> Path:
    """Everything that the parent has installed, without this plugin."""
    return link_packages(workspace / "shared" / "site-packages")


@pytest.fixture(scope="session")
def shared_without_basicsr(workspace: Path) -> Path:
    return link_packages(workspace / "no-basicsr" / "site-packages", lambda name: not name.startswith("basicsr"))


@pytest.fixture(scope="session")
def wheel_env(workspace: Path, wheel: Path, shared: Path) -> ChildEnv:
    """BasicSR and the plugin's wheel, both from pip."""
    child = ChildEnv.create(workspace / "wheel-env", shared)
    child.install(wheel)
    return child


@pytest.fixture(scope="session")
def editable_env(workspace: Path, shared: Path) -> ChildEnv:
    """BasicSR from pip and the plugin with ``pip install -e``; the source is in ``editable-source`` beside it."""
    child = ChildEnv.create(workspace / "editable-env", shared)
    child.install("-e", copy_source(workspace / "editable-source"))
    return child


@pytest.fixture(scope="session")
def lone_env(workspace: Path, wheel: Path, shared_without_basicsr: Path) -> ChildEnv:
    """The plugin's wheel without BasicSR: only a checkout can bring it."""
    child = ChildEnv.create(workspace / "lone-env", shared_without_basicsr)
    child.install(wheel)
    return child


@pytest.fixture(scope="session", params=["wheel", "editable"])
def installed(request: pytest.FixtureRequest) -> ChildEnv:
    """Each way of installing beside a pip-installed BasicSR."""
    return request.getfixturevalue(f"{request.param}_env")


@pytest.fixture(scope="session")
def checkout(workspace: Path) -> Path:
    """BasicSR 1.4.2 exactly as released, unpacked from its source archive."""
    cache = REPO / ".cache"
    archive = cache / "basicsr-1.4.2.tar.gz"
    if not archive.is_file():
        wanted = ["--no-binary", "basicsr", "--no-deps", "--no-build-isolation", "basicsr==1.4.2"]
        run([sys.executable, "-m", "pip", "download", "-d", cache, *wanted], cwd=workspace, timeout=300)
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.2, of Debian 12, has it not
    with tarfile.open(archive) as packed:
        packed.extractall(workspace, **safely)
    return workspace / "basicsr-1.4.2"
