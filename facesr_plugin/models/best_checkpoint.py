"""The weights with the best value of one metric: ``val.best`` of a training keeps them as ``net_g_best.pth``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facesr_plugin.checkpoints import read_checkpoint

_LABEL = "best"


def check_best(val: Mapping[str, Any]) -> None:
    """Check ``val.best``.

    Args:
        val: Section of the option file, with it.

    Raises:
        ValueError: If it is no metric of ``val.metrics``.
    """
    known = [name for name, section in (val.get("metrics") or {}).items() if section]
    if val["best"] not in known:
        raise ValueError(
            f"val.best must name one of val.metrics ({', '.join(known) or 'there are none'}), got {val['best']!r}"
        )


class BestCheckpoint:
    """Writes the weights whenever the metric is as good as or better than the best so far, as BasicSR counts.

    The file says which value is to be beaten, also to a run that continues: its record ``facesr.best`` has ``metric``,
    ``dataset``, ``value`` and ``iter``. Of several data sets the first one counts.

    Args:
        val: Section of the option file, with ``best``.

    Raises:
        ValueError: See ``check_best``.
    """

    def __init__(self, val: Mapping[str, Any]) -> None:
        check_best(val)
        self._metric = val["best"]
        self._dataset: str | None = None
        self._record: dict[str, Any] | None = None

    def resume(self, folder: str | Path) -> None:
        """Take up the file in a folder, if there is one.

        Raises:
            ValueError: If it is damaged.
        """
        path = Path(folder) / f"net_g_{_LABEL}.pth"
        self._record = read_checkpoint(path).get("facesr", {}).get("best") if path.is_file() else None

    def update(self, model: Any, dataset: str, value: float, better: str, iteration: int) -> None:
        """Write the weights if the value is the best.

        Args:
            model: A FaceSRModel.
            dataset: Name of the data set that was measured.
            value: Of the metric.
            better: ``higher`` or ``lower``.
            iteration: Of the training.
        """
        self._dataset = self._dataset or dataset
        if dataset != self._dataset or not self._beats(model, value, better):
            return
        self._record = {"metric": self._metric, "dataset": dataset, "value": value, "iter": iteration}
        average = {"params_ema": model.net_g_ema} if hasattr(model, "net_g_ema") else {}
        nets = {"params": model.net_g, **average}
        model.save_network(list(nets.values()), "net_g", _LABEL, list(nets), best=self._record)

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return self._metric

    def _beats(self, model: Any, value: float, better: str) -> bool:
        best = self._record
        same = best is not None and (best["metric"], best["dataset"]) == (self._metric, self._dataset)
        if not same or not model.is_comparable(best["iter"]):
            return not math.isnan(value)
        return value >= best["value"] if better == "higher" else value <= best["value"]
