"""Check before a run starts that all it needs is here: options, weights, data and GPUs, every problem in one list."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facesr_plugin.checkpoints import load_weights, read_checkpoint
from facesr_plugin.compat.train_loader import find_too_few
from facesr_plugin.option_check import find_misshapen, find_option_problems, refuse
from facesr_plugin.registry import DATASET_REGISTRY, MODEL_REGISTRY
from facesr_plugin.utils.files import expand_home
from facesr_plugin.utils.state_form import check_state
from facesr_plugin.utils.weights import WEIGHTS, resolve_weights

_PRETRAIN = "pretrain_network_"
_SEEDS = 2**32
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

    @property
    def processes(self) -> int:
        """How many the run has; without a launcher one process feeds all GPUs."""
        return int(os.environ.get({"pytorch": "WORLD_SIZE", "slurm": "SLURM_NTASKS"}.get(self.launcher, ""), "1"))


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
        problems += [*_find_wrong_seeds(options, start), *_find_missing_gpus(options, start)]
        problems += [*_find_missing_weights(options, start), *_find_missing_libraries(options)]
        problems += _find_data_problems(options, start)
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


def _find_wrong_seeds(options: dict[str, Any], start: Start) -> Iterator[str]:
    """NumPy's generators take 32 bits, of the seed with the rank added to it."""
    seed, largest = options.get("manual_seed"), _SEEDS - start.processes
    if seed is not None and (type(seed) is not int or not 0 <= seed <= largest):
        yield f"manual_seed must be a whole number from 0 to {largest}, or ~ to draw one, got {seed!r}"
    for phase, section in (options.get("datasets") or {}).items():
        seed = section.get("manual_seed", 0)
        if isinstance(seed, int) and seed < 0:
            yield f"datasets.{phase}.manual_seed must be 0 or more, got {seed}"


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
    project = (logger.get("wandb") or {}).get("project")
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
        yield from _find_wrong_state(str(state))
        return
    for key, name in path.items():
        if str(key).startswith(_PRETRAIN) and name is not None:
            try:
                _try_weights(options, str(key).removeprefix(_PRETRAIN), name)
            except (OSError, TypeError, ValueError) as error:
                yield f"path.{key}: {error}"


def _try_weights(options: dict[str, Any], network: str, name: str) -> None:
    """Read a file as the model will do."""
    file = resolve_weights(name) if name in WEIGHTS else _check_file(name)
    section = options.get(f"network_{network}") or {}
    load_weights(file, prefer=options["path"].get(f"param_key_{network}", "params"), arch=section.get("type"))


def _find_wrong_state(name: str) -> Iterator[str]:
    try:
        check_state(read_checkpoint(_check_file(name)))
    except (OSError, ValueError) as error:
        yield f"path.resume_state: {error}"


def _check_file(name: str) -> Path:
    if not expand_home(name).is_file():
        raise FileNotFoundError(f"no such file {name}")
    return expand_home(name)


def _find_data_problems(options: dict[str, Any], start: Start) -> Iterator[str]:
    for phase, section in (options.get("datasets") or {}).items():
        missing = list(_find_missing_paths(section, f"datasets.{phase}"))
        yield from missing
        if not missing and section.get("type") in DATASET_REGISTRY:
            yield from _try_dataset(options, phase, start)


def _find_missing_paths(section: dict[str, Any], where: str) -> Iterator[str]:
    for key in _DATA_PATHS:
        path = section.get(key)
        if isinstance(path, str) and not expand_home(path).exists():
            yield f"{where}.{key}: no such file or folder {path}"


def _try_dataset(options: dict[str, Any], phase: str, start: Start) -> Iterator[str]:
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
    if phase != "train":
        yield from _find_few_faces(options, phase, len(dataset))
    elif start.is_train:
        yield from _find_large_batch(options, len(dataset), start)


def _find_few_faces(options: dict[str, Any], phase: str, faces: int) -> Iterator[str]:
    metrics = ((options.get("val") or {}).get("metrics") or {}).items()
    sets = [name for name, metric in metrics if (metric or {}).get("type") == "calculate_fid"]
    if sets and faces < _FEWEST_FACES:
        yield f"datasets.{phase} must have at least {_FEWEST_FACES} faces for val.metrics.{sets[0]}, got {faces}"


def _find_large_batch(options: dict[str, Any], images: int, start: Start) -> Iterator[str]:
    import torch

    section, gpus = options["datasets"]["train"], options.get("num_gpu", 0)
    gpus = torch.cuda.device_count() if gpus == "auto" else gpus
    parts = gpus if start.launcher == "none" and isinstance(gpus, int) else 1
    batch, ratio = section.get("batch_size_per_gpu", 1), section.get("dataset_enlarge_ratio", 1)
    if batch >= 1 and ratio >= 1:  # else reported elsewhere
        problem = find_too_few(images, ratio, start.processes, batch * max(parts, 1))
        yield from [problem] if problem else []
