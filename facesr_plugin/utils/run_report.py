"""What a training run tells its user: a line per print interval, a progress bar, TensorBoard, a summary at the end.

The model that trains in this process says so by ``CURRENT_RUN.start``; the patch ``readable-log`` (compat) makes a
``RunReport`` out of BasicSR's ``MessageLogger``.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import sys
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from facesr_plugin.utils.run_log import Line, RunClock, images_per_iteration, peak_memory, to_come
from facesr_plugin.utils.run_summary import Ending, skipped, summarise

_LOG = "basicsr"


class RunReport:
    """Says how a run goes, on rank 0.

    Args:
        opt: BasicSR's options of the training.
        start_iter: Iterations that an earlier run has done.
        tb_logger: TensorBoard's writer, or None.
        model: A FaceSRModel, built and resumed; from now on its steps, saves and validations are measured.
    """

    def __init__(self, opt: Mapping[str, Any], start_iter: int, tb_logger: Any, model: Any) -> None:
        self._opt, self._model, self._start = opt, model, start_iter
        self._tb_logger = None if "debug" in opt["name"] else tb_logger
        self._total = int(opt["train"]["total_iter"])
        self._clock = RunClock()
        self._stop: SystemExit | None = None
        self._watch(model)
        self._terminal = contextlib.ExitStack()
        if self.leads:
            self._open_bar()

    @property
    def leads(self) -> bool:
        """Whether this rank speaks for all."""
        return self._opt["rank"] == 0

    def __call__(self, log_vars: dict[str, Any]) -> None:
        """Log one line.

        Args:
            log_vars: BasicSR's ``epoch``, ``iter``, ``lrs`` and times, and what the model logs.

        Raises:
            OSError: If TensorBoard cannot write (a full disk).
        """
        if self.leads:
            line = self._make_line(log_vars)
            logging.getLogger(_LOG).info(line.text())
            if self._tb_logger is not None:
                self._log_scalars(line)

    def _log_scalars(self, line: Line) -> None:
        try:
            for tag, value in line.scalars().items():
                self._tb_logger.add_scalar(tag, value, line.iteration)
        except OSError as error:
            raise OSError(
                f"the run stops, since TensorBoard cannot write below {self._tb_logger.log_dir}: {error.strerror}. "
                "Make room; the same command with --auto_resume goes on from the last checkpoint."
            ) from None

    def finish(self, error: BaseException | None) -> None:
        """Close the bar and log the summary.

        Args:
            error: What ended the run before its last iteration, if it is known.
        """
        self._terminal.close()
        clock, reason = self._clock, str(self._stop or "")
        if error is not None and error is not self._stop:
            reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        ending = Ending(self._start + clock.iterations, self._total, clock.elapsed, reason)
        folder = getattr(self._tb_logger, "log_dir", None)
        logging.getLogger(_LOG).info(summarise(self._opt, self._model, ending, folder))

    def _watch(self, model: Any) -> None:
        """Measure what BasicSR's loop does with the model, whatever a system has made of it."""
        clock, advance, optimise = self._clock, model.update_learning_rate, model.optimize_parameters

        def update_learning_rate(*args: Any, **kwargs: Any) -> None:
            clock.begin()
            try:
                advance(*args, **kwargs)
            except SystemExit as stop:  # no traceback will tell of it
                self._stop = stop
                raise

        def optimize_parameters(*args: Any, **kwargs: Any) -> None:
            optimise(*args, **kwargs)
            clock.end()

        model.update_learning_rate, model.optimize_parameters = update_learning_rate, optimize_parameters
        for kind in ("save", "validation"):
            setattr(model, kind, _measured(getattr(model, kind), clock, kind))

    def _make_line(self, log_vars: dict[str, Any]) -> Line:
        clock, iteration = self._clock, log_vars["iter"]
        speed = clock.read()
        known = ("epoch", "iter", "lrs", "time", "data_time")
        return Line(
            epoch=log_vars["epoch"],
            iteration=iteration,
            total=self._total,
            rates=self._rates(log_vars["lrs"]),
            losses={name: value for name, value in log_vars.items() if name not in known},
            speed=speed,
            images=images_per_iteration(self._opt),
            memory=peak_memory(self._model.device.type == "cuda"),
            left=clock.seconds_left(self._total - iteration, self._besides(iteration)),
            skipped=skipped(self._model),
        )

    def _rates(self, first: list[float]) -> list[float]:
        """Learning rates of the generator's groups, and those of other optimisers where they differ."""
        rates = [group["lr"] for optimizer in self._model.optimizers for group in optimizer.param_groups]
        return list(dict.fromkeys([*first, *rates]))

    def _besides(self, iteration: int) -> dict[str, int]:
        """How often will be saved and validated from this iteration on; BasicSR does both once more at the end."""
        count = {"save": 1 + to_come(iteration, self._total, self._opt["logger"]["save_checkpoint_freq"])}
        if self._opt.get("val") is not None:
            sets = sum(phase.split("_")[0] == "val" for phase in self._opt["datasets"])
            count["validation"] = sets * (1 + to_come(iteration, self._total, self._opt["val"]["val_freq"]))
        return count

    def _open_bar(self) -> None:
        """Show a progress bar in a terminal; what is logged there goes above it."""
        bar = tqdm(total=self._total, initial=self._start, unit="iter", dynamic_ncols=True, disable=None)
        if bar.disable:
            return
        self._terminal.enter_context(bar)
        self._terminal.enter_context(logging_redirect_tqdm([logging.getLogger(_LOG)]))
        self._terminal.callback(setattr, sys, "excepthook", sys.excepthook)
        sys.excepthook = self._show_error
        self._clock.on_iteration = bar.update

    def _show_error(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Close the bar, so that the traceback has lines of its own."""
        self._terminal.close()
        sys.excepthook(kind, error, trace)


def _measured(work: Callable[..., None], clock: RunClock, kind: str) -> Callable[..., None]:
    @functools.wraps(work)
    def run(*args: Any, **kwargs: Any) -> None:
        with clock.aside(kind):
            work(*args, **kwargs)

    return run


class CurrentRun:
    """The training of this process, if there is one."""

    def __init__(self) -> None:
        self._model: weakref.ref | None = None
        self._report: RunReport | None = None

    def start(self, model: Any) -> None:
        """A model is about to be trained."""
        self._model, self._report = weakref.ref(model), None

    def report(self, opt: Mapping[str, Any], start_iter: int, tb_logger: Any) -> RunReport | None:
        """Make the run's report; None if the model is not of this package."""
        model = self._model() if self._model else None
        if model is None or not opt["is_train"] or opt["model_type"] != type(model).__name__:
            return None
        self._report = RunReport(opt, start_iter, tb_logger, model)
        atexit.register(self._finish_script)
        return self._report

    def finish(self, error: BaseException | None = None) -> None:
        """The run has ended.

        Args:
            error: What ended it; that which is on its way by default.
        """
        report, self._report = self._report, None
        atexit.unregister(self._finish_script)
        if report is not None and report.leads:
            report.finish(error or sys.exc_info()[1])

    def _finish_script(self) -> None:
        """The script has ended, with the error whose traceback was printed last."""
        self.finish(getattr(sys, "last_value", None))


CURRENT_RUN = CurrentRun()
