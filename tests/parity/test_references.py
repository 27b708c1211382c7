"""Every reference case against our code; the roots come from ``FACESR_REFERENCES``."""

import pytest

from parity.adapters import find_adapter
from parity.cases import find_cases, load_case


@pytest.mark.parametrize("path", find_cases())
def test_reference(path):
    case = load_case(path)
    find_adapter(case)(case)
    assert not case.arrays.unread, f"no adapter compares {', '.join(sorted(case.arrays.unread))}"
