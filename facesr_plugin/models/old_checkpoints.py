"""The last checkpoints of a run are enough: ``logger.keep_checkpoints`` of a training removes older ones."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from facesr_plugin.compat.resume import find_states
from facesr_plugin.utils.files import sync_folder


def find_keep_problems(options: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong with ``logger.keep_checkpoints`` of a training."""
    keep = (options.get("logger") or {}).get("keep_checkpoints")
    if keep is not None and (not isinstance(keep, int) or isinstance(keep, bool) or keep < 1):
        yield f"logger.keep_checkpoints must be a whole number from 1 on, or ~ to keep all, got {keep!r}"


def remove_old_checkpoints(
    models: str | Path, states: str | Path, labels: Collection[str], *, keep: int, newest: int
) -> None:
    """Remove the states before the last ones, and the networks of their iterations and of those before.

    States go first and for good, so that a kill in between leaves no state without its networks; what it leaves is
    removed the next time. Files of other names (``net_g_best.pth``, ``net_g_latest.pth``) and of iterations beyond
    ``newest`` stay.

    Args:
        models: Folder of the networks ``<label>_<iteration>.pth``.
        states: Folder of the states ``<iteration>.state``.
        labels: Of the run's networks.
        keep: How many states are kept, at least 1.
        newest: Iteration whose state is complete and on the disk.

    Raises:
        OSError: If a file cannot be removed.
    """
    iterations = [iteration for iteration in find_states(Path(states)) if iteration <= newest]
    if len(iterations) < keep:
        return
    names = "|".join(re.escape(label) for label in labels)
    for folder, pattern in ((states, r"([0-9]+)\.state"), (models, rf"(?:{names})_([0-9]+)\.pth")):
        for path in Path(folder).iterdir():
            found = re.fullmatch(pattern, path.name)
            if found and int(found[1]) < iterations[-keep]:
                path.unlink(missing_ok=True)
        sync_folder(Path(folder))
