"""From the annotations of other data sets to samples: the points of a sample lie where the annotation put them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facesr_plugin.data.annotations import write_landmarks
from facesr_plugin.data.face_crop import window_of
from facesr_plugin.data.face_crop_dataset import FaceCropDataset
from facesr_plugin.data.inputs import list_items
from facesr_plugin.data.landmark_readers import read_foreign, with_images
from helpers.faces import write_images

BOX = (10, 12, 60, 55)


def _points(count: int) -> np.ndarray:
    return np.random.default_rng(count).uniform((12, 14), (58, 53), (count, 2)).round(2)


def _pts(points: np.ndarray) -> str:
    lines = "\n".join(f"{x} {y}" for x, y in points)
    return f"version: 1\nn_points: {len(points)}\n{{\n{lines}\n}}\n"


def _write_300w(folder: Path, points: np.ndarray) -> Path:
    (folder / "a.pts").write_text(_pts(points))
    (folder / "list.txt").write_text(f"/far/face_00.jpg a.pts {' '.join(map(str, BOX))}\n")
    return folder / "list.txt"


def _write_aflw_from_0(folder: Path, points: np.ndarray) -> Path:
    (folder / "face_00.pts").write_text("".join(f"{k} {x} {y} {int(k != 3)}\n" for k, (x, y) in enumerate(points)))
    (folder / "face_00_bb.txt").write_text(" ".join(map(str, BOX)))
    return folder / "face_00.pts"


def _write_aflw_from_1(folder: Path, points: np.ndarray) -> Path:
    shown = [(k, *point) for k, point in enumerate(points, 1) if k != 4]
    (folder / "a.pts").write_text("".join(f"{k} {x} {y} True\n" for k, x, y in shown))
    (folder / "list.txt").write_text(f"face_00.jpg a.pts {' '.join(map(str, BOX))}\n")
    return folder / "list.txt"


def _write_celeba(folder: Path, points: np.ndarray) -> Path:
    (folder / "list.txt").write_text(f"1\nlefteye_x lefteye_y\nface_00.jpg {' '.join(map(str, points.ravel()))}\n")
    return folder / "list.txt"


def _write_helen(folder: Path, points: np.ndarray) -> Path:
    (folder / "1.txt").write_text("face_00\n" + "".join(f"{x} , {y}\n" for x, y in points))
    return folder


@pytest.mark.parametrize(
    ("kind", "count", "write"),
    [
        ("300w", 68, _write_300w),
        ("aflw", 19, _write_aflw_from_0),
        ("aflw", 19, _write_aflw_from_1),
        ("celeba", 5, _write_celeba),
        ("helen", 194, _write_helen),
    ],
)
def test_samples_have_the_points_of_annotations(
    tmp_path: Path, kind: str, count: int, write: Callable[[Path, np.ndarray], Path]
) -> None:
    photos, notes, points = tmp_path / "photos", tmp_path / "notes", _points(count)
    write_images(photos, 1, 64, 80)
    notes.mkdir()
    landmarks = with_images(read_foreign(kind, write(notes, points)), list_items(photos))
    write_landmarks(tmp_path / "x.npz", landmarks)
    dataset = FaceCropDataset(
        {"type": "FaceCropDataset", "dataroot_gt": str(photos), "landmarks": str(tmp_path / "x.npz"), "gt_size": 32}
    )
    has_box = kind in ("300w", "aflw")
    box = np.array(BOX) if has_box else np.concatenate([points.min(0), points.max(0)])
    left, top, right, bottom = window_of(box, 0.2, (64, 80))
    expected = (points + 0.5 - [left, top]) * [32 / (right - left), 32 / (bottom - top)] - 0.5
    found = dataset[0]["landmarks"].numpy()
    seen = np.arange(count) != 3 if kind == "aflw" else np.ones(count, bool)
    assert np.allclose(found[seen], expected[seen], atol=1e-3)
    assert np.isnan(found[~seen]).all()
