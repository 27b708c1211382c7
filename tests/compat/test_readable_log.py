"""``readable-log``: what BasicSR's loop says with it, and that other models keep BasicSR's own line."""

from __future__ import annotations

import atexit
import errno
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import basicsr.utils
import pytest

from facesr_plugin.compat import readable_log
from facesr_plugin.utils import run_report
from facesr_plugin.utils.run_report import CURRENT_RUN
from facesr_plugin.utils.stopping import RunStopped

RELEASED = basicsr.utils.MessageLogger.__base__
VARS = {"epoch": 0, "iter": 2, "lrs": [2e-4], "time": 9.0, "data_time": 1.0}


class SmallModel:
    """What BasicSR's loop and the report need of a FaceSRModel."""

    def __init__(self) -> None:
        self.optimizers = [SimpleNamespace(param_groups=[{"lr": rate}]) for rate in (2e-4, 1e-5)]
        self.device, self.card = SimpleNamespace(type="cpu"), SimpleNamespace(arch="")
        self.best_metric_results: dict[str, Any] = {}
        self.done: list[str] = []

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        self.done.append("update")
        if current_iter > 3:
            raise RunStopped(15)

    def optimize_parameters(self, current_iter: int) -> None:
        self.done.append("optimize")

    def save(self, epoch: int, current_iter: int) -> None:
        self.done.append("save")

    def validation(self, *args: Any) -> None:
        self.done.append("validation")


class Writer:
    """TensorBoard's."""

    log_dir = "tb"

    def __init__(self) -> None:
        self.scalars: dict[str, tuple[float, int]] = {}

    def add_scalar(self, tag: str, value: float, iteration: int) -> None:
        self.scalars[tag] = (value, iteration)


@pytest.fixture
def opt(tmp_path: Path) -> dict[str, Any]:
    """Options of a run of 10 iterations, as BasicSR parses them, without use_tb_logger."""
    folders = {name: str(tmp_path / name) for name in ("models", "training_states", "experiments_root")}
    return {
        "name": "run", "model_type": "SmallModel", "is_train": True, "rank": 0, "world_size": 1, "dist": False,
        "num_gpu": 0, "path": folders, "train": {"total_iter": 10}, "network_g": {"type": "SPARNet"},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 5}, "val": {"val_freq": 5},
        "datasets": {"train": {"batch_size_per_gpu": 2}, "val": {}},
    }  # fmt: skip


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallModel]:
    """The model of the current run; nothing of it is left afterwards."""
    made = SmallModel()
    monkeypatch.delattr(sys, "last_value", raising=False)
    CURRENT_RUN.start(made)
    yield made
    CURRENT_RUN.start(made)
    atexit.unregister(CURRENT_RUN._finish_script)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What BasicSR's logger is given."""
    caplog.set_level(logging.INFO, "basicsr")
    monkeypatch.setattr(logging.getLogger("basicsr"), "handlers", [caplog.handler])
    monkeypatch.setattr(logging.getLogger("basicsr"), "propagate", False)
    return caplog


def iterate(model: SmallModel, *numbers: int) -> None:
    for number in numbers:
        model.update_learning_rate(number, warmup_iter=-1)
        model.optimize_parameters(number)


def test_repair_is_named_and_in_force() -> None:
    assert readable_log.READABLE_LOG.name == "readable-log"
    assert not hasattr(RELEASED, "reports")
    assert basicsr.utils.MessageLogger.reports


def test_released_logger_needs_use_tb_logger(opt: dict[str, Any]) -> None:
    with pytest.raises(KeyError, match="use_tb_logger"):
        RELEASED(opt, 0)


def test_line_has_losses_rates_and_the_time_left(
    opt: dict[str, Any], model: SmallModel, said: pytest.LogCaptureFixture
) -> None:
    logger = basicsr.utils.MessageLogger(opt, 0, None)
    iterate(model, 1, 2)
    logger({**VARS, "l_g_pixel": 0.1234567})
    (line,) = said.messages
    assert line.startswith("epoch: 0, iter: 2/10, lr: 2.00e-04, 1.00e-05 | l_g_pixel: 0.1235 | ")
    assert line.endswith(" | eta: 0:00:00")


def test_tensorboard_gets_the_numbers_of_the_line(opt: dict[str, Any], model: SmallModel) -> None:
    writer = Writer()
    logger = basicsr.utils.MessageLogger(opt, 0, writer)
    iterate(model, 1, 2)
    logger({**VARS, "l_g_pixel": 0.5})
    assert writer.scalars.pop("losses/l_g_pixel") == (0.5, 2)
    assert set(writer.scalars) == {"run/images_per_second", "run/data_percent", "run/memory_gib"}


