"""``run-lock``: a second run of the same name renames the folder of the first while that writes into it.

The lock is taken in ``parse_options``, a run's first step, so that a run that continues takes it too.
"""

from __future__ import annotations

from typing import Any

from facesr_plugin.compat.patch import Patch, after_options, at_end_of_runs, names_in
from facesr_plugin.utils.run_lock import release_run_locks, take_run_lock


def _renames_unasked() -> bool:
    from basicsr.utils import make_exp_dirs

    return "mkdir_and_rename" in names_in(getattr(make_exp_dirs, "__wrapped__", make_exp_dirs))


def _take(opt: dict[str, Any]) -> None:
    if opt["rank"] == 0:
        take_run_lock(opt["path"]["experiments_root" if opt["is_train"] else "results_root"])


def _apply() -> None:
    after_options(_take)
    at_end_of_runs(release_run_locks)


RUN_LOCK = Patch(
    name="run-lock",
    reason="a second run of the same name renames the folder of the first while that writes into it",
    needed=_renames_unasked,
    apply=_apply,
)
