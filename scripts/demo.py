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
from export_pairs import export_pairs

from facesr_plugin.pipeline.grid import Comparison, comparison_grid
from facesr_plugin.utils.files import atomic_write_text
from facesr_plugin.utils.imageio import list_images, read_image, write_png
from facesr_plugin.utils.option_file import find_shipped, load_option_file, override

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "results" / "demo"
NETWORK = ["network_g.min_ch=16", "network_g.max_ch=64", "network_g.res_depth=1"]
LOADER = ["zoom=null", "batch_size_per_gpu=2", "num_worker_per_gpu=1", "dataset_enlarge_ratio=20"]
SHOWN = 5


def main() -> int:
    """Run the demo and print where the picture is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--basicsr", type=Path, required=True, help="folder of an unmodified BasicSR checkout")
    parser.add_argument("--faces", type=Path, help="folder of face photographs (default: synthetic faces)")
    parser.add_argument("--num", type=int, default=400, help="synthetic faces to make")
    parser.add_argument("--iterations", type=int, default=600)
    args = parser.parse_args()
    name = f"sparnet_demo_{zlib.crc32(str(args.faces.resolve()).encode()):08x}" if args.faces else "sparnet_demo"
    work = OUT / name

    print("1/5  faces", flush=True)
    make_lmdb(args.faces or make_faces(work, args.num), work)

    print("2/5  train with basicsr/train.py", flush=True)
    basicsr(args.basicsr, "train.py", training_options(name, work, args.iterations), "--auto_resume")
    weights = args.basicsr.resolve() / "experiments" / name / "models/net_g_latest.pth"

    print("3/5  test with basicsr/test.py", flush=True)
    basicsr(args.basicsr, "test.py", test_options(name, work, weights))

    print("4/5  restore", flush=True)
    lq, gt = export_pairs(work / "faces_val.lmdb", work)
    facesr("infer", lq, "--weights", weights, "--out", work / "restored", "--gt", gt, "--overwrite")

    print("5/5  compare", flush=True)
    write_comparison(work)
    print(f"\n{OUT / 'comparison.png'}")
    return 0


def make_faces(work: Path, number: int) -> Path:
    """Synthetic faces, made once."""
    folder = work / "synthetic"
    facesr("prepare", "synthetic", "--out", folder, "--num", number, "--size", 128)
    return folder


def make_lmdb(faces: Path, work: Path) -> None:
    """Two LMDBs; every tenth image, by a hash of its name, is for validation."""
    images = list_images(faces)
    if len(images) < 20:
        raise SystemExit(f"error: {faces} must hold at least 20 images of faces, got {len(images)}")
    ordered = sorted(images, key=lambda path: zlib.crc32(path.name.encode()))
    number = max(len(images) // 10, 5)
    lists = {"train": ordered[number:], "val": ordered[:number]}
    for part, members in lists.items():
        atomic_write_text(work / f"{part}.txt", "".join(f"{path.name}\n" for path in sorted(members)))
    facesr("prepare", "faces", faces, "--out", work / "faces.lmdb", "--size", 128, "--crop", "center",
           "--train-list", work / "train.txt", "--val-list", work / "val.txt")  # fmt: skip


def training_options(name: str, work: Path, iterations: int) -> Path:
    """The shipped ``sparnet`` with a network and a run short enough for two cores."""
    options = load_option_file(find_shipped("sparnet"))
    override(options, [*NETWORK, f"name={name}"])
    for part in ("train", "val"):
        override(
            options, [f"datasets.{part}.dataroot_gt={work / f'faces_{part}.lmdb'}", f"datasets.{part}.name={part}"]
        )
    override(options, [f"datasets.train.{setting}" for setting in LOADER])
    override(
        options,
        [
            "train.optim_g.lr=0.001",
            "train.ema_decay=0.98",
            "train.channels_last=true",
            f"train.total_iter={iterations}",
        ],
    )
    override(options, [f"val.val_freq={2 * iterations}", "logger.save_checkpoint_freq=100", "logger.print_freq=50"])
    override(options, ["logger.use_tb_logger=false"])
    milestones = [iterations // 2, iterations * 8 // 10]
    options["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": milestones, "gamma": 0.35}
    return write(options, work / "train.yml")


def test_options(name: str, work: Path, weights: Path) -> Path:
    """The shipped ``test_sparnet`` for the same network and faces."""
    options = load_option_file(find_shipped("test_sparnet"))
    override(options, [*NETWORK, f"name=test_{name}", f"path.pretrain_network_g={weights}"])
    override(options, ["path.param_key_g=params_ema", "datasets.test_1.name=val"])
    override(options, [f"datasets.test_1.dataroot_gt={work / 'faces_val.lmdb'}"])
    return write(options, work / "test.yml")


def write(options: dict, path: Path) -> Path:
    """Write an option file for BasicSR."""
    atomic_write_text(path, yaml.safe_dump(options, sort_keys=False))
    return path


def write_comparison(work: Path) -> None:
    """Input, bicubic, result and ground truth of the first validation faces."""
    folders = [work / folder for folder in ("lq", "restored", "gt")]
    names = [path.name for path in sorted(folders[0].glob("*.png"))[:SHOWN]]
    rows = [Comparison(*(read_image(folder / name) for folder in folders)) for name in names]
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
