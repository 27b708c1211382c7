"""How gradients become steps: parts of a batch, clipping, the generator's step and its moving average."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from facesr_plugin.archs.arch_util import check_int, refine_spectral_norm


class GradientSteps:
    """The part of ``FaceSRModel`` that computes gradients and takes steps with them."""

    def init_steps(self, train_opt: dict[str, Any]) -> None:
        """Check and keep the options ``accumulate`` and ``clip_grad_value``.

        Raises:
            TypeError: If ``accumulate`` is no int.
            ValueError: If one of them is out of range.
        """
        self.accumulate = train_opt.get("accumulate", 1)
        check_int("train.accumulate", self.accumulate, least=1)
        self.clip_grad_value = train_opt.get("clip_grad_value") or 0
        if self.clip_grad_value < 0:
            raise ValueError(f"train.clip_grad_value must be 0 (off) or more, got {self.clip_grad_value}")

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
        return logged

    def update_generator(self) -> None:
        """Step the generator, then its moving average."""
        self.step(self.optimizer_g, self.net_g)
        if self.ema_decay > 0:
            self.model_ema(self.ema_decay)

    def step(self, optimizer: torch.optim.Optimizer, net: nn.Module) -> None:
        """Step with the gradients that ``backward`` left in ``net``; the generator's are cut first, if asked for."""
        if net is self.net_g and self.clip_grad_value > 0:
            nn.utils.clip_grad_value_(net.parameters(), self.clip_grad_value)
        optimizer.step()

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
                terms = losses()
                (sum(terms.values()) / self.accumulate).backward()
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
