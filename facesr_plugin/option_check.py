"""Check a whole option file before a run starts: every problem in one list.

BasicSR ignores keys that it does not know and meets a missing or misspelt name in the middle of a run. The check knows
the sections of this package's models; option files of other models are left to BasicSR.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import Any

from facesr_plugin.compat.process_group import find_dist_problems
from facesr_plugin.metrics.building import build_metric
from facesr_plugin.registry import MODEL_REGISTRY
from facesr_plugin.utils.option_file import find_unknown_keys, nearest
from facesr_plugin.utils.text import plain_line
from facesr_plugin.utils.visualize import AttentionOptions
from facesr_plugin.utils.weights import resolve_weights

_TOP = ("name", "model_type", "scale", "num_gpu", "manual_seed", "datasets", "path", "val", "find_unused_parameters")
_TRAIN_TOP = (*_TOP, "train", "logger", "dist_params")
_TEST_TOP = (*_TOP, "dist_params")
_VAL = ("val_freq", "save_img", "suffix", "metrics", "pbar")
_TRAIN_VAL = (*_VAL, "attention", "best", "tb_images")
_LOGGER = ("print_freq", "save_checkpoint_freq", "keep_checkpoints", "use_tb_logger", "wandb")
_WANDB = ("project", "resume_id")
_PATH = ("resume_state", "ignore_resume_networks")
_PATH_PREFIXES = ("pretrain_network_", "strict_load_", "param_key_")
_NUMBERS = ("lr", "weight_decay", "total_iter", "warmup_iter", "ema_decay", "val_freq", "print_freq",
            "save_checkpoint_freq", "loss_weight", "clip_grad_value", "clip_grad_norm", "gamma", "eta_min")  # fmt: skip
_FLAGS = (("", "find_unused_parameters"), ("logger", "use_tb_logger"), ("val", "save_img"), ("val", "pbar"))
_REQUIRED = {
    "train": ("total_iter", "optim_g"),
    "logger": ("print_freq", "save_checkpoint_freq"),
    "val": ("val_freq", "save_img"),
}
_MAX_PROBLEM = 1500  # characters: a value in the text may be of any length
_LOSS_WEIGHTS = {
    "FacialAttentionLoss": "compressed_fan",
    "FaceHeatmapLoss": "compressed_fan",
    "LightCNNFeatureLoss": "lightcnn",
}


def refuse(problems: Sequence[str]) -> None:
    """Raise if there are problems.

    Raises:
        ValueError: With one line per problem if there are several.
    """
    lines = [plain_line(text, _MAX_PROBLEM) for text in problems]
    if len(lines) == 1:
        raise ValueError(lines[0])
    if lines:
        raise ValueError(f"{len(lines)} problems in the options:\n" + "\n".join(f"  {text}" for text in lines))


def find_option_problems(options: dict[str, Any], is_train: bool, registries: dict[str, Any]) -> list[str]:
    """Say what in the options cannot work or would be ignored, one text per problem.

    Args:
        options: Of ``load_option_file``.
        is_train: For ``facesr train``; else for ``facesr test``.
        registries: BasicSR's, filled, by kind: ``dataset``, ``loss``, ``metric``, ``model``.
    """
    model = options.get("model_type")
    problems = list(_check_type(model, registries["model"], "model_type"))
    if problems or model not in MODEL_REGISTRY:
        return problems
    return find_misshapen(options) or _find_wrong_content(options, is_train, registries)


def _find_wrong_content(options: dict[str, Any], is_train: bool, registries: dict[str, Any]) -> list[str]:
    from facesr_plugin.models.option_problems import find_model_problems, gather  # BasicSR may not be here

    model = MODEL_REGISTRY.get(options["model_type"])
    return gather(
        (
            lambda: _check_top(options, is_train),
            lambda: _check_sections(options, is_train),
            lambda: _check_known(options, is_train, model),
            lambda: _check_types(options, registries),
            lambda: find_model_problems(options, model) if is_train and "train" in options else (),
            lambda: _check_numbers(options, ""),
            lambda: _check_flags(options),
        )
    )


def find_misshapen(options: dict[str, Any]) -> list[str]:
    """Name what has to be a section and is none; nothing else can be checked then."""
    tops = ("datasets", "path", "network_g", "train", "val", "logger", "dist_params")
    networks = (name for name, section in options.items() if str(name).startswith("network_") and section)
    found = {name: options[name] for name in (*tops, *networks) if name in options}
    found |= {f"datasets.{phase}": section for phase, section in _section(options, "datasets").items()}
    train = _section(options, "train").items()
    parts = ("optim_g", "optim_d", "scheduler")
    found |= {f"train.{key}": part for key, part in train if part and (key in parts or str(key).endswith("_opt"))}
    found |= {"logger.wandb": wandb} if (wandb := _section(options, "logger").get("wandb")) else {}
    metrics = _section(options, "val").get("metrics") or {}
    parts = metrics.items() if isinstance(metrics, dict) else [("", metrics)]
    found |= {f"val.metrics.{name}".rstrip("."): section for name, section in parts if section is not None}
    wrong = {where: section for where, section in found.items() if not isinstance(section, dict)}
    return [f"{where} must be a section of keys, got {section!r}" for where, section in wrong.items()]


def _check_top(options: dict[str, Any], is_train: bool) -> Iterator[str]:
    known = _TRAIN_TOP if is_train else _TEST_TOP
    networks = [key for key in options if str(key).startswith("network_")]
    yield from find_unknown_keys(options, [*known, *networks], "the option file")
    required = ["name", "num_gpu", "datasets", "path", "network_g", *(["train", "logger"] if is_train else [])]
    yield from (f"the option file must have {key!r}" for key in required if key not in options)
    name = options.get("name")
    if "name" in options and (not isinstance(name, str) or not name.strip(". ") or set(name) & set("/\\\0")):
        yield f"name must be the name of a folder, without / and \\, got {name!r}"


def _check_sections(options: dict[str, Any], is_train: bool) -> Iterator[str]:
    yield from _check_data(_section(options, "datasets"), is_train)
    if not is_train:
        if "save_img" not in _section(options, "val"):
            yield "val must have 'save_img'"
        return
    if "datasets" in options and "train" not in options["datasets"]:
        yield "datasets must have a section 'train'"
    yield from _check_kept_and_shown(options)
    for section, keys in _REQUIRED.items():
        given = _section(options, section)
        yield from (f"{section} must have {key!r}" for key in keys if section in options and key not in given)
    if not _section(options, "train").get("optim_g", True):
        yield "train.optim_g must be a section of keys, got none"


def _check_data(datasets: dict[str, Any], is_train: bool) -> Iterator[str]:
    """What BasicSR reads of every data set, and what it takes its name for."""
    for phase, section in datasets.items():
        if is_train and phase != "train" and str(phase).split("_")[0] != "val":
            yield f"datasets.{phase} must be called train, val or val_2 (and so on) in a training"
        if "name" not in section:
            yield f"datasets.{phase} must have 'name'"
        yield from _check_loader(section, phase)


def _check_loader(section: dict[str, Any], phase: str) -> Iterator[str]:
    """What BasicSR gives to torch's loader; validations and tests have no workers."""
    where, workers = f"datasets.{phase}", section.get("num_worker_per_gpu")
    if phase == "train" and not _is_count(workers, 0):
        yield f"{where}.num_worker_per_gpu must be a whole number from 0 on, got {workers!r}"
    if section.get("persistent_workers") and not (phase == "train" and workers):
        yield f"{where}.persistent_workers must be false without workers, got {section['persistent_workers']!r}"
    queue = section.get("num_prefetch_queue", 1)
    if not _is_count(queue, 1):
        yield f"{where}.num_prefetch_queue must be a whole number from 1 on, got {queue!r}"
    ratio = section.get("dataset_enlarge_ratio", 1)
    if phase == "train" and (isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 1 <= ratio < inf):
        yield f"{where}.dataset_enlarge_ratio must be 1 or more, got {ratio!r}"


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_known(options: dict[str, Any], is_train: bool, model: Any) -> Iterator[str]:
    val = _TRAIN_VAL if is_train else _VAL
    yield from find_unknown_keys(_section(options, "val"), [*val, *model.val_keys], "val")
    yield from find_unknown_keys(_section(options, "logger"), _LOGGER, "logger")
    yield from find_unknown_keys(_section(_section(options, "logger"), "wandb"), _WANDB, "logger.wandb")
    yield from find_dist_problems(_section(options, "dist_params"))
    networks = [str(key).removeprefix("network_") for key in options if str(key).startswith("network_")]
    own = [prefix + network for prefix in _PATH_PREFIXES for network in networks]
    parts = model.path_keys if is_train else ()
    yield from find_unknown_keys(_section(options, "path"), [*_PATH, *own, *parts], "path")


