"""A validation on several ranks, without a GPU, measures what one process does."""

from __future__ import annotations

from pathlib import Path

import pytest

from facesr_plugin.checkpoints import read_checkpoint
from helpers.rank_validation import validate_faces
from helpers.ranks import run_ranks

pytestmark = pytest.mark.process


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_measure_what_one_process_does(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr("facesr_plugin.metrics.fid_metric.NUM_FEATURES", 12)  # put back what the helper changes
    monkeypatch.setattr("facesr_plugin.metrics.fid_metric._load_network", None)
    expected = validate_faces(0, 1, folders[0])
    found, *others = run_ranks(count, folders[1], validate_faces, folders[1])
    assert list(expected) == ["psnr", "ssim", "nme", "fid"]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert others == [{}] * (count - 1)
    records = [read_checkpoint(folder / "models/net_g_best.pth")["facesr"]["best"] for folder in folders]
    assert [record["iter"] for record in records] == [7, 7]
    written = [{path.relative_to(one): path.read_bytes() for path in one.rglob("*.png")} for one in folders]
    assert written[0] == written[1]
    assert len(written[0]) == 2 * 5
