"""Repairs of BasicSR's start: launcher arguments, the root folder."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

from facesr_plugin.compat.patch import Patch, rebind


def is_torchruns_rank() -> bool:
    """Whether torchrun has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def _options() -> Any:
    import basicsr.utils.options as options

    return options


def _local_rank_missing() -> bool:
    constants = getattr(_options().parse_options, "__code__", None)
    return constants is not None and "--local-rank" not in constants.co_consts


def _repair_local_rank() -> None:
    original = _options().parse_options

    @functools.wraps(original)
    def parse_options(*args: Any, **kwargs: Any) -> Any:
        sys.argv[1:] = [
            "--local_rank" + word.removeprefix("--local-rank") if word.startswith("--local-rank") else word
            for word in sys.argv[1:]
        ]
        return original(*args, **kwargs)

    rebind(original, parse_options)


LOCAL_RANK_ARGUMENT = Patch(
    name="local-rank-argument",
    reason="torch.distributed.launch of torch >= 2.0 passes --local-rank, BasicSR knows only --local_rank",
    needed=_local_rank_missing,
    apply=_repair_local_rank,
)


def _installed_in_site_packages() -> bool:
    import basicsr

    return _is_site_packages(Path(basicsr.__file__).parents[1])


def _is_site_packages(folder: Path) -> bool:
    return folder.name in ("site-packages", "dist-packages")


def _repair_root() -> None:
    original = _options().parse_options

    @functools.wraps(original)
    def parse_options(root_path: str, *args: Any, **kwargs: Any) -> Any:
        opt, parsed = original(str(working_root(root_path)), *args, **kwargs)
        # train_pipeline sets opt['root_path'] to its own argument after this call; the TensorBoard folder follows it
        return _RootedOptions(opt, working_root(root_path)), parsed

    rebind(original, parse_options)


def working_root(root_path: str | Path) -> Path:
    """The folder for ``experiments`` and ``results``: the given one, but the current one instead of site-packages."""
    return Path.cwd() if _is_site_packages(Path(root_path)) else Path(root_path)


class _RootedOptions(dict):
    """Options whose ``root_path`` cannot be set to a folder inside a Python installation."""

    def __init__(self, opt: dict, root: Path) -> None:
        super().__init__(opt)
        self["root_path"] = str(root)

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, str(working_root(value)) if key == "root_path" else value)


ROOT_PATH = Patch(
    name="root-path",
    reason="`python -m basicsr.train` of a pip-installed BasicSR puts experiments beside site-packages",
    needed=_installed_in_site_packages,
    apply=_repair_root,
)