def _check_kept_and_shown(options: dict[str, Any]) -> Iterator[str]:
    """What validations of a training keep, and draw for TensorBoard."""
    from facesr_plugin.models.best_checkpoint import check_best  # its package needs BasicSR, which may not be here
    from facesr_plugin.models.image_log import ImageLog

    val = _section(options, "val")
    checks = {"best": lambda _: check_best(val), "attention": AttentionOptions.parse, "tb_images": ImageLog}
    for key, check in checks.items():
        if val.get(key) is None:
            continue
        try:
            check(val[key])
        except (TypeError, ValueError) as error:
            yield str(error)
        if key != "best" and not _section(options, "logger").get("use_tb_logger"):
            yield f"val.{key} needs logger.use_tb_logger: true, since its figures go to TensorBoard alone"


def _check_types(options: dict[str, Any], registries: dict[str, Any]) -> Iterator[str]:
    for phase, dataset in _section(options, "datasets").items():
        yield from _check_section_type(dataset, registries["dataset"], f"datasets.{phase}")
    for key, section in _section(options, "train").items():
        if str(key).endswith("_opt") and section:
            yield from _check_section_type(section, registries["loss"], f"train.{key}")
            yield from _check_weights(section, f"train.{key}")
    for name, metric in (_section(options, "val").get("metrics") or {}).items():
        if metric is not None:  # left out
            yield from _check_metric(metric, registries["metric"], f"val.metrics.{name}")