def test_full_disk_for_tensorboard_stops_with_one_message(
    opt: dict[str, Any], model: SmallModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Writer, "add_scalar", refuse)
    text = "the run stops, since TensorBoard cannot write below tb: No space left on device. Make room; .*--auto_resume"
    with pytest.raises(OSError, match=text):
        basicsr.utils.MessageLogger(opt, 0, Writer())({**VARS})


def test_debug_runs_write_nothing_for_tensorboard(opt: dict[str, Any], model: SmallModel) -> None:
    writer = Writer()
    logger = basicsr.utils.MessageLogger(opt | {"name": "debug_run"}, 0, writer)
    iterate(model, 1, 2)
    logger(dict(VARS))
    assert writer.scalars == {}


def test_other_ranks_say_nothing(opt: dict[str, Any], model: SmallModel, said: pytest.LogCaptureFixture) -> None:
    logger = basicsr.utils.MessageLogger(opt | {"rank": 1}, 0, None)
    iterate(model, 1, 2)
    logger(dict(VARS))
    CURRENT_RUN.finish()
    assert said.messages == []


def test_other_models_keep_basicsrs_line(
    opt: dict[str, Any], model: SmallModel, said: pytest.LogCaptureFixture
) -> None:
    opt["logger"]["use_tb_logger"] = False
    logger = basicsr.utils.MessageLogger(opt | {"model_type": "SRModel"}, 0, None)
    logger({**VARS, "l_pix": 0.5})
    assert said.messages[0].startswith("[run..][epoch:  0, iter:       2, lr:(2.000e-04,)] [eta: ")
    assert said.messages[0].endswith("l_pix: 5.0000e-01 ")
    CURRENT_RUN.finish()
    assert len(said.messages) == 1


def test_time_left_counts_the_validations_and_saves_to_come(opt: dict[str, Any], model: SmallModel) -> None:
    basicsr.utils.MessageLogger(opt, 0, None)
    report = CURRENT_RUN._report
    opt["datasets"]["val_2"] = {}
    assert report._besides(1) == {"save": 3, "validation": 2 * 3}
    opt["val"] = None
    assert report._besides(6) == {"save": 2}


def test_summary_comes_once_and_says_what_stopped_the_run(
    opt: dict[str, Any], model: SmallModel, said: pytest.LogCaptureFixture
) -> None:
    basicsr.utils.MessageLogger(opt, 0, None)
    with pytest.raises(RunStopped):
        iterate(model, 1, 2, 3, 4)
    CURRENT_RUN.finish()
    CURRENT_RUN.finish()
    (summary,) = said.messages
    assert summary.startswith("Training stopped by SIGTERM: 3 of 10 iterations")


def test_summary_names_the_error_on_its_way(
    opt: dict[str, Any], model: SmallModel, said: pytest.LogCaptureFixture
) -> None:
    basicsr.utils.MessageLogger(opt, 7, None)
    iterate(model, 1)
    try:
        raise OSError("No space left")
    except OSError:
        CURRENT_RUN.finish()
    assert said.messages[0].startswith("Training stopped by OSError: No space left: 8 of 10 iterations")


class Terminal:
    """Standard error of a terminal."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return True


def test_terminal_shows_a_bar_below_the_lines(
    opt: dict[str, Any], model: SmallModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, before = Terminal(), sys.excepthook
    monkeypatch.setattr(sys, "stderr", terminal)
    logger = logging.getLogger("basicsr")
    handler = logging.StreamHandler(terminal)
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "level", logging.INFO)
    basicsr.utils.MessageLogger(opt, 4, None)
    iterate(model, 1, 2)
    logger.info("a line")
    assert sys.excepthook is not before
    CURRENT_RUN.finish()
    assert "4/10 [" in terminal.text
    assert "\ra line\n" in terminal.text
    assert (logger.handlers, sys.excepthook) == ([handler], before)


def test_no_terminal_no_bar(opt: dict[str, Any], model: SmallModel, capsys: pytest.CaptureFixture) -> None:
    basicsr.utils.MessageLogger(opt, 0, None)
    iterate(model, 1)
    assert capsys.readouterr().err == ""


def test_clock_sees_what_the_loop_does(opt: dict[str, Any], model: SmallModel) -> None:
    basicsr.utils.MessageLogger(opt, 0, None)
    iterate(model, 1)
    model.save(0, 1)
    model.validation(None, 1, None, False)
    assert model.done == ["update", "optimize", "save", "validation"]
    assert {kind: len(taken) for kind, taken in CURRENT_RUN._report._clock._besides.items()} == {
        "save": 1,
        "validation": 1,
    }
    assert run_report.CURRENT_RUN._report._clock.iterations == 1
