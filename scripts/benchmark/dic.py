"""Compare DIC's generator with its specification written out: memory, time, results.

    OMP_NUM_THREADS=1 python scripts/benchmark/dic.py

The published generator in float32 on the CPU, one image. The literal form (``tests/helpers/dic_literal.py``) joins
features before each 1x1 convolution and computes in every step all that the step needs; it has the same parameters.
Memory is counted from the sizes of tensors, without computing: ``saved`` is what autograd keeps for the backward,
without parameters; ``peak`` is all tensors that are alive at a time, parameters and gradients included. Times are of
CPU, the least of several runs that take turns.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from memory import MIB, count_tensors

from facesr_plugin.archs.dic_arch import DICNet
from helpers.dic_literal import count_saved, literal_twin

ROWS = {"literal": False, "DICNet": False, "checkpointing: true": True}  # name: checkpointing


def main() -> int:
    """Print what each form takes, and how their results differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=16, help="of the small image (default: 16)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; 0 for memory alone (default: 3)")
    args = parser.parse_args()
    print(f"{args.side} x {args.side}, torch {torch.__version__}, {torch.get_num_threads()} thread(s)", flush=True)
    saved = {row: saved_bytes(row, args.side) for row in ROWS}
    for row in ROWS:
        train, infer = peak_bytes(row, args.side, training=True), peak_bytes(row, args.side, training=False)
        print(
            f"{row:22}saved {saved[row] / MIB:7.0f} MiB ({saved[row] / saved['literal']:6.1%})"
            f"   peak {train / MIB:6.0f} MiB, without gradients {infer / MIB:5.0f} MiB",
            flush=True,
        )
    if args.repeats:
        compare(args.side, args.repeats)
    return 0


def compare(side: int, repeats: int) -> None:
    """Print the times of each form and how far the results are apart."""
    nets = {row: build(row) for row in ROWS}
    for row, (train, infer) in measure_times(nets, side, repeats).items():
        print(f"{row:22}training {train:6.2f} s   inference {infer:6.2f} s", flush=True)
    print(f"largest difference of a result: {largest_difference(nets, side):.1e} of the largest value", flush=True)
    print(f"largest difference of a gradient in float64: {gradient_difference(side):.1e} of its norm")


def build(row: str) -> Callable[..., tuple]:
    """Return the form of a row; all forms have the same weights."""
    torch.manual_seed(0)
    net = DICNet(checkpointing=ROWS[row])
    return literal_twin(net) if row == "literal" else net


def small_image(side: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return noise."""
    return torch.rand(1, 3, side, side, dtype=dtype) - 0.4


def objective(output: tuple[list[Tensor], list[Tensor]]) -> Tensor:
    """Return a scalar made from the results of every step."""
    sr, heatmaps = output
    return sum(x.abs().mean() for x in sr) + 0.1 * sum(x.square().mean() for x in heatmaps)


def saved_bytes(row: str, side: int) -> int:
    """Count what autograd keeps of one image."""
    with FakeTensorMode():
        run = build(row)
        with count_saved(parameters(run)) as saved:
            kept = run(small_image(side), every_step=True)
        del kept
    return saved.total


def peak_bytes(row: str, side: int, *, training: bool) -> int:
    """Count the tensors alive at a time, in a training step or where only the last image is wanted."""
    with count_tensors() as counter:
        run = build(row)
        with torch.set_grad_enabled(training):
            results = run(small_image(side), every_step=training or row == "literal")
        if training:
            objective(results).backward()
    return counter.peak


def parameters(run: Callable[..., tuple]) -> list[Tensor]:
    """Return the parameters of either form."""
    return list(run.parameters() if isinstance(run, DICNet) else run.weights.values())


def measure_times(nets: dict[str, Callable[..., tuple]], side: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Return seconds of a training step and of inference by row."""
    times = {row: ([], []) for row in nets}
    for _ in range(repeats):
        for row, run in nets.items():
            lq = small_image(side)
            times[row][0].append(seconds(lambda run=run, lq=lq: objective(run(lq, every_step=True)).backward()))
            with torch.no_grad():
                times[row][1].append(seconds(lambda run=run, lq=lq, row=row: run(lq, every_step=row == "literal")))
    return {row: tuple(map(min, columns)) for row, columns in times.items()}


def seconds(function: Callable[[], object]) -> float:
    """Return the CPU time of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


@torch.no_grad()
def largest_difference(nets: dict[str, Callable[..., tuple]], side: int) -> float:
    """Compare the images and heatmaps of all steps."""
    lq = small_image(side)
    expected, found = (sum(nets[row](lq, every_step=True), []) for row in ("literal", "DICNet"))
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))


def gradient_difference(side: int) -> float:
    """Compare the gradients of all parameters."""
    torch.manual_seed(0)
    net, lq = DICNet().double(), small_image(side, torch.float64)
    values = list(net.parameters())
    found, expected = (
        torch.autograd.grad(objective(run(lq, every_step=True)), values) for run in (net, literal_twin(net))
    )
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True))


if __name__ == "__main__":
    sys.exit(main())
