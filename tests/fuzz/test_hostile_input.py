"""Hostile files: a clear error that names the file, or a valid result; no code, no crash, no hang, no memory blow-up.

About 500 cases; ``FACESR_FUZZ=10000`` tries that many. CONTRIBUTING.md tells how a failing case is repeated.
"""

from __future__ import annotations

import gc
import importlib
import os
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from fuzz.sandbox import Case, Sandbox

# Share of the cases, in percent, by family.
FAMILIES = {
    "options": ("option files and --set", 10),
    "checkpoints": ("weight files", 12),
    "states": ("training states", 8),
    "databases": ("LMDB", 25),
    "landmarks": ("landmark files", 25),
    "pictures": ("images", 20),
}
TOTAL = int(os.environ.get("FACESR_FUZZ") or 500)


@cache
def failure(signature: str) -> type[AssertionError]:
    """A class of its own for each kind of failure: hypothesis then reduces and reports each of them."""
    return type("HostileInput", (AssertionError,), {"__doc__": signature})


def keep(case: Case, folder: Path) -> Path:
    path = folder / f"{case.family}.json"
    path.write_text(case.to_json())
    return path


@pytest.mark.parametrize("family", list(FAMILIES))
def test_hostile_input_is_refused_or_read(
    family: str, sandbox: Sandbox, tally: dict[str, Counter], tmp_path: Path
) -> None:
    name, percent = FAMILIES[family]
    counts = tally.setdefault(name, Counter())

    @settings(
        max_examples=max(TOTAL * percent // 100, 1),
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(importlib.import_module(f"fuzz.{family}").cases())
    def check(case: Case) -> None:
        outcome = sandbox.run(case)
        counts[outcome.kind] += 1
        if counts.total() % 50 == 0:
            print(f"{name}: {dict(counts)}", flush=True)  # seen with pytest -s
            gc.collect()  # tensors in cycles
        if outcome.kind == "failed":
            place = keep(case, tmp_path)
            raise failure(outcome.signature)(f"{outcome.signature}; python -m fuzz.repeat {place}\n{outcome.text}")

    check()
