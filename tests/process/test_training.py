"""Training, resuming, validating and testing: BasicSR's own scripts from a checkout and from pip, and ``facesr``."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.environments import TORCHRUN, ChildEnv, run
from helpers.runs import differences, train_options, write_faces, write_options

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, wheel_env: ChildEnv) -> dict[str, Path]:
    """Two LMDBs made by ``facesr prepare faces``: 24 training faces, 3 for validation."""
    root = tmp_path_factory.mktemp("data")
    made = {}
    for name, number in (("train", 24), ("val", 3)):
        faces = write_faces(root / name, number)
        made[name] = root / f"{name}.lmdb"
        prepare = ["prepare", "faces", faces, "--out", made[name], "--size", "32", "--workers", "1"]
        run([wheel_env.root / "bin" / "facesr", *prepare], cwd=root)
    return made


@pytest.fixture(scope="module")
def trained(checkout: Path, lone_env: ChildEnv, data: dict[str, Path]) -> Path:
    """An experiment of 8 iterations by ``python basicsr/train.py``; the plugin is installed, BasicSR is not."""
    options = train_options(checkout / "options" / "plain.yml", "plain", data["train"], data["val"], 8)
    train = [lone_env.python, "basicsr/train.py", "-opt", options.relative_to(checkout)]
    done = run(train, cwd=checkout, PYTHONPATH=".", CUDA_VISIBLE_DEVICES="")
    assert "Validation CelebA_val" in done.stderr
    return checkout / "experiments" / "plain"


def test_checkout_trains_and_saves(trained: Path) -> None:
    assert {path.name for path in (trained / "models").iterdir()} == {f"net_g_{n}.pth" for n in (4, 8, "latest")}
    assert {path.name for path in (trained / "training_states").iterdir()} == {"4.state", "8.state"}


def test_log_has_a_line_per_interval_and_ends_with_the_summary(trained: Path) -> None:
    (log,) = (path.read_text() for path in trained.glob("train_plain_*.log"))
    lines = [line for line in log.splitlines() if "INFO: epoch: " in line]
    assert [line.split("iter: ")[1].split(",")[0] for line in lines] == [f"{n}/8" for n in range(1, 9)]
    assert all(word in line for line in lines for word in ("l_g_pixel: ", " images/s, data: ", " GiB | eta: "))
    assert log.count("Training finished: 8 of 8 iterations") == 1
    summary = log[log.index("Training finished") :].splitlines()
    assert [line.split()[0] for line in summary[1:]] == ["networks", "states", "best", "log", "test", "continue"]


def test_checkout_tests_the_trained_network(
    trained: Path, checkout: Path, lone_env: ChildEnv, data: dict[str, Path]
) -> None:
    assignments = ["name=plain_test", f"datasets.test_1.dataroot_gt={data['val']}"]
    assignments += [f"path.pretrain_network_g={trained / 'models' / 'net_g_latest.pth'}"]
    options = write_options(checkout / "options" / "test_plain.yml", "test_sparnet", assignments)
    options.write_text(options.read_text().replace("type: FaceSRDataset", "type: FaceSRDataset\n    gt_size: 32"))
    test = [lone_env.python, "basicsr/test.py", "-opt", options.relative_to(checkout)]
    printed = run(test, cwd=checkout, PYTHONPATH=".", CUDA_VISIBLE_DEVICES="").stderr
    for metric in ("psnr_official", "ssim_official", "psnr_y", "ssim_y"):
        assert f"# {metric}: " in printed
    pictures = checkout / "results" / "plain_test" / "visualization" / "CelebA_val"
    assert sorted(path.name for path in pictures.iterdir()) == [f"{n:03d}_plain_test.png" for n in range(3)]


def test_two_ranks_train_resume_and_validate(checkout: Path, lone_env: ChildEnv, data: dict[str, Path]) -> None:
    """20 iterations at a stretch, and 10 resumed to 20, end in the same bits."""
    for name, totals in (("whole", [20]), ("halves", [10, 20])):
        for total in totals:
            saves = ["logger.save_checkpoint_freq=10", "val.val_freq=10"]
            options = train_options(
                checkout / "options" / f"{name}.yml", name, data["train"], data["val"], total, *saves
            )
            command = [lone_env.python, *TORCHRUN, "basicsr/train.py", "-opt", options.relative_to(checkout)]
            command += ["--launcher", "pytorch", "--auto_resume"]
            printed = run(command, cwd=checkout, PYTHONPATH=".", CUDA_VISIBLE_DEVICES="").stderr
    assert "Resuming training from epoch: 1, iter: 10." in printed
    assert "Validation CelebA_val" in printed
    experiments = checkout / "experiments"
    assert differences(experiments / "whole", experiments / "halves", 20) == []


def test_installed_basicsr_trains_below_the_current_folder(
    wheel_env: ChildEnv, data: dict[str, Path], tmp_path: Path, shared: Path
) -> None:
    options = train_options(tmp_path / "module.yml", "module", data["train"], data["val"], 4)
    before = set(shared.iterdir())
    run([wheel_env.python, "-m", "basicsr.train", "-opt", options], cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert (tmp_path / "experiments" / "module" / "models" / "net_g_latest.pth").is_file()
    assert set(shared.iterdir()) == before


def test_facesr_trains_resumes_and_tests_anywhere(wheel_env: ChildEnv, data: dict[str, Path], tmp_path: Path) -> None:
    options = train_options(tmp_path / "short.yml", "short", data["train"], data["val"], 4)
    facesr = wheel_env.root / "bin" / "facesr"
    run([facesr, "train", "-opt", options, "--set", "train.total_iter=2"], cwd=tmp_path)
    resumed = run([facesr, "train", "-opt", options, "--set", "train.total_iter=6", "--auto-resume"], cwd=tmp_path)
    assert "Resuming training from epoch: 0, iter: 2." in resumed.stderr
    weights = tmp_path / "experiments" / "short" / "models" / "net_g_6.pth"
    assignments = [f"datasets.test_1.dataroot_gt={data['val']}", f"path.pretrain_network_g={weights}"]
    test = write_options(tmp_path / "test.yml", "test_sparnet", assignments)
    test.write_text(test.read_text().replace("type: FaceSRDataset", "type: FaceSRDataset\n    gt_size: 32"))
    assert "# psnr_official: " in run([facesr, "test", "-opt", test], cwd=tmp_path).stderr


def test_torchrun_starts_the_packages_own_entry(wheel_env: ChildEnv, data: dict[str, Path], tmp_path: Path) -> None:
    options = train_options(tmp_path / "ranks.yml", "ranks", data["train"], data["val"], 4)
    command = [*TORCHRUN, "-m", "facesr_plugin.train", "-opt", options]
    done = run([wheel_env.python, *command], cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert "world_size: 2" in done.stderr
    assert (tmp_path / "experiments" / "ranks" / "models" / "net_g_latest.pth").is_file()


def test_checkout_is_still_as_released(checkout: Path) -> None:
    """The last test of this module: nothing above wrote into BasicSR's package."""
    written = {path.suffix for path in (checkout / "basicsr").rglob("*") if path.is_file()}
    assert written <= {".py", ".pyc", ".cpp", ".cu", ".npz"}
