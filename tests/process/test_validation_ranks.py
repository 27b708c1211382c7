"""A validation on two ranks, without a GPU, measures what one process does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from facesr_plugin.checkpoints import read_checkpoint
from helpers.environments import REPO, TORCHRUN, run
from helpers.rank_validation import validate_faces

pytestmark = pytest.mark.process


def test_two_ranks_measure_what_one_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr("facesr_plugin.metrics.fid_metric.NUM_FEATURES", 12)  # put back what the helper changes
    monkeypatch.setattr("facesr_plugin.metrics.fid_metric._load_network", None)
    expected = validate_faces(folders[0])
    command = [sys.executable, *TORCHRUN, "-m", "helpers.rank_validation", folders[1]]
    run(command, cwd=tmp_path, PYTHONPATH=f"{REPO}:{REPO / 'tests'}", CUDA_VISIBLE_DEVICES="")
    found, other = (json.loads((folders[1] / f"{rank}.json").read_text()) for rank in range(2))
    assert list(expected) == ["psnr", "ssim", "nme", "fid"]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert other == {}
    records = [read_checkpoint(folder / "models/net_g_best.pth")["facesr"]["best"] for folder in folders]
    assert [record["iter"] for record in records] == [7, 7]
    written = [{path.relative_to(one): path.read_bytes() for path in one.rglob("*.png")} for one in folders]
    assert written[0] == written[1]
    assert len(written[0]) == 2 * 5