def _check_section_type(section: dict[str, Any], registry: Any, where: str) -> Iterator[str]:
    yield from _check_type(section.get("type"), registry, f"{where}.type")


def _check_metric(section: Any, registry: Any, where: str) -> Iterator[str]:
    """Its type, its options, and whether the library and the weights that it needs are here."""
    problems = list(_check_section_type(section, registry, where))
    yield from problems
    if not problems:
        try:
            build_metric(section)
        except (ImportError, OSError, TypeError, ValueError) as error:
            yield f"{where}: {error}"


def _check_weights(section: Any, where: str) -> Iterator[str]:
    """Weights that a loss needs and nobody can download for the user."""
    kind = section.get("type") if isinstance(section, dict) else None
    if kind in _LOSS_WEIGHTS:
        try:
            resolve_weights(_LOSS_WEIGHTS[kind], section.get("weights"))
        except (FileNotFoundError, ValueError) as error:
            yield f"{where}: {error}"


def _check_type(name: Any, registry: Any, where: str) -> Iterator[str]:
    if not isinstance(name, str) or name not in registry:
        yield f"{where} must be a registered name, got {name!r}{nearest(str(name), list(registry.keys()))}"


def _check_numbers(section: Any, where: str) -> Iterator[str]:
    """Numbers that YAML 1.1 reads as text, such as ``2e-4`` and ``5.0e3``."""
    if isinstance(section, dict):
        for key, value in section.items():
            place = f"{where}.{key}" if where else str(key)
            if key in _NUMBERS and isinstance(value, (str, bool)):
                yield (
                    f"{place} must be a number, got {value!r}. YAML needs a point and a sign in it, 2.0e-4 or 5.0e+3, "
                    "or a tag: !!float 2e-4"
                )
            yield from _check_numbers(value, place)


def _check_flags(options: dict[str, Any]) -> Iterator[str]:
    for section, key in _FLAGS:
        value = (_section(options, section) if section else options).get(key)
        if not isinstance(value, bool | None):
            yield f"{section}.{key} must be true or false, got {value!r}".lstrip(".")


def _section(options: dict[str, Any], name: str) -> dict[str, Any]:
    """A section, empty if it is absent or no mapping (which is reported elsewhere)."""
    section = options.get(name)
    return section if isinstance(section, dict) else {}
