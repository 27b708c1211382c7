"""Finding modules that register something by their file names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from facesr_plugin.utils.discovery import import_by_suffix


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / f"pkg_{tmp_path.name}"  # a name of its own: imported packages stay
    (folder / "deep").mkdir(parents=True)
    for name in ("__init__", "b_arch", "a_arch", "helper", "deep/__init__", "deep/c_arch"):
        (folder / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder.name


def test_import_by_suffix_takes_only_fitting_modules_of_the_folder(package: str) -> None:
    import_by_suffix(package, "_arch")
    loaded = sorted(name for name in sys.modules if name.startswith(package))
    assert loaded == [package, f"{package}.a_arch", f"{package}.b_arch"]


def test_import_by_suffix_hides_no_error(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "z_model.py").write_text("raise RuntimeError('half a file')")
    with pytest.raises(RuntimeError, match="half a file"):
        import_by_suffix(package, "_model")
