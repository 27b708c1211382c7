"""``train.compile`` on two ranks: what they exchange is what they exchange without it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.rank_runs import rank_gradients
from helpers.ranks import run_ranks

pytestmark = pytest.mark.process


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="train.compile needs torch 2.6")
def test_compiled_networks_have_the_same_gradients_on_all_ranks(tmp_path: Path) -> None:
    options = {"plain": {}, "compiled": {"compile": {"backend": "eager"}}}
    found = {name: run_ranks(2, tmp_path / name, rank_gradients, "sparnethd", tmp_path / name, train)
             for name, train in options.items()}  # fmt: skip
    first, second = found["compiled"]
    assert first.keys() == found["plain"][0].keys()
    for key, expected in found["plain"][0].items():
        assert torch.equal(first[key], second[key])
        torch.testing.assert_close(first[key], expected, rtol=1e-9, atol=1e-12)
