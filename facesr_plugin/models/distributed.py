"""One network on several devices: which of its gradients the ranks exchange, and how.

Source: torch's DistributedDataParallel. What differs from BasicSR's use of it: it works on the CPU as well; parameters
that an iteration does not train are frozen and left out, so that no rank searches its graph for them; buffers are
broadcast once instead of before every forward, which would change what the backward of an earlier one needs.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn.parallel import DataParallel, DistributedDataParallel

# torch 2.13 renamed it
_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


class DistributedNetworks:
    """The part of ``FaceSRModel`` that puts its networks on devices and connects them with those of other ranks."""

    _parts_at_rest: Sequence[nn.Module] = ()

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move a network to the run's device; in a distributed training, connect it with those of the other ranks.

        Raises:
            ValueError: If the process group cannot exchange tensors of that device.
        """
        net = net.to(self.device, memory_format=self._memory_format)
        if not self.opt["dist"]:
            return DataParallel(net) if self.opt["num_gpu"] > 1 else net
        if not self.is_train:
            return net
        if self.opt["train"].get("sync_bn"):
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        for buffer in net.buffers():
            dist.broadcast(buffer, src=0)
        return self._connect(net)

    def rewrap(self) -> None:
        """Connect networks anew whose learning parameters have changed; all ranks do so in the same iteration."""
        for name, net in list(vars(self).items()):
            if isinstance(net, DistributedDataParallel) and _learning(net.module) != net.learning:
                net._remove_autograd_hooks()
                setattr(self, name, self._connect(net.module))

    def let_rest(self, parts: Sequence[nn.Module]) -> None:
        """Freeze parts of the networks, and let all other parameters of the optimisers learn.

        Args:
            parts: That the iterations from now on do not train.
        """
        if parts == self._parts_at_rest:
            return
        self._parts_at_rest = parts
        resting = {parameter for part in parts for parameter in part.parameters()}
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.requires_grad_(parameter not in resting)
        self.rewrap()

    def reduce_loss_dict(self, loss_dict: dict[str, Tensor]) -> dict[str, float]:
        """Return the means over the ranks, on every rank; the only place that waits for the device.

        Args:
            loss_dict: Scalars by name, the same names on every rank.
        """
        if not loss_dict:
            return {}
        names = sorted(loss_dict)  # ranks may have met them in another order
        values = torch.stack([loss_dict[name].detach().double().mean() for name in names])
        if self.opt["dist"]:
            dist.all_reduce(values)
            values /= self.opt["world_size"]
        means = dict(zip(names, values.tolist(), strict=True))
        return {name: means[name] for name in loss_dict}

    def _connect(self, net: nn.Module) -> DistributedDataParallel:
        on_gpu = self.device.type == "cuda"
        unused = self.opt.get("find_unused_parameters", False)
        devices = [torch.cuda.current_device()] if on_gpu else None
        connected = DistributedDataParallel(net, device_ids=devices, find_unused_parameters=unused, **{_BUFFERS: False})
        connected.learning = _learning(net)
        if not on_gpu:
            connected.register_comm_hook(None, lambda _, bucket: average_in_order(bucket))
        return connected


def find_sync_problems(options: dict[str, Any]) -> Iterator[str]:
    """Say why ``train.sync_bn`` cannot be: torch's SyncBatchNorm has no code for the CPU."""
    wanted = options["train"].get("sync_bn", False)
    if not isinstance(wanted, bool):
        yield f"train.sync_bn must be true or false, got {wanted!r}"
    elif wanted and (options.get("num_gpu") == 0 or not torch.cuda.is_available()):
        yield "train.sync_bn must be false on a CPU, where torch has no SyncBatchNorm, got True"


def average_in_order(bucket: dist.GradBucket) -> Future[Tensor]:
    """Average gradients over the ranks, adding them in the order of the ranks.

    torch's own sum on the CPU begins with another rank in each part of a bucket. DDP fills its buckets anew after the
    first iteration, so a run that continues would differ from the unbroken one in the last bit, from three ranks on.
    """
    mine = bucket.buffer()
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]

    def average(gathered: Future) -> Tensor:
        gathered.wait()  # raises if a rank is gone: the parts are nothing then
        return sum(parts[1:], parts[0]) / len(parts)

    return dist.all_gather(parts, mine, async_op=True).get_future().then(average)


def _learning(net: nn.Module) -> list[bool]:
    return [parameter.requires_grad for parameter in net.parameters()]
