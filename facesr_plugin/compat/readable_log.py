"""``readable-log``: what BasicSR logs of a training does not wait for the GPU, and says little to a person.

``MessageLogger`` is made when everything is built and resumed. For a model of this package its line is another, and
the run ends with a summary; other models keep BasicSR's.
"""

from __future__ import annotations

from typing import Any

from facesr_plugin.compat.patch import Patch, at_end_of_runs, rebind
from facesr_plugin.utils.run_report import CURRENT_RUN


def _logger() -> Any:
    from basicsr.utils.logger import MessageLogger

    return MessageLogger


def _apply() -> None:
    rebind(_logger(), _extend(_logger()))
    at_end_of_runs(CURRENT_RUN.finish)


def _extend(original: type) -> type:
    class MessageLogger(original):  # BasicSR's name: other programs look for it
        reports = True

        def __init__(self, opt: dict, start_iter: int = 1, tb_logger: Any = None) -> None:
            self._report = CURRENT_RUN.report(opt, start_iter, tb_logger)
            if self._report is None:
                super().__init__(opt, start_iter, tb_logger)

        def __call__(self, log_vars: dict[str, Any]) -> None:
            say = super().__call__ if self._report is None else self._report
            say(log_vars)

    return MessageLogger


READABLE_LOG = Patch(
    name="readable-log",
    reason="the line of the log has no images per second, memory and right time left, and nothing says what was made",
    needed=lambda: not hasattr(_logger(), "reports"),
    apply=_apply,
)
