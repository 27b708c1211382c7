"""Trainings of every system, killed by SIGKILL at chosen places and continued, end in the bits of unbroken ones."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.faults import PLACES, Kill
from helpers.kill_runs import Campaign, differences, draw_kills
from helpers.kill_systems import GANS, SYSTEMS, VARIANTS, Variant, prepare

pytestmark = pytest.mark.process

WANTED = int(os.environ.get("FACESR_KILLS", 0))
AT_ONCE = 5  # kills of one run, at different places
# From the beginning; then, from the first saved state on, through every phase; then one of the rarer places.
PLAN = (
    Kill("data", 3),
    Kill("write", 1, 0.5, "state"),
    Kill("rename", 2, 0.7, "state"),
    Kill("backward", 3, 0.5),
    Kill("validation", 1),
    Kill("step", 2, 0.6),
    Kill("rename", 1, 0.7, "net_g"),
    Kill("epoch", 2),
    Kill("prune", 1, 0.6),
)
GAN_PLAN = (Kill("write", 1, 0.5, "net_d"),)
RARE = (Kill("write", 1, 0.5, "net_g"), Kill("resume", 1, 0.6), Kill("rename", 1, 0.3, "latest"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Variant], Campaign]:
    """Runs at a stretch, each made once."""
    made: dict[tuple[str, Variant], Campaign] = {}

    def run(system: str, variant: Variant) -> Campaign:
        if (system, variant) not in made:
            made[system, variant] = Campaign(system, variant, data, tmp_path_factory.mktemp("unbroken"))
            made[system, variant].start()
        return made[system, variant]

    return run


@pytest.mark.parametrize("system", SYSTEMS)
def test_killed_training_ends_in_the_bits_of_an_unbroken_one(
    system: str, data: Path, unbroken: Callable[[str, Variant], Campaign], tmp_path: Path
) -> None:
    number = list(SYSTEMS).index(system)
    variant = VARIANTS[number % 2]
    killed = Campaign(system, variant, data, tmp_path)
    plan = [*PLAN, *(GAN_PLAN if system in GANS else ()), RARE[number % 3]]
    killed.plan(plan, random.Random(system))
    assert killed.done == plan
    assert differences(unbroken(system, variant), killed) == []


@pytest.mark.parametrize("batch", [1, 3])
def test_killed_training_goes_on_to_its_end_with_other_batches(batch: int, data: Path, tmp_path: Path) -> None:
    campaign = Campaign("dic_hourglass", Variant(keep=False), data, tmp_path)
    assert campaign.start(Kill("rename", 6, 0.7, "state"))  # iteration 10, in an epoch that batches of 1 do not have
    campaign.variant = replace(campaign.variant, batch=batch)
    assert not campaign.start()
    assert "12.state" in campaign.contents()


@pytest.mark.skipif(not WANTED, reason="many random kills: FACESR_KILLS=300")
def test_random_kills(
    data: Path,
    unbroken: Callable[[str, Variant], Campaign],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Kills drawn from one seed for each run, spread over all systems; prints what became of them."""
    tried: Counter[tuple[str, str]] = Counter()
    survived: Counter[tuple[str, str]] = Counter()
    failures = []
    seed = int(os.environ.get("FACESR_KILLS_SEED", 0))
    while tried.total() < WANTED:
        rng = random.Random(seed)
        system, variant = list(SYSTEMS)[seed % len(SYSTEMS)], rng.choice(VARIANTS)
        killed = Campaign(system, variant, data, tmp_path / str(seed))
        failure = _attempt(killed, draw_kills(rng, system, AT_ONCE), rng, unbroken)
        struck = Counter((system, kill.place) for kill in killed.done)
        tried += struck
        survived += Counter() if failure else struck
        if failure:
            failures.append(f"seed {seed}, {system}, {variant}, {[str(kill) for kill in killed.done]}: {failure}")
        else:
            shutil.rmtree(tmp_path / str(seed))
        seed += 1
        with capsys.disabled():
            print(*_table(tried, survived), *failures, sep="\n", flush=True)
    assert not failures


def _attempt(
    killed: Campaign, kills: list[Kill], rng: random.Random, unbroken: Callable[[str, Variant], Campaign]
) -> str:
    """Kill and continue a training; return what is wrong with its end, if anything."""
    try:
        killed.plan(kills, rng)
    except AssertionError as error:
        return str(error)
    found = differences(unbroken(killed.system, killed.variant), killed)
    return f"other files: {', '.join(found)}" if found else ""


def _table(tried: Counter, survived: Counter) -> list[str]:
    """Lines of a Markdown table."""
    head = ["| system | " + " | ".join(PLACES) + " | all |", "|---" * (len(PLACES) + 2) + "|"]
    names = [*SYSTEMS, "all"]
    lines = []
    for name in names:
        systems = SYSTEMS if name == "all" else [name]
        cells = [[(system, place) for system in systems] for place in PLACES]
        cells.append([key for cell in cells for key in cell])
        counts = (f"{sum(survived[key] for key in cell)} / {sum(tried[key] for key in cell)}" for cell in cells)
        lines.append(f"| {name} | " + " | ".join(counts) + " |")
    return head + lines
