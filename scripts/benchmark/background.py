"""Measure what ``facesr restore --bg-weights`` costs: ``python scripts/benchmark/background.py x2 [--tile 256]``.

Networks have the published sizes of Real-ESRGAN and random weights, which cost the same.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch
from basicsr.archs.rrdbnet_arch import RRDBNet
from basicsr.archs.srvgg_arch import SRVGGNetCompact

from facesr_plugin.pipeline.background import TILE_PX, Background

NETWORKS = {
    "x2": (lambda: RRDBNet(3, 3, scale=2), 2),
    "x4": (lambda: RRDBNet(3, 3, scale=4), 4),
    "x4-anime": (lambda: RRDBNet(3, 3, scale=4, num_block=6), 4),
    "compact": (lambda: SRVGGNetCompact(num_conv=32), 4),
}


def peak_mb() -> float:
    """Largest memory of the process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Enlarge two tiles of noise twice and print seconds of CPU per megapixel of the photo and the memory on top."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--tile", type=int, default=TILE_PX)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32")
    args = parser.parse_args()
    torch.manual_seed(0)
    build, scale = NETWORKS[args.network]
    background = Background(build(), scale, device=args.device, precision=args.precision, tile=args.tile)
    photo = np.random.default_rng(0).integers(0, 256, (args.tile, 2 * args.tile, 3), np.uint8)
    before, start = peak_mb(), time.process_time()
    background(photo, 2)
    seconds = (time.process_time() - start) / (photo.size / 3e6)
    memory = peak_mb() - before
    print(f"{args.network}, tile {args.tile}: {seconds:.0f} s of CPU per megapixel, {memory:.0f} MB more memory")


if __name__ == "__main__":
    main()
