"""Training states: any content where BasicSR and the models expect their own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from basicsr.models import build_model
from hypothesis import strategies as st

from facesr_plugin.checkpoints import read_checkpoint
from facesr_plugin.compat.resume import load_resume_state
from fuzz.checkpoints import TENSORS, torch_bytes
from fuzz.mutate import damaged, edited_trees, nested, odd_values
from fuzz.sandbox import Case
from helpers.options import model_options


def _options(folder: Path) -> dict[str, Any]:
    scheduler = {"type": "MultiStepLR", "milestones": [3, 5], "gamma": 0.5}
    options = model_options(folder, scheduler=scheduler)
    path = {"resume_state": str(folder / "5.state"), "pretrain_network_g": None}
    return {
        **options,
        "auto_resume": False,
        "rank": 0,
        "datasets": {"train": {"manual_seed": 7}},
        "path": {**options["path"], **path},
    }


@cache
def _state() -> dict[str, Any]:
    """The state of a tiny run after two iterations, as the model writes it."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        model = build_model(_options(Path(folder)))
        for step in (1, 2):
            model.feed_data({"lq": torch.rand(2, 3, 32, 32), "gt": torch.rand(2, 3, 32, 32)})
            model.optimize_parameters(step)
            model.update_learning_rate(step)
        model.save_training_state(0, 2)
        return read_checkpoint(Path(folder) / "states" / "2.state")


@cache
def _model() -> tuple[Any, Any]:
    """A model, and copies of its schedulers and optimisers as they are before a state."""
    model = build_model(_options(Path("nowhere")))
    return model, copy.deepcopy((model.schedulers, model.optimizers))


def cases() -> st.SearchStrategy[Case]:
    _state()  # a training step draws random numbers, which strategies must not
    return _cases()


@st.composite
def _cases(draw: Callable) -> Case:
    more = (*TENSORS, (1, 2), (), nested(70), {0: {"step": "x"}}, [{"params": [0]}])
    values = st.one_of(odd_values(*more), st.sampled_from(TENSORS)).filter(
        lambda value: not hasattr(value, "isoformat")
    )
    large = {"optimizers": _state()["optimizers"]}
    small = {key: value for key, value in _state().items() if key not in large}  # so that each value is often hit
    content = draw(
        st.one_of(
            edited_trees(st.just(small), values).map(lambda tree: torch_bytes({**tree, **large})),
            edited_trees(st.just(small), values).map(lambda tree: torch_bytes({**large, **tree})),
            edited_trees(st.just(_state()), values).map(torch_bytes),
            damaged(st.just(torch_bytes(_state()))),
            values.map(torch_bytes),
        )
    )
    return Case("states", {"5.state": content})


@cache
def _network() -> bytes:
    return torch_bytes({"params": {"weight": torch.zeros(1)}})


def attempt(folder: Path, case: Case) -> None:
    """As a run that goes on: BasicSR's loop reads the state, the model takes it."""
    options = _options(folder)
    for name in ("models", "states"):
        (folder / name).mkdir()
    (folder / "models" / "net_g_2.pth").write_bytes(_network())
    state = load_resume_state(options)
    model, fresh = _model()
    model.opt = {**model.opt, "path": options["path"]}
    model.schedulers, model.optimizers = copy.deepcopy(fresh)
    model.resume_training(state)
