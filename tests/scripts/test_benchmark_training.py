"""The benchmarks of training: every system's options fit, tiny runs give tables."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from facesr_plugin.models.option_problems import find_model_problems
from facesr_plugin.registry import MODEL_REGISTRY
from helpers.tiny_systems import FUSED_ON_CPU

FOLDER = Path(__file__).parents[2] / "scripts" / "benchmark"
TINY = ["min_ch=4", "max_ch=8", "in_size=32", "out_size=32", "min_feat_size=16", "res_depth=0", "bottleneck_size=16"]
SMALL = ["--size", "32", "--rounds", "1", *(word for value in TINY for word in ("--set", f"network_g.{value}"))]
needs_fused_cpu = pytest.mark.skipif(not FUSED_ON_CPU, reason="fused optimisers on the CPU came with 2.4")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    names = ("systems", "turns", "training", "scaling")
    monkeypatch.syspath_prepend(str(FOLDER))
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]


@needs_fused_cpu
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("system", ["SPARNet", "SPARNetHD", "DIC", "DICGAN", "JASRNet", "Progressive"])
def test_settings_of_every_system_fit_its_options(
    scripts: dict[str, ModuleType], system: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = dict.fromkeys(scripts["systems"]._NETWORKS, dict)
    monkeypatch.setattr(scripts["systems"], "_NETWORKS", networks)  # the real ones have hundreds of megabytes
    training = scripts["training"]
    settings = training.changes_of(system, device, training.BY_DEFAULT)
    assert list(settings) == ["plain", "fast", "half", *(["lean"] if system in training.LEAN else [])]
    for changes in settings.values():
        options = scripts["systems"].make_options(system, tmp_path, "cpu", changes)
        assert not find_model_problems(options, MODEL_REGISTRY.get(options["model_type"]))


@needs_fused_cpu
def test_every_option_can_be_measured_alone(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    training = scripts["training"]
    settings = training.changes_of("SPARNet", "cpu", [*training.ALONE])
    assert list(settings) == ["plain", *training.ALONE]
    works = {name for name in settings if name != "checkpointing"}  # batch norm
    for name in works:
        options = scripts["systems"].make_options("SPARNet", tmp_path, "cpu", settings[name])
        assert not find_model_problems(options, MODEL_REGISTRY.get(options["model_type"])), name
    assert training.ALONE["fused"]["train"].keys() == {"optim_g", "optim_d"}  # as it was


def test_rows_compare_with_the_plain_setting_of_the_same_round(scripts: dict[str, ModuleType]) -> None:
    seconds = {"plain": [2.0, 4.0, 3.0], "fast": [1.0, 1.0, 2.0]}
    rows = [scripts["training"].format_row("A", name, seconds, {"plain": 200, "fast": 100}) for name in seconds]
    assert rows == ["| A | plain | 0.333 |  | 200 |  |", "| A | fast | 1 | 2.00 (1.50 to 4.00) | 100 | 50 % |"]


@pytest.mark.process
def test_settings_take_turns_in_processes_of_their_own(
    scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["training.py", "--system", "SPARNet", "--setting", "fast", *SMALL])
    assert scripts["training"].main() == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[:2] for row in rows] == [["| SPARNet", "plain"], ["| SPARNet", "fast"]]


@pytest.mark.process
def test_two_processes_are_compared_with_one(
    scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["scaling.py", *SMALL])
    assert scripts["scaling"].main() == 0
    (row,) = capsys.readouterr().out.splitlines()[2:]
    assert row.startswith("| SPARNet | ")


@pytest.mark.process
def test_process_that_fails_ends_the_benchmark(scripts: dict[str, ModuleType]) -> None:
    trainer = scripts["turns"].Trainer({"system": "SPARNet", "device": "cpu", "changes": {"train": {"compil": True}}})
    with pytest.raises(RuntimeError, match="a process of the benchmark ended with 1"):
        trainer.end()
