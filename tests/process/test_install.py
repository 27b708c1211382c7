"""Installing and removing the plugin: what the wheel holds, what an uninstall leaves, what ``facesr`` finds."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from helpers.environments import REPO, ChildEnv, link_packages, run

pytestmark = pytest.mark.process

PTH = b"import _facesr_autoload; _facesr_autoload.install()\n"
START = b"_facesr_autoload:install\n"


@pytest.fixture(scope="module")
def content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_wheel_has_the_start_up_files_byte_for_byte(content: dict[str, bytes]) -> None:
    assert content["facesr_plugin.pth"] == PTH
    assert content["facesr_plugin.start"] == START
    assert content["_facesr_autoload.py"] == (REPO / "_facesr_autoload.py").read_bytes()


def test_wheel_has_no_other_top_level_names(content: dict[str, bytes]) -> None:
    top = {name.split("/")[0] for name in content}
    metadata = {name for name in top if name.endswith(".dist-info")}
    assert len(metadata) == 1
    assert top - metadata == {"facesr_plugin", "facesr_plugin.pth", "facesr_plugin.start", "_facesr_autoload.py"}


def test_wheel_has_every_module_template_and_option_file(content: dict[str, bytes]) -> None:
    modules = {path.relative_to(REPO).as_posix() for path in (REPO / "facesr_plugin").rglob("*.py")}
    options = {f"facesr_plugin/options/{path.name}" for path in (REPO / "options").glob("*.yml")}
    templates = {path.relative_to(REPO).as_posix() for path in (REPO / "facesr_plugin").rglob("templates/*")}
    assert modules | templates | options <= set(content)
    assert templates, "there are no templates to ship"
    assert options, "there are no option files to ship"


def test_wheel_is_pure_and_names_its_requirements(content: dict[str, bytes]) -> None:
    (metadata,) = (text.decode() for name, text in content.items() if name.endswith(".dist-info/METADATA"))
    (tags,) = (text.decode() for name, text in content.items() if name.endswith(".dist-info/WHEEL"))
    assert "Tag: py3-none-any" in tags
    assert 'Requires-Dist: basicsr>=1.4.2; python_version < "3.13"' in metadata
    assert "Requires-Python: >=3.10" in metadata


def test_child_sees_its_own_plugin(installed: ChildEnv, workspace: Path) -> None:
    listed = installed.pip("list", "--format=freeze").stdout
    assert "facesr-plugin==" in listed
    where = Path(installed.code("import facesr_plugin; print(facesr_plugin.__file__)").strip())
    assert workspace in where.parents


def test_facesr_command_lists_the_shipped_options(installed: ChildEnv, tmp_path: Path) -> None:
    listed = run([installed.root / "bin" / "facesr", "options", "list"], cwd=tmp_path).stdout
    assert {line.split()[0] for line in listed.splitlines()} == {path.stem for path in (REPO / "options").glob("*.yml")}


def test_facesr_options_copy_writes_into_a_folder(wheel_env: ChildEnv, tmp_path: Path) -> None:
    run([wheel_env.root / "bin" / "facesr", "options", "copy", "sparnet", "options"], cwd=tmp_path)
    assert (tmp_path / "options" / "sparnet.yml").read_bytes() == (REPO / "options" / "sparnet.yml").read_bytes()


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_uninstall_leaves_no_file(kind: str, request: pytest.FixtureRequest, workspace: Path, tmp_path: Path) -> None:
    child = ChildEnv.create(tmp_path / "env", link_packages(tmp_path / "shared" / "site-packages"))
    before = _files(child.root)
    request.getfixturevalue(f"{kind}_env")
    child.install(*([request.getfixturevalue("wheel")] if kind == "wheel" else ["-e", workspace / "editable-source"]))
    child.code("import facesr_plugin.cards, facesr_plugin.utils.files")  # leaves byte code to remove
    assert _files(child.root) > before
    child.pip("uninstall", "-y", "facesr-plugin")
    assert _files(child.root) == before
    started = run([child.python, "-c", "import sys; print([type(f).__name__ for f in sys.meta_path])"], cwd=tmp_path)
    assert started.stderr == ""
    assert "_Finder" not in started.stdout


def _files(root: Path) -> set[Path]:
    return {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
