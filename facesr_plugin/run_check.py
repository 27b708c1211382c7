"""Check before a run starts that all it needs is here: options, weights, data and GPUs, every problem in one list."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facesr_plugin.option_check import find_misshapen, find_option_problems, refuse
from facesr_plugin.registry import DATASET_REGISTRY, MODEL_REGISTRY
from facesr_plugin.utils.files import expand_home
from facesr_plugin.utils.weights import WEIGHTS, resolve_weights

_DATA_PATHS = ("dataroot_gt", "dataroot_lq", "meta_info_file", "landmarks")
_FEWEST_FACES = 2  # that FID can compare
_WAIT_S = 10


@dataclass(frozen=True)
class Start:
    """How a run is started.

    Args:
        is_train: A training; else a test.
        launcher: ``none``, ``pytorch`` or ``slurm``.
        resumes: A training goes on from the state of an earlier one.
    """

    is_train: bool
    launcher: str = "none"
    resumes: bool = False

    @property
    def rank(self) -> int:
        """Of this process, before any process group is there."""
        return int(os.environ.get({"pytorch": "RANK", "slurm": "SLURM_PROCID"}.get(self.launcher, ""), "0"))


def has_state(root: str | Path, options: dict[str, Any]) -> bool:
    """Whether an earlier run of this name has left a training state.

    Args:
        root: Folder above ``experiments``.
        options: Of the option file.
    """
    folder = Path(root, "experiments", str(options.get("name")), "training_states")
    return any(folder.glob("*.state"))


def check_run(options: dict[str, Any], start: Start) -> None:
    """Refuse a run of one of this package's models that cannot work; BasicSR must be there and know the package.

    Nothing is created, but the lists of the data sets are read. Only rank 0 has the text: the others end after it,
    since launchers stop all ranks when one ends.

    Args:
        options: Of the option file, with what the command changes in it.
        start: How the run is started.

    Raises:
        SystemExit: On other ranks, with status 2.
        ValueError: With one line per problem if there are several.
    """
    from basicsr.utils import registry

    kinds = ("dataset", "loss", "metric", "model")
    registries = {kind: getattr(registry, f"{kind.upper()}_REGISTRY") for kind in kinds}
    problems = find_option_problems(options, start.is_train, registries)
    if options.get("model_type") in MODEL_REGISTRY and not find_misshapen(options):
        problems += [*_find_missing_gpus(options, start), *_find_missing_weights(options, start)]
        problems += [*_find_missing_libraries(options), *_find_data_problems(options)]
    if problems:
        leave_to_first(start.rank)
    refuse(problems)


def leave_to_first(rank: int) -> None:
    """End a process whose rank 0 has the text of a refusal; rank 0 itself goes on.

    Raises:
        SystemExit: On other ranks, with status 2.
    """
    if rank:
        time.sleep(_WAIT_S)
        raise SystemExit(2)


def _find_missing_gpus(options: dict[str, Any], start: Start) -> Iterator[str]:
    import torch

    wanted, here = options.get("num_gpu", 0), torch.cuda.device_count()
    if wanted == "auto":
        return
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0:
        yield f"num_gpu must be auto or a whole number, got {wanted!r}"
    elif wanted > here and (start.launcher == "none" or not here):
        yield f"num_gpu must be at most the number of GPUs here, {here}, got {wanted}. Set num_gpu: auto"


def _find_missing_libraries(options: dict[str, Any]) -> Iterator[str]:
    """What BasicSR would import for its loggers, after it has made its folders."""
    logger = options.get("logger") or {}
    wandb = logger.get("wandb")
    project = wandb.get("project") if isinstance(wandb, dict) else wandb
    for key, name, wanted in (
        ("use_tb_logger", "tensorboard", logger.get("use_tb_logger")),
        ("wandb", "wandb", project),
    ):
        if wanted and importlib.util.find_spec(name) is None:
            yield f"logger.{key} needs the library {name}: pip install {name}"
    if project and not logger.get("use_tb_logger"):
        yield "logger.wandb needs logger.use_tb_logger: true, whose log it sends"


def _find_missing_weights(options: dict[str, Any], start: Start) -> Iterator[str]:
    """Files below ``path``; a run that goes on takes those of its own networks."""
    path = options.get("path") or {}
    state = path.get("resume_state")
    if start.resumes:
        return
    if start.is_train and state:
        yield from () if expand_home(str(state)).is_file() else (f"path.resume_state: no such file {state}",)
        return
    for key, name in path.items():
        if str(key).startswith("pretrain_network_") and name is not None:
            try:
                resolve_weights(name) if name in WEIGHTS else _check_file(name)
            except (FileNotFoundError, TypeError, ValueError) as error:
                yield f"path.{key}: {error}"


def _check_file(name: str) -> None:
    if not expand_home(name).is_file():
        raise FileNotFoundError(f"no such file {name}")


def _find_data_problems(options: dict[str, Any]) -> Iterator[str]:
    for phase, section in (options.get("datasets") or {}).items():
        missing = list(_find_missing_paths(section, f"datasets.{phase}"))
        yield from missing
        if not missing and section.get("type") in DATASET_REGISTRY:
            yield from _try_dataset(options, phase)


def _find_missing_paths(section: dict[str, Any], where: str) -> Iterator[str]:
    for key in _DATA_PATHS:
        path = section.get(key)
        if isinstance(path, str) and not expand_home(path).exists():
            yield f"{where}.{key}: no such file or folder {path}"


def _try_dataset(options: dict[str, Any], phase: str) -> Iterator[str]:
    """Build a data set as BasicSR does; it says itself what does not fit."""
    given = {"scale": options["scale"]} if "scale" in options else {}
    section = {**options["datasets"][phase], **given, "phase": str(phase).split("_")[0]}
    for key in ("dataroot_gt", "dataroot_lq"):
        if isinstance(section.get(key), str):
            section[key] = str(expand_home(section[key]))
    try:
        dataset = DATASET_REGISTRY.get(section["type"])(section)
    except (OSError, TypeError, ValueError) as error:
        text = str(error)
        yield text if text.startswith("datasets.") else f"datasets.{phase}: {text}"
        return
    metrics = ((options.get("val") or {}).get("metrics") or {}).items()
    sets = [name for name, metric in metrics if (metric or {}).get("type") == "calculate_fid"]
    if sets and section["phase"] != "train" and len(dataset) < _FEWEST_FACES:
        yield f"datasets.{phase} must have at least {_FEWEST_FACES} faces for val.metrics.{sets[0]}, got {len(dataset)}"
