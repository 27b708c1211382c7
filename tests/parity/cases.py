"""Reference files: where they are, what they hold, and what a result must satisfy."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from parity.tolerances import find_limit

DEFAULT_ROOT = Path(__file__).parents[1] / "data" / "references"


class Arrays:
    """Arrays of a case; remembers which were read, since one that nobody compares is a hole in the test."""

    def __init__(self, path):
        self._arrays = {}
        if path.exists():
            with np.load(path, allow_pickle=False) as archive:
                self._arrays = dict(archive)
        self.unread = set(self._arrays)

    def __getitem__(self, name):
        self.unread.discard(name)
        return self._arrays[name]

    def __iter__(self):
        return iter(self._arrays)

    def __contains__(self, name):
        return name in self._arrays


@dataclass
class Case:
    """One reference: the fields of its JSON file, and its arrays."""

    system: str
    name: str
    path: Path
    meta: dict = field(repr=False)

    @property
    def arrays(self):
        """Arrays of the ``.npz`` beside the JSON file, if there is one."""
        if not hasattr(self, "_arrays"):
            self._arrays = Arrays(self.path.with_suffix(".npz"))
        return self._arrays

    def check(self, name, actual, expected, family):
        """Fail unless ``actual`` is within the limit of ``family`` from ``expected``."""
        actual, expected = np.asarray(actual), np.asarray(expected)
        assert actual.shape == expected.shape, f"{name}: shape {actual.shape}, reference {expected.shape}"
        assert np.isfinite(actual).all(), f"{name} has values that are not finite"
        limit = find_limit(family, self.meta)
        largest = float(np.abs(expected).max(initial=0.0)) if limit.relative else 1.0
        allowed = limit.value * largest
        error = np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0)
        assert error <= allowed, f"{name}: off by {error:.3g}, limit {allowed:.3g} ({family})"

    def check_array(self, name, actual, family):
        """Compare with the stored array of that name."""
        self.check(name, actual, self.arrays[name], family)


def find_cases():
    """Return a pytest parameter for every case under ``FACESR_REFERENCES`` (default: the copies in ``tests/data``)."""
    roots = os.environ.get("FACESR_REFERENCES")
    paths = [Path(root) for root in roots.split(os.pathsep) if root] if roots else [DEFAULT_ROOT]
    return [case for root in paths for case in _cases_of_root(root)]


def _cases_of_root(root):
    if not root.is_dir():
        raise FileNotFoundError(f"FACESR_REFERENCES must name folders, got {root}")
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    files = [path for folder in folders for path in sorted(folder.glob("*.json"))]
    if not files:
        raise FileNotFoundError(f"FACESR_REFERENCES must name folders with reference files, {root} has none")
    return [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in files]


def load_case(path):
    """Read one case."""
    meta = json.loads(path.read_text(encoding="utf-8"))
    return Case(meta.get("system", path.parent.name), meta.get("name", meta.get("case", path.stem)), path, meta)
