"""Learning rates that a resumed run takes from its option file, where that has changed since the state was written.

BasicSR takes rates and schedules from the state without a word, so a lower ``lr`` after an explosion changed nothing.
What the file has not changed stays as the state has it, bit for bit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

_NAMES = ("optim_g", "optim_d")
_SETTINGS = ("betas", "weight_decay", "eps", "momentum")
_SCHEDULE = ("milestones", "gamma", "restarts", "restart_weights", "periods", "eta_min")
_DERIVED = ("cumulative_period",)


class OptionRates:
    """What the option file says, to be made before a state is loaded.

    Args:
        optimizers: Of a model, new.
        schedulers: One for each of them, or none.
        section: ``train.scheduler`` without ``type``.
    """

    def __init__(self, optimizers: Sequence[Optimizer], schedulers: Sequence[Any], section: Mapping | None) -> None:
        self._optimizers, self._schedulers, self._section = optimizers, schedulers, dict(section or {})
        self._groups = [[_settings_of(group) for group in optimizer.param_groups] for optimizer in optimizers]
        self._schedules = [_schedule_of(scheduler) for scheduler in schedulers]

    def apply(self) -> list[str]:
        """Take to what the file says now; return what was changed: options with their new and old values.

        The rate becomes that which the file's schedule has at this iteration, counted from the first, without warm-up.
        """
        schedules, groups = list(self._change_schedules()), list(self._change_groups())
        if schedules or self._have_other_rates():
            for number, optimizer in enumerate(self._optimizers):
                self._set_rates(number, optimizer)
        return list(dict.fromkeys((*schedules, *groups)))

    def _have_other_rates(self) -> bool:
        found = [_settings_of(group)["lr"] for optimizer in self._optimizers for group in optimizer.param_groups]
        return found != [wanted["lr"] for groups in self._groups for wanted in groups]

    def _change_schedules(self) -> Iterator[str]:
        for scheduler, wanted in zip(self._schedulers, self._schedules, strict=True):
            found = _schedule_of(scheduler)
            for name in wanted:
                if _plain(wanted[name]) != _plain(found[name]):
                    setattr(scheduler, name, wanted[name])
                    if name in _SCHEDULE:
                        yield f"train.scheduler.{name} {_plain(wanted[name])} (it was {_plain(found[name])})"

    def _change_groups(self) -> Iterator[str]:
        for name, optimizer, groups in zip(_NAMES, self._optimizers, self._groups, strict=False):
            for group, wanted in zip(optimizer.param_groups, groups, strict=True):
                found = _settings_of(group)
                for key, value in wanted.items():
                    if _plain(found.get(key)) != _plain(value):
                        group.update({key: value} if key in _SETTINGS else {})
                        yield f"train.{name}.{key} {_plain(value)} (it was {_plain(found.get(key))})"

    def _set_rates(self, number: int, optimizer: Optimizer) -> None:
        rates = bases = [wanted["lr"] for wanted in self._groups[number]]
        if self._schedulers:
            scheduler = self._schedulers[number]
            rates = self._rates_at(type(scheduler), bases, scheduler.last_epoch)
            scheduler.base_lrs, scheduler._last_lr = list(bases), list(rates)
        for group, base, rate in zip(optimizer.param_groups, bases, rates, strict=True):
            group.update(lr=rate, **({"initial_lr": base} if "initial_lr" in group else {}))

    def _rates_at(self, kind: type, bases: Sequence[float], steps: int) -> list[float]:
        """Rates after so many steps: BasicSR's schedules derive each from the one before."""
        optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": base} for base in bases], lr=bases[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch misses the steps of the optimiser
            scheduler = kind(optimizer, **self._section)
            for _ in range(steps):
                scheduler.step()
        return [group["lr"] for group in optimizer.param_groups]


def _settings_of(group: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: group[name] for name in _SETTINGS if name in group}
    return {"lr": group.get("initial_lr", group["lr"]), **known}


def _schedule_of(scheduler: Any) -> dict[str, Any]:
    return {name: getattr(scheduler, name) for name in (*_SCHEDULE, *_DERIVED) if hasattr(scheduler, name)}


def _plain(value: Any) -> Any:
    """A value to compare and to show; a state has other containers than an option file."""
    if isinstance(value, Mapping):  # milestones with how often each is listed
        return sorted(key for key, number in value.items() for _ in range(number))
    return list(value) if isinstance(value, tuple | list) else value
