"""Every repair of BasicSR and its surroundings: named, listed, testable and switchable one by one.

A repair is applied only where its defect is present. ``FACESR_COMPAT=off`` drops all,
``FACESR_COMPAT=-name,-name`` drops those named; ``facesr doctor`` lists the state of each.
"""

from __future__ import annotations

import logging

from _facesr_autoload import compat_enabled
from facesr_plugin.compat import (
    cuda_prefetch,
    dead_worker,
    jpg_quality,
    launch,
    lmdb_reopen,
    lmdb_writer,
    loader,
    option_list,
    prefetch,
    process_group,
    readable_log,
    resume,
    run_lock,
    safe_options,
    stop_signals,
    torchvision_alias,
    train_loader,
)
from facesr_plugin.compat.patch import Patch

PATCHES: tuple[Patch, ...] = (
    torchvision_alias.FUNCTIONAL_TENSOR,
    process_group.DIST_WITHOUT_GPU,
    process_group.SLURM_WITHOUT_GPU,
    process_group.RANK_ERRORS,
    launch.LOCAL_RANK_ARGUMENT,
    launch.ROOT_PATH,
    resume.RESUME_WITHOUT_GPU,
    loader.SAMPLER_POSITION,
    loader.WORKER_INIT,
    train_loader.SAMPLE_DRAWS,
    train_loader.WHOLE_RUN,
    train_loader.WORKER_TIMEOUT,
    prefetch.PREFETCH_ERROR,
    cuda_prefetch.CUDA_PREFETCH,
    dead_worker.DEAD_WORKER,
    lmdb_reopen.LMDB_REOPEN,
    lmdb_writer.LMDB_WRITER,
    jpg_quality.JPG_QUALITY,
    run_lock.RUN_LOCK,
    stop_signals.STOP_SIGNALS,
    readable_log.READABLE_LOG,
    option_list.OPTION_LIST,
    safe_options.SAFE_OPTIONS,
)

logger = logging.getLogger("basicsr.facesr")

_state: dict[str, str] = {}


def apply() -> dict[str, str]:
    """Apply every repair whose defect is present; BasicSR must be imported. Idempotent.

    Returns:
        State by name: ``applied``, ``not needed``, ``off (FACESR_COMPAT)``, or ``failed: ...`` with a warning in the
        log where a BasicSR of another version lacks what a repair takes hold of; the others are applied all the same.
    """
    for patch in PATCHES:
        if patch.name not in _state:
            _state[patch.name] = _apply_one(patch)
    return dict(_state)


def _apply_one(patch: Patch) -> str:
    if not compat_enabled(patch.name):
        return "off (FACESR_COMPAT)"
    try:
        if not patch.needed():
            return "not needed"
        patch.apply()
    except (AttributeError, ImportError) as error:
        logger.warning(
            "repair %s does not fit this BasicSR: %s. Report it, or set FACESR_COMPAT=-%s",
            patch.name,
            error,
            patch.name,
        )
        return f"failed: {error}"
    return "applied"
