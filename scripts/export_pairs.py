"""Write the faces of an LMDB or folder and their published small inputs as PNG files: OUT/gt and OUT/lq.

python scripts/export_pairs.py datasets/faces_val.lmdb results/pairs
facesr infer results/pairs/lq --gt results/pairs/gt --weights W --out results/restored    # PSNR and SSIM, and bicubic's
"""

from __future__ import annotations

import argparse
from pathlib import Path

from facesr_plugin.cards import CARDS, get_card
from facesr_plugin.data.sources import open_source
from facesr_plugin.data.transforms import make_lq
from facesr_plugin.utils.imageio import write_png


def export_pairs(source: str | Path, out: str | Path, system: str = "sparnet", scale: int = 8) -> tuple[Path, Path]:
    """Write the pairs, reduced as the system's card says, and return the folders of inputs and targets."""
    reduction = get_card(system).reduction
    lq, gt = Path(out) / "lq", Path(out) / "gt"
    images = open_source(str(source))
    for key in images.keys:
        target = images.read(key)
        write_png(gt / f"{key}.png", target)
        write_png(lq / f"{key}.png", make_lq(target, scale, reduction))
    return lq, gt


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="X.lmdb or folder of square faces")
    parser.add_argument("out", help="folder to write")
    parser.add_argument("--system", default="sparnet", choices=list(CARDS))
    parser.add_argument("--scale", type=int, default=8)
    args = parser.parse_args()
    export_pairs(args.source, args.out, args.system, args.scale)
