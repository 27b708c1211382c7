"""The last words of a training run: how it ended, where everything is, and the commands that come next."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from facesr_plugin.utils.option_file import load_option_file, shipped_options
from facesr_plugin.utils.run_log import format_duration, format_number

FAULTS = "faults"  # folder of an experiment for what was recorded of broken iterations


class Ending(NamedTuple):
    """How a run ended.

    Attributes:
        iteration: The last one that was done.
        total: That were to be done.
        seconds: This process took.
        reason: What ended it before the last iteration, as far as known.
    """

    iteration: int
    total: int
    seconds: float
    reason: str = ""

    def text(self) -> str:
        """Say it in one line."""
        place = f"{self.iteration:,} of {self.total:,} iterations, {format_duration(self.seconds)} in this process"
        if self.reason:
            return f"Training stopped by {self.reason.removesuffix('.')}: {place}"
        return f"Training {'finished' if self.iteration >= self.total else 'stopped'}: {place}"


def summarise(opt: Mapping[str, Any], model: Any, ending: Ending, tb_folder: str | None) -> str:
    """Write the summary.

    Args:
        opt: BasicSR's options of the training.
        model: A FaceSRModel: its best values and what it skipped.
        ending: Of the run.
        tb_folder: Of TensorBoard, if it is used.

    Returns:
        Several lines.
    """
    rows = {
        "networks": _files(opt["path"]["models"], "net_*.pth"),
        "states": _files(opt["path"]["training_states"], "*.state"),
        "best": "; ".join(_best(model)),
        "log": ", ".join(_log_files()),
        "TensorBoard": f"tensorboard --logdir {shlex.quote(tb_folder)}" if tb_folder else "",
        "faults": _files(Path(opt["path"]["experiments_root"]) / FAULTS, "*"),
        "skipped": ", ".join(f"{count:,} {name}" for name, count in skipped(model).items() if count),
        "test": how_to_test(opt, model.card.arch),
        "continue": how_to_continue(ending.iteration >= ending.total, sys.orig_argv, opt["dist"]),
    }
    if not rows["states"]:
        rows["continue"] = "no state was saved: the same command starts anew"
    width = max(len(name) for name in rows)
    return "\n".join([ending.text(), *(f"  {name:{width}}  {text}" for name, text in rows.items() if text)])


def skipped(model: Any) -> dict[str, int]:
    """Return how many images and steps a model has left out because they were broken, by name."""
    return {"images": int(getattr(model, "skipped_images", 0)), "steps": int(getattr(model, "skipped_steps", 0))}


def _files(folder: str | os.PathLike, pattern: str) -> str:
    """The folder, and its newest file that fits the pattern; nothing if there is none."""
    newest = _newest(folder, pattern)
    return "" if newest is None else f"{newest.parent} (newest: {newest.name})"


def _best(model: Any) -> Iterator[str]:
    for dataset, metrics in model.best_metric_results.items():
        known = {name: entry for name, entry in metrics.items() if entry["iter"] >= 0}
        values = (f"{name} {format_number(entry['val'])} at {entry['iter']:,}" for name, entry in known.items())
        if known:
            yield f"{dataset}: {', '.join(values)}"


def _log_files() -> list[str]:
    handlers = logging.getLogger("basicsr").handlers
    return [handler.baseFilename for handler in handlers if isinstance(handler, logging.FileHandler)]


def how_to_test(opt: Mapping[str, Any], arch: str) -> str:
    """Return the command that shows what the best or else the newest weights can do.

    Args:
        opt: BasicSR's options of the training.
        arch: Network of the run's system that restores faces.

    Returns:
        ``facesr test`` on the run's own validation data, by a shipped option file of the same network; without one
        ``facesr infer``; nothing if there are no weights, or they restore no faces.
    """
    folder = Path(opt["path"]["models"])
    weights = _newest(folder, "net_g_best.pth") or _newest(folder, "net_g_*.pth")
    if weights is None:
        return ""
    found = min(_tests_of(opt), key=lambda entry: entry[1]["model_type"] != opt["model_type"], default=None)
    if found is None:
        command = f"facesr infer --weights {shlex.quote(str(weights))} --out restored FACES"
        return command if opt["network_g"]["type"] == arch else ""
    path, test = found
    changes = {"path.pretrain_network_g": weights}
    own = next((section for phase, section in opt["datasets"].items() if phase.split("_")[0] == "val"), {})
    for key in ("dataroot_gt", "landmarks"):
        if own.get(key) and key in test["datasets"]["test_1"]:
            changes[f"datasets.test_1.{key}"] = own[key]
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    return shlex.join(["facesr", "test", "-opt", _short(path), *words])


def _tests_of(opt: Mapping[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Shipped option files of tests with the network of a run."""
    network = opt["network_g"]
    for name, path in shipped_options().items():
        test = load_option_file(path)
        if name.startswith("test_") and all(network.get(key) == value for key, value in test["network_g"].items()):
            yield path, test


def how_to_continue(finished: bool, command: Sequence[str], distributed: bool) -> str:
    """Return the command that continues a run.

    Args:
        finished: Whether all its iterations are done.
        command: Words that started this process: ``sys.orig_argv``.
        distributed: Whether a launcher started it.
    """
    advice = "raise train.total_iter, then " if finished else ""
    if distributed:
        return f"{advice}the same command of the launcher, with --auto_resume"
    words = list(command)
    if len(words) > 1 and Path(words[1]).name == "facesr":
        words = ["facesr", *words[2:]]
    if not {"--auto_resume", "--auto-resume"} & set(words):
        words.append("--auto_resume")
    return advice + shlex.join(words)


def _newest(folder: str | os.PathLike, pattern: str) -> Path | None:
    files = Path(folder).glob(pattern)
    return max(files, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)


def _short(path: Path) -> str:
    """The path from the current folder if it is below it, else the whole."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
