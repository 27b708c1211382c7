"""Compare JASRNet's targets, loss and landmark error with the specification written out literally; time its heads.

    OMP_NUM_THREADS=1 python scripts/benchmark/jasrnet.py

The literal forms are in ``tests/helpers/jasrnet_literal.py``. Times are of CPU, the least of several runs that take
turns, so that other work on the machine disturbs them little.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from facesr_plugin.archs.jasrnet_arch import HEADS, JASRNet
from facesr_plugin.losses.cpm_loss import CPMLoss
from facesr_plugin.metrics.landmark_metric import landmark_errors
from facesr_plugin.ops.heatmap_targets import render_targets
from helpers.jasrnet_literal import literal_cpm, literal_nme, literal_targets

BATCH = 8


def main() -> int:
    """Run all parts and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="runs of each; the least is reported (default: 5)")
    parser.add_argument("--faces", type=int, default=50, help="faces of the landmark error (default: 50)")
    parser.add_argument("--part", choices=PARTS, action="append", help="only these parts (default: all)")
    args = parser.parse_args()
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), least of {args.repeats}")
    for part in args.part or PARTS:
        PARTS[part](args)
    return 0


def compare_nme(args: argparse.Namespace) -> None:
    """Print the time of the error of many faces, and of what the released function computes beside it."""
    rng = np.random.default_rng(0)
    reference = rng.uniform(20, 108, (args.faces, 68, 2))
    points = reference + rng.normal(0, 2, reference.shape)
    visible = rng.random(reference.shape[:2]) < 0.9
    visible[:, [36, 45]] = True

    def literal() -> list[float]:
        faces = zip(points, reference, visible, strict=True)
        return [literal_nme(*face, np.linalg.norm(face[1][36] - face[1][45]))[0] for face in faces]

    def ours() -> np.ndarray:
        return landmark_errors(points, reference, normaliser="inter_ocular", visible=visible)

    np.testing.assert_allclose(ours(), literal(), rtol=1e-9)
    print_pair(f"NME of {args.faces} faces, 68 points", measure({"literal": literal, "ours": ours}, args.repeats))


def compare_targets(args: argparse.Namespace) -> None:
    """Print the time of the targets of a batch: sample by sample with index arrays, and at once."""
    for count, side in ((68, 128), (194, 128), (68, 256)):
        landmarks = torch.rand(BATCH, count, 2) * side
        samples = list(landmarks.numpy())

        def literal(samples: list[np.ndarray] = samples, side: int = side) -> torch.Tensor:
            made = [literal_targets(points, (side, side))[0] for points in samples]
            return torch.from_numpy(np.stack(made))

        def ours(landmarks: torch.Tensor = landmarks, side: int = side) -> torch.Tensor:
            return render_targets(landmarks, (side, side)).heatmaps

        torch.testing.assert_close(ours(), literal(), rtol=0, atol=1e-6)
        times = measure({"literal": literal, "ours": ours}, 10 * args.repeats)
        print_pair(f"targets of {BATCH} faces, {count} points, {side // 8} x {side // 8} cells", times)


def compare_loss(args: argparse.Namespace) -> None:
    """Print the time of the loss of three stages with its gradients: by selection, and by a masked product."""
    stages = [torch.rand(BATCH, 69, 16, 16, requires_grad=True) for _ in range(3)]
    target, mask = torch.rand(BATCH, 69, 16, 16), (torch.rand(BATCH, 69, 1, 1) < 0.9).float()
    criterion = CPMLoss()
    torch.testing.assert_close(criterion(stages, target, mask), literal_cpm(stages, target, mask))
    ways = {
        "literal": lambda: literal_cpm(stages, target, mask).backward(),
        "ours": lambda: criterion(stages, target, mask).backward(),
    }
    print_pair(f"CPM loss of {BATCH} faces with gradients", measure(ways, 10 * args.repeats))


def time_heads(args: argparse.Namespace) -> None:
    """Print the time of the published network on one face, with both heads and with either."""
    net, lq = JASRNet().eval(), torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        ways = {heads: lambda heads=heads: net(lq, heads) for heads in HEADS}
        times = measure(ways, args.repeats)
    for heads, seconds in times.items():
        saved = 100 * (1 - seconds / times["both"])
        print(f"one face of 128 x 128, heads {heads:10}{seconds * 1000:10.0f} ms, {saved:.1f} % less than both")


PARTS = {"nme": compare_nme, "targets": compare_targets, "loss": compare_loss, "heads": time_heads}


def measure(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the least CPU seconds of each, run in turns after one run that does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(repeats + 1):
        for name, function in ways.items():
            start = time.process_time()
            function()
            if round_:
                times[name].append(time.process_time() - start)
    return {name: min(seconds) for name, seconds in times.items()}


def print_pair(title: str, times: Mapping[str, float]) -> None:
    """Print both times and their ratio."""
    literal, ours = times["literal"] * 1000, times["ours"] * 1000
    print(f"{title}: literal {literal:.2f} ms, ours {ours:.3f} ms, ratio {literal / ours:.1f}")


if __name__ == "__main__":
    sys.exit(main())
