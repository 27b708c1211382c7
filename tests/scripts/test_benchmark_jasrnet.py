"""The benchmark of JASRNet: literal forms and ours agree, and the former take longer."""

import importlib.util
from argparse import Namespace
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark" / "jasrnet.py"
SPEC = importlib.util.spec_from_file_location("benchmark_jasrnet", SCRIPT)
script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)


@pytest.mark.parametrize(("part", "lines"), [("nme", 1), ("targets", 3), ("loss", 1)])
def test_parts_compare_equal_results(part: str, lines: int, capsys: pytest.CaptureFixture) -> None:
    script.PARTS[part](Namespace(repeats=1, faces=3))
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == lines
    ratios = [float(line.rpartition("ratio ")[2]) for line in printed]
    assert min(ratios) > 1
