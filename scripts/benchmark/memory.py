"""Measure the peak memory of SPARNetHD's training, or estimate it for sizes that do not fit here.

    OMP_NUM_THREADS=1 python scripts/benchmark/memory.py --size 144                   CPU: peak resident memory
    python scripts/benchmark/memory.py --size 512 --device cuda                       GPU: peak of torch's allocator
    OMP_NUM_THREADS=1 python scripts/benchmark/memory.py --size 512 --estimate        tensors counted, nothing computed

Each row is ``options/sparnethd.yml`` as published (full width, three discriminators, every loss, random values in
VGG19) with one option changed, in a process of its own: two iterations, since the optimisers' state comes with the
first. Linux only: resident memory is read in KiB. The published discriminators take images of 132 x 132 and more.
"""

import argparse
import contextlib
import resource
import subprocess
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

ROWS = {
    "published": [],
    "accumulate: 2": ["train.accumulate=2"],
    "checkpointing: true": ["network_g.checkpointing=true"],
    "both": ["train.accumulate=2", "network_g.checkpointing=true"],
}
MIB = 2**20


def main() -> int:
    """Run one row, or each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=144, help="side of the images (default: 144)")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--estimate", action="store_true", help="count the bytes of all tensors, without computing")
    parser.add_argument("--row", choices=list(ROWS), help="this row alone, in this process")
    args = parser.parse_args()
    if args.row:
        print(f"{args.row:22}{run_row(args)}")
        return 0
    print(
        f"{args.size} x {args.size}, batch {args.batch}, {args.device}{', estimate' if args.estimate else ''}",
        flush=True,
    )
    return max(subprocess.call([sys.executable, __file__, *sys.argv[1:], "--row", row]) for row in ROWS)


def run_row(args: argparse.Namespace) -> str:
    """Train for some iterations; return what they took."""
    import torch

    cuda = args.device == "cuda"
    clock = time.perf_counter if cuda else time.process_time  # other programs on the processor do not count
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        options = make_options(args, Path(folder))
        counter = stack.enter_context(count_tensors()) if args.estimate else None
        model, batch = build(options, args)
        if args.estimate:  # as on a GPU: whether gradients are numbers is decided there, and not read in the iteration
            model.guard.deferred, model.guard.look = True, lambda: None
        for iteration in range(1, args.iterations + 1):
            start = clock()
            model.feed_data(batch)
            model.optimize_parameters(iteration)
            if cuda:
                torch.cuda.synchronize()
            seconds = clock() - start
    if counter:
        return f"{counter.peak / MIB:8.0f} MiB of tensors"
    if cuda:
        return f"{torch.cuda.max_memory_allocated() / MIB:8.0f} MiB allocated{seconds:8.1f} s for the last iteration"
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"{resident:8.0f} MiB resident{seconds:8.1f} s of CPU time for the last iteration"


def make_options(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the shipped options with a file of random VGG weights and the row's change."""
    import torch

    from facesr_plugin.losses.perceptual_loss import SPARNETHD_LAYERS, VGGFeatures
    from facesr_plugin.utils.option_file import find_shipped, load_option_file, override

    torch.save(VGGFeatures("vgg19", SPARNETHD_LAYERS).state_dict(), folder / "vgg19.pth")
    options = load_option_file(find_shipped("sparnethd"))
    for name in ("optim_g", "optim_d"):
        options["train"][name]["fused"] = args.estimate or args.device == "cuda"
    assignments = [f"num_gpu={int(args.device == 'cuda')}", *ROWS[args.row]]
    override(options, [f"train.perceptual_opt.weights={folder / 'vgg19.pth'}", *assignments])
    return {**options, "is_train": True, "dist": False, "rank": 0, "world_size": 1}


def build(options: dict[str, Any], args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return the model and a batch of noise."""
    import torch

    import facesr_plugin

    facesr_plugin.register()
    from basicsr.models import build_model

    gt = torch.rand(args.batch, 3, args.size, args.size)
    return build_model(options), {"gt": gt, "lq": gt.clone()}


class TensorCounter:
    """Bytes of the tensors that are alive: ``now`` and at most (``peak``); a view counts with what it views."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def add(self, storage: Any) -> None:
        """Count a storage until it is freed."""
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


@contextlib.contextmanager
def count_tensors() -> Iterator[TensorCounter]:
    """Count all tensors made inside, which have sizes but no values."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    counter = TensorCounter()

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401, D105
            result = function(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    counter.add(tensor.untyped_storage())
            return result

    stay = mock.patch.object(torch.nn.Module, "to", lambda self, *_args, **_kwargs: self)  # cannot swap fake tensors
    with warnings.catch_warnings(), stay, FakeTensorMode(allow_non_fake_inputs=True), Counting():
        warnings.simplefilter("ignore")  # copying fake tensors asks for their address
        yield counter


if __name__ == "__main__":
    sys.exit(main())
