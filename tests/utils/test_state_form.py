"""What a training state must look like before anything of it is used."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from facesr_plugin.utils.state_form import check_state, named_misfits


def state(**changes: Any) -> dict[str, Any]:
    optimizer = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    record = {"format": 1, "manual_seed": 7, "epoch": None, "samples": 0, "best_metrics": {}, "system_state": {}}
    whole = {"epoch": 0, "iter": 5, "optimizers": [optimizer], "schedulers": [{}], "facesr": record}
    return {**whole, **changes}


def test_check_state_accepts_a_whole_one_and_that_of_basicsr() -> None:
    check_state(state())
    check_state({key: value for key, value in state().items() if key != "facesr"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must hold epoch, iter, optimizers, schedulers"),
        ([state()], "must hold epoch, iter, optimizers, schedulers"),
        ({"iter": 5}, "must hold epoch, iter, optimizers, schedulers"),
        (state(iter="5"), "iter must be a count, got '5'"),
        (state(iter=True), "iter must be a count, got True"),
        (state(epoch=-1), "epoch must be a count, got -1"),
        (state(optimizers=[{"state": {}}]), "optimizers must be states of optimisers"),
        (state(optimizers=[{"state": {0: "x"}, "param_groups": []}]), "optimizers must be states of optimisers"),
        (state(schedulers=[None]), r"schedulers must be states of schedulers, got \[None\]"),
        (state(facesr=3), "facesr must be a section, got 3"),
        (state(facesr={"samples": -1}), r"facesr\.samples must be a count, got -1"),
        (state(facesr={"manual_seed": 2**70}), r"facesr\.manual_seed must be a count"),
        (state(facesr={"best_metrics": {"a": 1}}), r"facesr\.best_metrics must be sections of sections"),
    ],
)
def test_check_state_names_what_is_wrong(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_state(content)


@pytest.mark.parametrize(
    "error", [KeyError("epoch"), TypeError("int\nobject"), AssertionError("Wrong lengths"), RuntimeError()]
)
def test_named_misfits_names_the_state(error: Exception) -> None:
    with (
        pytest.raises(ValueError, match=r"training state 5\.state does not fit this run, or is damaged: .+\. Use"),
        named_misfits("5.state"),
    ):
        raise error
