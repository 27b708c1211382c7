"""``resume-without-gpu``: BasicSR loads training states onto the current CUDA device, also where there is none.

``load_resume_state`` is defined in ``basicsr/train.py``, which is often the main script and then not reachable before
it runs. So the replacement happens when the script calls ``parse_options``, its first step.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from pathlib import Path
from typing import Any

from facesr_plugin.compat.patch import Patch, after_options, names_in
from facesr_plugin.utils.files import check_writable
from facesr_plugin.utils.state_form import check_state

logger = logging.getLogger("basicsr.facesr")


def _loads_onto_gpu(function: Any) -> bool:
    return "current_device" in names_in(function)


def _needed() -> bool:
    import basicsr.train

    return _loads_onto_gpu(basicsr.train.load_resume_state)


def _replace_function(_opt: dict) -> None:
    for name in ("__main__", "basicsr.train"):
        module = sys.modules.get(name)
        if _loads_onto_gpu(getattr(module, "load_resume_state", None)):
            module.load_resume_state = load_resume_state


def load_resume_state(opt: dict) -> dict | None:
    """Load the newest (``--auto_resume``) or the named training state onto the CPU.

    A state that cannot be read, or whose networks cannot, is passed over for the one before, with a warning; a named
    one is an error. From a named one a new course begins: later states of the run's folder, and later best weights, get
    another name, so that ``--auto_resume`` goes on with this course.

    Args:
        opt: Parsed options; ``path.resume_state`` and the networks' paths are set like BasicSR does, and a seed that
            the first run drew for itself is taken over.

    Raises:
        FileNotFoundError: If the named state does not exist.
        OSError: If the run cannot write into its folders.
        ValueError: If it, or every state of a run, is damaged or holds more than tensors and plain containers.
    """
    from basicsr.utils import check_resume

    state = _newest_readable(opt) if opt["auto_resume"] else _named(opt)
    if state is None:
        return None
    check_resume(opt, state["iter"])
    _take_over_seed(opt, state)
    if opt["rank"] == 0:
        check_writable(opt["path"]["models"])
        check_writable(opt["path"]["training_states"])
        if not opt["auto_resume"]:
            _put_aside(opt["path"], state["iter"])
    return state


def _put_aside(path: dict[str, Any], iteration: int) -> None:
    """Rename the states, and the best weights, that are later than an iteration."""
    best = Path(path["models"]) / "net_g_best.pth"
    later = [state for number, state in find_states(Path(path["training_states"])).items() if number > iteration]
    later += [best] if best.is_file() and _iteration_of(best) > iteration else []
    suffix = time.strftime("superseded_%Y%m%d_%H%M%S")
    for file in later:
        file.rename(f"{file}.{suffix}")
    if later:
        names = ", ".join(file.name for file in later)
        logger.warning("From iteration %d a new course begins; renamed to *.%s: %s", iteration, suffix, names)


def _iteration_of(best: Path) -> int:
    """When the weights were the best; a damaged file, or another program's, is as late as can be."""
    from facesr_plugin.checkpoints import read_checkpoint  # higher layer, but only when a run starts

    try:
        return int(read_checkpoint(best)["facesr"]["best"]["iter"])
    except (KeyError, OSError, TypeError, ValueError):
        return sys.maxsize


def find_states(folder: Path) -> dict[int, Path]:
    """Return the files ``<iteration>.state`` of a folder by iteration, in ascending order; it need not exist."""
    found = (re.fullmatch(r"([0-9]+)\.state", path.name) for path in folder.glob("*.state"))
    return {iteration: folder / f"{text}.state" for iteration, text in sorted((int(m[1]), m[1]) for m in found if m)}


def newest_state(folder: Path) -> Path | None:
    """The ``<iteration>.state`` file with the highest iteration, or None."""
    return next(reversed(find_states(folder).values()), None)


def _named(opt: dict) -> dict | None:
    path = opt["path"].get("resume_state")
    if not path:
        return None
    if not Path(path).is_file():
        raise FileNotFoundError(f"path.resume_state must be a training state, {path} does not exist")
    try:
        return _read(Path(path), opt)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"path.resume_state must be a training state with its networks, got {path}: {error}. Name another one, or "
            "take --auto_resume: it goes on from the newest that can be read."
        ) from error


def _newest_readable(opt: dict) -> dict | None:
    problems = []
    for path in reversed(find_states(Path(opt["path"]["training_states"])).values()):
        try:
            state = _read(path, opt)
        except (OSError, ValueError) as error:
            problems.append(f"{path}: {error}")
            continue
        opt["path"]["resume_state"] = str(path)
        for text in problems if opt["rank"] == 0 else ():
            logger.warning("Passed over a training state that cannot be used, going on from %s. %s", path.name, text)
        return state
    if problems:
        raise ValueError(
            "--auto_resume must find a training state that can be used, got none. To start anew, drop --auto_resume; "
            "the folder is then renamed, not lost.\n" + "\n".join(f"  {text}" for text in problems)
        )
    return None


def _read(path: Path, opt: dict) -> dict:
    """Read a state, and try to read the networks that belong to it."""
    from facesr_plugin.checkpoints import read_checkpoint  # higher layer, but only when a run starts

    state = read_checkpoint(path)
    check_state(state)
    ignored = opt["path"].get("ignore_resume_networks") or ()
    for name in (key for key, section in opt.items() if key.startswith("network_") and section):
        if name not in ignored:
            network = name.removeprefix("network_")
            read_checkpoint(Path(opt["path"]["models"]) / f"net_{network}_{state['iter']}.pth")
    return state


def _take_over_seed(opt: dict, state: dict) -> None:
    seed = (state.get("facesr") or {}).get("manual_seed")
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
    apply=lambda: after_options(_replace_function),
)
