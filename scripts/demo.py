"""The whole way in one command: faces to LMDB, train through an unmodified BasicSR, test, restore, compare.

``make demo`` calls it; ``make demo FACES=folder`` takes photographs of faces (cropped like portraits) instead of
synthetic ones. Everything goes below results/demo; a second call goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import zlib
from pathlib import Path

import yaml

from facesr_plugin.data.sources import open_source
from facesr_plugin.data.transforms import make_lq
from facesr_plugin.pipeline.grid import Comparison, comparison_grid
from facesr_plugin.utils.files import atomic_write_text
from facesr_plugin.utils.imageio import list_images, read_image, write_png
from facesr_plugin.utils.option_file import find_shipped, load_option_file, override

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "results" / "demo"
NETWORK = ["network_g.min_ch=16", "network_g.max_ch=48", "network_g.res_depth=1", "network_g.bottleneck_size=8"]
SHOWN = 5
SCALE = 8


def main() -> int:
    """Run the demo and print where the picture is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--basicsr", type=Path, required=True, help="folder of an unmodified BasicSR checkout")
    parser.add_argument("--faces", type=Path, help="folder of face photographs (default: synthetic faces)")
    parser.add_argument("--num", type=int, default=600, help="synthetic faces to make")
    parser.add_argument("--iterations", type=int, default=900)
    args = parser.parse_args()

    print("1/5  faces", flush=True)
    faces = args.faces or make_faces(args.num)
    train, val = split(faces)
    for name, names in (("train", train), ("val", val)):
        atomic_write_text(OUT / f"{name}.txt", "".join(f"{path.name}\n" for path in names))
    facesr("prepare", "faces", faces, "--out", OUT / "faces.lmdb", "--size", 128,
           "--train-list", OUT / "train.txt", "--val-list", OUT / "val.txt", "--overwrite")  # fmt: skip

    print("2/5  train with basicsr/train.py", flush=True)
    basicsr(args.basicsr, "train.py", write_options("sparnet", args.iterations), "--auto_resume")
    weights = args.basicsr.resolve() / "experiments/sparnet_demo/models/net_g_latest.pth"

    print("3/5  test with basicsr/test.py", flush=True)
    basicsr(args.basicsr, "test.py", write_options("test_sparnet", args.iterations, weights))

    print("4/5  restore", flush=True)
    lq, gt = write_inputs()
    facesr("infer", lq, "--weights", weights, "--out", OUT / "restored", "--gt", gt, "--overwrite")

    print("5/5  compare", flush=True)
    write_comparison(lq, gt)
    print(f"\n{OUT / 'comparison.png'}")
    return 0


def make_faces(number: int) -> Path:
    """Synthetic faces, made once."""
    folder = OUT / "synthetic"
    facesr("prepare", "synthetic", "--out", folder, "--num", number, "--size", 128)
    return folder


def split(faces: Path) -> tuple[list[Path], list[Path]]:
    """Every tenth image, by a hash of its name, is for validation."""
    images = list_images(faces)
    if len(images) < 20:
        raise SystemExit(f"error: {faces} must hold at least 20 images of faces, got {len(images)}")
    ordered = sorted(images, key=lambda path: zlib.crc32(path.name.encode()))
    number = max(len(images) // 10, 5)
    return sorted(ordered[number:]), sorted(ordered[:number])


def write_options(name: str, iterations: int, weights: Path | None = None) -> Path:
    """A shipped option file with a network and a run short enough for two cores."""
    options = load_option_file(find_shipped(name))
    override(options, NETWORK)
    if weights is None:
        data = [f"datasets.train.dataroot_gt={OUT / 'faces_train.lmdb'}"]
        data += [f"datasets.val.dataroot_gt={OUT / 'faces_val.lmdb'}"]
        run = ["name=sparnet_demo", "datasets.train.batch_size_per_gpu=8", "datasets.train.num_worker_per_gpu=1"]
        run += ["train.optim_g.lr=0.001", f"train.total_iter={iterations}", f"val.val_freq={iterations}"]
        run += ["logger.save_checkpoint_freq=300", "datasets.train.dataset_enlarge_ratio=20", "logger.print_freq=50"]
        run += ["logger.use_tb_logger=false"]
        override(options, data + run)
        options["train"]["scheduler"] = {
            "type": "MultiStepLR",
            "milestones": [iterations * 6 // 10, iterations * 85 // 100],
            "gamma": 0.4,
        }
    else:
        override(options, ["name=test_sparnet_demo", f"path.pretrain_network_g={weights}"])
        override(options, [f"datasets.test_1.dataroot_gt={OUT / 'faces_val.lmdb'}"])
    path = OUT / f"{name}_demo.yml"
    atomic_write_text(path, yaml.safe_dump(options, sort_keys=False))
    return path


def write_inputs() -> tuple[Path, Path]:
    """Small inputs (16x16) and targets of the validation faces as PNG files."""
    lq, gt = OUT / "lq", OUT / "gt"
    source = open_source(str(OUT / "faces_val.lmdb"))
    for key in source.keys:
        target = source.read(key)
        write_png(gt / f"{key}.png", target)
        write_png(lq / f"{key}.png", make_lq(target, SCALE))
    return lq, gt


def write_comparison(lq: Path, gt: Path) -> None:
    """Input, bicubic, result and ground truth of the first validation faces."""
    rows = [
        Comparison(read_image(path), read_image(OUT / "restored" / path.name), read_image(gt / path.name))
        for path in sorted(lq.glob("*.png"))[:SHOWN]
    ]
    write_png(OUT / "comparison.png", comparison_grid(rows))


def facesr(*arguments: object) -> None:
    """Run one ``facesr`` command; its exit status 1 (some inputs failed) is reported and no reason to stop."""
    command = [sys.executable, "-m", "facesr_plugin.cli", *map(str, arguments)]
    status = subprocess.run(command, check=False).returncode
    if status > 1:
        raise SystemExit(status)


def basicsr(checkout: Path, script: str, options: Path, *flags: str) -> None:
    """Run a script of the unmodified checkout in its folder, as its users do."""
    command = [sys.executable, f"basicsr/{script}", "-opt", str(options), *flags]
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    subprocess.run(command, cwd=checkout, env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main())
