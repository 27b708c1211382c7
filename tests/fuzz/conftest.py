"""The sandbox that all families share, and the table of what came of their cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from fuzz.sandbox import Sandbox

_TALLY = pytest.StashKey[dict[str, Counter]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TALLY] = {}


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    box = Sandbox()
    yield box
    box.close()


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> dict[str, Counter]:
    """Counts of outcomes by family, shown at the end."""
    return request.config.stash[_TALLY]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[_TALLY]
    if not rows:
        return
    terminalreporter.section("hostile input")
    terminalreporter.write_line("| input | tried | refused | accepted | failed |")
    terminalreporter.write_line("|---|---|---|---|---|")
    for name, counts in rows.items():
        numbers = (counts.total(), counts["refused"], counts["accepted"], counts["failed"])
        terminalreporter.write_line(f"| {name} | {' | '.join(f'{number:,}' for number in numbers)} |")
