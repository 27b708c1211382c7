"""``resume-without-gpu``: BasicSR loads training states onto the current CUDA device, also where there is none.

``load_resume_state`` is defined in ``basicsr/train.py``, which is often the main script and then not reachable before
it runs. So the replacement happens when the script calls ``parse_options``, its first step.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

from facesr_plugin.compat.patch import Patch, names_in, rebind


def _loads_onto_gpu(function: Any) -> bool:
    return "current_device" in names_in(function)


def _needed() -> bool:
    import basicsr.train

    return _loads_onto_gpu(basicsr.train.load_resume_state)


def _apply() -> None:
    import basicsr.utils.options as options

    original = options.parse_options

    @functools.wraps(original)
    def parse_options(*args: Any, **kwargs: Any) -> Any:
        parsed = original(*args, **kwargs)
        for name in ("__main__", "basicsr.train"):
            module = sys.modules.get(name)
            if _loads_onto_gpu(getattr(module, "load_resume_state", None)):
                module.load_resume_state = load_resume_state
        return parsed

    rebind(original, parse_options)


def load_resume_state(opt: dict) -> dict | None:
    """Load the newest (``--auto_resume``) or the named training state onto the CPU.

    Args:
        opt: Parsed options; ``path.resume_state`` and the networks' paths are set like BasicSR does, and a seed that
            the first run drew for itself is taken over.

    Raises:
        FileNotFoundError: If the named state does not exist.
        ValueError: If it is damaged or holds more than tensors and plain containers.
    """
    from basicsr.utils import check_resume

    from facesr_plugin.checkpoints import read_checkpoint  # higher layer, but only when a run starts

    if opt["auto_resume"]:
        newest = newest_state(Path(opt["path"]["training_states"]))
        if newest is not None:
            opt["path"]["resume_state"] = str(newest)
    path = opt["path"].get("resume_state")
    if not path or (opt["auto_resume"] and newest is None):
        return None
    if not Path(path).is_file():
        raise FileNotFoundError(f"path.resume_state must be a training state, {path} does not exist")
    state = read_checkpoint(path)
    check_resume(opt, state["iter"])
    _take_over_seed(opt, state)
    return state


def newest_state(folder: Path) -> Path | None:
    """The ``<iteration>.state`` file with the highest iteration, or None."""
    states = [path for path in folder.glob("*.state") if path.stem.isdigit()]
    return max(states, key=lambda path: int(path.stem), default=None)


def _take_over_seed(opt: dict, state: dict) -> None:
    seed = state.get("facesr", {}).get("manual_seed")
    if seed is None:
        return
    for dataset in opt["datasets"].values():
        if dataset.get("manual_seed") == opt["manual_seed"]:
            dataset["manual_seed"] = seed
    opt["manual_seed"] = seed


RESUME_WITHOUT_GPU = Patch(
    name="resume-without-gpu",
    reason="load_resume_state asks for the current CUDA device and looks below the current folder only",
    needed=_needed,
    apply=_apply,
)
