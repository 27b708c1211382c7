"""Repairs of the training's loader: draws of BasicSR's data sets, runs that end too early, workers that hang.

The loader is built by a function that knows the section of the data set only; what else is needed of the options is
kept from ``parse_options``, a run's first step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from facesr_plugin.compat.patch import Patch, after_options, names_in, rebind
from facesr_plugin.utils.resume import POSITION
from facesr_plugin.utils.seeded_samples import SeededSamples


def _builder() -> Any:
    import basicsr.data

    return basicsr.data.build_dataloader


_options: dict[str, Any] = {}  # of the run that has begun last


def _repair_builder(build: Callable[..., Any]) -> None:
    """Replace BasicSR's function that builds a loader.

    Args:
        build: Called with the function so far, data set, section, and all other arguments, for the training alone.
    """
    original = _builder()

    @functools.wraps(original)
    def build_dataloader(dataset: Any, dataset_opt: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        builder = functools.partial(build, original) if dataset_opt["phase"] == "train" else original
        return builder(dataset, dataset_opt, *args, **kwargs)

    rebind(original, build_dataloader)


@functools.cache  # two repairs need it
def _remember_run() -> None:
    after_options(_remember)


def _remember(opt: dict[str, Any]) -> None:
    _options.clear()
    _options.update(opt)


def _trains_our_model() -> bool:
    from basicsr.utils.registry import MODEL_REGISTRY

    name = _options.get("model_type")
    kinds = MODEL_REGISTRY.get(name).__mro__ if name in MODEL_REGISTRY else ()
    return any(kind.__module__.startswith("facesr_plugin.") for kind in kinds)


def _seed_samples(
    build: Callable[..., Any], dataset: Any, dataset_opt: dict[str, Any], *args: Any, **kwargs: Any
) -> Any:
    """Build the loader of a foreign data set whose draws depend on the place in the training."""
    if _trains_our_model() and not type(dataset).__module__.startswith("facesr_plugin."):
        dataset = SeededSamples(dataset, dataset_opt.get("manual_seed", 0))
        if not dataset_opt.get("num_worker_per_gpu"):  # a thread would start the training's generators anew
            dataset_opt = {**dataset_opt, "prefetch_mode": None}
    return build(dataset, dataset_opt, *args, **kwargs)


def _apply_sample_draws() -> None:
    _remember_run()
    _repair_builder(_seed_samples)


SAMPLE_DRAWS = Patch(
    name="sample-draws",
    reason="what BasicSR's data sets draw depends on the worker: a resumed run of our models sees other samples",
    needed=lambda: "SeededSamples" not in names_in(_builder()),
    apply=_apply_sample_draws,
)


def find_too_few(images: int, ratio: float, ranks: int, batch: int) -> str | None:
    """Say that a data set does not fill one batch on every process, and what would be enough; None if it does.

    Args:
        images: Of the data set, one or more.
        ratio: ``dataset_enlarge_ratio``.
        ranks: Processes.
        batch: Images in the batch of one process.
    """
    if math.ceil(images * ratio / ranks) >= batch:  # as BasicSR's sampler counts
        return None
    return (
        f"datasets.train must have enough images for one batch on every process, got {images} (times "
        f"dataset_enlarge_ratio {ratio}) for {ranks} x {batch}. "
        f"Set dataset_enlarge_ratio: {math.ceil(batch * ranks / images)}, or a smaller batch_size_per_gpu."
    )


def _last_to_the_end(
    build: Callable[..., Any], dataset: Any, dataset_opt: dict[str, Any], *args: Any, **kwargs: Any
) -> Any:
    """Build the loader whose last epoch goes on until the training ends."""
    loader = build(dataset, dataset_opt, *args, **kwargs)
    sampler = loader.sampler
    if "train" not in _options or not hasattr(sampler, "num_replicas"):
        return loader
    images, ratio = len(dataset), dataset_opt.get("dataset_enlarge_ratio", 1)
    problem = find_too_few(images, ratio, sampler.num_replicas, loader.batch_size)
    if problem:
        raise ValueError(problem)
    together = dataset_opt["batch_size_per_gpu"] * sampler.num_replicas
    total_iter = int(_options["train"]["total_iter"])
    sampler.last_epoch = math.ceil(total_iter / math.ceil(images * ratio / together))  # as BasicSR counts
    POSITION.last_epoch = sampler.last_epoch
    return loader


def _apply_whole_run() -> None:
    _remember_run()
    _repair_builder(_last_to_the_end)


WHOLE_RUN = Patch(
    name="whole-run",
    reason="epochs are counted with their last, smaller batch, which the loader drops: long runs end before total_iter",
    needed=lambda: "last_epoch" not in names_in(_builder()),
    apply=_apply_whole_run,
)


def _wait_so_long(
    build: Callable[..., Any], dataset: Any, dataset_opt: dict[str, Any], *args: Any, **kwargs: Any
) -> Any:
    """Build the loader that gives up on a worker after ``worker_timeout`` seconds."""
    loader = build(dataset, dataset_opt, *args, **kwargs)
    if loader.num_workers:
        loader.timeout = dataset_opt.get("worker_timeout", 0)
    return loader


WORKER_TIMEOUT = Patch(
    name="worker-timeout",
    reason="the training waits for ever for a loader worker that hangs, there is no option for it",
    needed=lambda: "timeout" not in names_in(_builder()),
    apply=lambda: _repair_builder(_wait_so_long),
)
