"""Every reference case against our code; the roots come from ``FACESR_REFERENCES``."""

import PIL
import pytest

from parity.adapters import find_adapter
from parity.cases import find_cases, load_case


@pytest.mark.parametrize("path", find_cases())
def test_reference(path):
    case = load_case(path)
    if (case.system, case.name) == ("dic", "data") and _major(PIL.__version__) < _major(case.meta["pillow"]):
        pytest.skip("Pillow before 13 gives other pixels for some patches that are not square")
    find_adapter(case)(case)
    assert not case.arrays.unread, f"no adapter compares {', '.join(sorted(case.arrays.unread))}"


def _major(version):
    return int(version.split(".")[0])
