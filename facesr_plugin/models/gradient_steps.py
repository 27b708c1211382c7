"""How gradients become steps: parts of a batch, clipping, the generator's step and its moving average."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from facesr_plugin.archs.arch_util import refine_spectral_norm
from facesr_plugin.models.building import find_wrong_int
from facesr_plugin.models.finite import FiniteGuard, Iteration, gradient_norm
from facesr_plugin.models.precision import AMP, Precision
from facesr_plugin.models.training_state import save_torch

_CLIPS = ("clip_grad_value", "clip_grad_norm")
_LIMIT = 10


class GradientSteps:
    """The part of ``FaceSRModel`` that computes gradients and takes steps with them."""

    @property
    def steps_between(self) -> bool:
        """Whether gradients are computed after a step of the same iteration, which they may then undo."""
        return False

    def init_steps(self, train_opt: dict[str, Any]) -> None:
        """Keep the options of gradients and steps, watch the numbers of all networks, let half precision give float32.

        Raises:
            ValueError: If PyTorch has not the precision ``amp`` on the device.
        """
        self.accumulate = train_opt.get("accumulate", 1)
        self.clip_grad_value, self.clip_grad_norm = (train_opt.get(name) or 0 for name in _CLIPS)
        self.precision = Precision(train_opt.get("amp"), self.device)
        limit = train_opt.get("nonfinite_limit", _LIMIT)
        self.guard = FiniteGuard(limit, self.optimizers, self.device, self._write_fault, self.remedy)
        self.guard.undoes_steps = self.steps_between
        in_losses = [child for loss in self.criteria.values() for child in loss.children()]
        networks = [net for net in (*self._networks().values(), *in_losses) if next(net.parameters(), None) is not None]
        self.precision.widen_results(dict.fromkeys(networks))

    def _networks(self) -> dict[str, nn.Module]:
        """What a training changes, bare, by name."""
        names = (name for name in ("net_g", "net_g_ema", "net_d") if hasattr(self, name))
        return {name: self.get_bare_model(getattr(self, name)) for name in names}

    def guarded_iteration(self, number: int) -> dict[str, Tensor]:
        """Run ``train_on_batch``; if a loss or gradient in it is no number, everything is as before. See ``guard``."""
        self.guard.begin(self._changing())
        losses = self.train_on_batch()
        self.guard.end(Iteration(number, self.fed, losses), self.precision.at_floor())
        return losses

    def _changing(self) -> Iterator[Tensor]:
        """Tensors that an iteration changes, but for the parameters of optimisers."""
        for name, net in self._networks().items():
            yield from net.buffers()
            if name == "net_g_ema":
                yield from net.parameters()

    def _write_fault(self, iteration: Iteration) -> Path:
        """Write what repeats an iteration: its batch, and networks and optimisers as they were before it."""
        rank = self.opt["rank"]
        path = Path(self.opt["path"]["models"]).parent / "faults" / f"nonfinite_{iteration.number}_rank{rank}.pth"
        states = {name: net.state_dict(keep_vars=True) for name, net in self._networks().items()}
        content = {
            "iter": iteration.number,
            "rank": rank,
            "manual_seed": self.opt["manual_seed"],
            "losses": {name: float(value) for name, value in iteration.losses.items()},
            "batch": dict(iteration.batch),
            "networks": {
                name: {key: self.guard.before(value).detach().cpu() for key, value in state.items()}
                for name, state in states.items()
            },
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.precision.state(),
        }
        save_torch(path, content)
        return path

    @property
    def skipped_steps(self) -> int:
        """How many iterations of the run were left out, since a loss or gradient was no number."""
        return self.guard.total

    def steps_state(self) -> dict[str, Any]:
        """What a resumed run needs to know of the steps: plain types."""
        counts = {"skipped": self.guard.in_a_row, "skipped_in_all": self.guard.total}
        return {"scaler": self.precision.state(), **counts}

    def load_steps_state(self, state: dict[str, Any]) -> None:
        """Take back what ``steps_state`` gave, as far as the state has it."""
        self.precision.load_state(state.get("scaler", {}))
        self.guard.in_a_row = state.get("skipped", 0)
        self.guard.total = state.get("skipped_in_all", self.guard.in_a_row)  # states of older versions have none

    def generator_gradients(self) -> dict[str, Tensor]:
        """Compute the generator's gradients; afterwards ``self.output`` is the whole result, without its graph."""
        outputs = []

        def losses() -> dict[str, Tensor]:
            self.output = self.predict(self.net_g)
            outputs.append(self.output.detach())
            return self.generator_losses()

        self.optimizer_g.zero_grad(set_to_none=True)
        logged = self.backward(self.net_g, losses, "l_g_", self.batch_fields)
        self.output = torch.cat(outputs)
        self.judge(self.optimizer_g, self.net_g)
        return logged

    def update_generator(self) -> None:
        """Step the generator, then its moving average."""
        self.step(self.optimizer_g)
        if self.ema_decay > 0:
            self.model_ema(self.ema_decay)

    def judge(self, optimizer: torch.optim.Optimizer, net: nn.Module) -> None:
        """Finish the gradients that ``backward`` left in ``net``; the generator's are cut, if asked for.

        Raises:
            ValueError: If too many iterations in a row had losses or gradients that are no numbers.
        """
        self.guard.look()
        self.precision.unscale(optimizer)
        self.guard.judge(self._limit_gradients(net))

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Step with gradients that were judged: the only place of optimisers' steps."""
        self.guard.step(optimizer)

    def _limit_gradients(self, net: nn.Module) -> Tensor:
        """Cut the generator's gradients as the options say; return the norm of before."""
        learning = [parameter for parameter in net.parameters() if parameter.grad is not None]
        if net is self.net_g and self.clip_grad_norm:
            return nn.utils.clip_grad_norm_(learning, self.clip_grad_norm)
        norm = gradient_norm([parameter.grad for parameter in learning])
        if net is self.net_g and self.clip_grad_value:
            nn.utils.clip_grad_value_(learning, self.clip_grad_value)
        return norm

    def backward(
        self, net: nn.Module, losses: Callable[[], dict[str, Tensor]], prefix: str, fields: Sequence[str]
    ) -> dict[str, Tensor]:
        """Add the gradients of the mean loss over the batch to ``net``, in ``train.accumulate`` parts.

        Args:
            net: Whose gradients are wanted; ranks exchange them in the last part only.
            losses: Gives the terms of the part of the batch that is in ``fields`` when it is called.
            prefix: Of the terms' names in the log.
            fields: Attributes that hold the batch.

        Returns:
            The terms' means without graph, by prefixed name.

        Raises:
            ValueError: If the batch cannot be divided equally.
        """
        totals: dict[str, Tensor] = OrderedDict()
        for part in self._parts(fields):
            waits = isinstance(net, DistributedDataParallel) and part < self.accumulate
            with net.no_sync() if waits else nullcontext():
                with self.precision.autocast():
                    terms = losses()
                self.precision.scale(self.guard.spoil(sum(terms.values()) / self.accumulate)).backward()
            for name, value in terms.items():
                totals[prefix + name] = totals.get(prefix + name, 0) + value.detach() / self.accumulate
        return totals

    def _parts(self, fields: Sequence[str]) -> Iterator[int]:
        """Put one part of the batch after the other into ``fields``, then the whole one again; count from 1."""
        whole = {name: value for name in fields if (value := getattr(self, name)) is not None}
        size = len(next(iter(whole.values())))
        if size % self.accumulate:
            raise ValueError(
                f"batch_size_per_gpu must be a multiple of train.accumulate ({self.accumulate}), got {size}"
            )
        chunks = {name: value.chunk(self.accumulate) for name, value in whole.items()}
        for part in range(self.accumulate):
            vars(self).update({name: values[part] for name, values in chunks.items()})
            yield part + 1
        vars(self).update(whole)

    @torch.no_grad()
    def model_ema(self, decay: float = 0.999) -> None:
        """Move the average: ``ema := decay * ema + (1 - decay) * net_g`` for parameters and floating-point buffers.

        Integer buffers are copied, and the averaged vectors of spectral norm refined once, so that they stay those of
        the averaged weights. BasicSR's own version leaves buffers out: BatchNorm statistics never move, and with
        spectral norm the output explodes.
        """
        source = self.get_bare_model(self.net_g).state_dict()
        target = self.net_g_ema.state_dict()
        floating = [key for key, value in target.items() if value.is_floating_point()]
        torch._foreach_lerp_([target[key] for key in floating], [source[key] for key in floating], 1 - decay)
        for key in target.keys() - set(floating):
            target[key].copy_(source[key])
        refine_spectral_norm(self.net_g_ema)


def find_step_problems(options: Mapping[str, Any]) -> Iterator[str]:
    """Say which options of gradients and steps cannot work."""
    train = options["train"]
    yield from find_wrong_int("train.accumulate", train.get("accumulate", 1), least=1)
    yield from find_wrong_int("train.nonfinite_limit", train.get("nonfinite_limit", _LIMIT), least=0)
    clips = {name: train.get(name) or 0 for name in _CLIPS}
    for name, value in clips.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            yield f"train.{name} must be 0 (off) or more, got {value!r}"
    if all(clips.values()):
        yield f"train.clip_grad_norm must be 0 beside clip_grad_value, got {clips['clip_grad_norm']}. Choose one."
    if train.get("amp") not in (None, *AMP):
        yield f"train.amp must be {' or '.join(AMP)}, or ~ for float32, got {train['amp']!r}"
