"""What ``facesr doctor`` says of operators and weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from facesr_plugin import diagnosis


def report() -> tuple[str, bool]:
    lines, healthy = diagnosis.report()
    return "\n".join(lines), healthy


def test_report_says_where_weights_are_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert f"weights: none in {tmp_path / 'weights'}, {tmp_path / 'torch/hub/checkpoints'}" in report()[0]
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "vgg19-dcbb9e9d.pth").touch()
    assert f"weights: vgg19 in {tmp_path / 'weights'}" in report()[0]


def test_report_lists_operators_that_were_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACESR_OPS", raising=False)
    text, healthy = report()
    assert healthy
    assert "operators: FACESR_OPS=auto" in text
    assert text.count("UNTESTED by this project") == 2


def test_report_finds_a_wrong_choice_of_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESR_OPS", "fast")
    text, healthy = report()
    assert "PROBLEM: FACESR_OPS must be auto, basicsr, mmcv or torch, got 'fast'" in text
    assert not healthy
