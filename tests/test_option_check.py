"""The check of whole option files: every shipped file passes, what cannot work does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from basicsr.utils import registry

from facesr_plugin.option_check import _LOSS_WEIGHTS, find_option_problems, refuse
from facesr_plugin.utils.option_file import load_option_file, shipped_options
from facesr_plugin.utils.safe_yaml import load_yaml

REGISTRIES = {kind: getattr(registry, f"{kind.upper()}_REGISTRY") for kind in ("dataset", "loss", "metric", "model")}


def check(options: dict[str, Any], is_train: bool = True) -> None:
    refuse(find_option_problems(options, is_train, REGISTRIES))


def give_weights(options: dict[str, Any], path: Path) -> None:
    """Let the losses that need a file which nobody can download name one."""
    path.touch()
    for section in options.get("train", {}).values():
        if isinstance(section, dict) and section.get("type") in _LOSS_WEIGHTS:
            section["weights"] = str(path)
    if options.get("network_teacher"):
        options["path"]["pretrain_network_teacher"] = str(path)


@pytest.mark.parametrize("name", list(shipped_options()))
def test_every_shipped_file_passes(name: str, tmp_path: Path) -> None:
    options = load_option_file(shipped_options()[name])
    give_weights(options, tmp_path / "weights.pth")
    check(options, is_train=not name.startswith("test_"))


def test_validation_options_of_another_model_are_unknown() -> None:
    options = load_option_file(shipped_options()["sparnet"])
    options["val"]["steps"] = True
    with pytest.raises(ValueError, match="^val has no option 'steps'"):
        check(options)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("dic", "pretrain_network_hourglas"),
        ("dic", "strict_load_hourglass"),
        ("dic_hourglass", "pretrain_network_hourglass"),
        ("test_dic", "pretrain_network_hourglass"),
        ("sparnet", "pretrain_network_d"),
    ],
)
def test_paths_of_networks_that_are_not_there_are_refused(name: str, key: str) -> None:
    options = load_option_file(shipped_options()[name])
    options["path"][key] = "start.pth"
    with pytest.raises(ValueError, match=f"^path has no option '{key}'"):
        check(options, is_train=not name.startswith("test_"))


def test_option_files_of_other_models_are_left_to_basicsr() -> None:
    check({"model_type": "SRModel", "something": "of its own"})


def test_unknown_model_is_refused_before_anything_else() -> None:
    with pytest.raises(ValueError, match="^model_type must be a registered name, got None"):
        check({})


def test_missing_weights_of_the_alignment_network_are_found_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    options = load_option_file(shipped_options()["progressive"])
    give_weights(options, tmp_path / "weights.pth")
    options["train"]["heatmap_opt"]["weights"] = None
    with pytest.raises(ValueError, match=r"^train.heatmap_opt: compressed_fan.pth .* is not in .*. Put "):
        check(options)
    options["train"]["heatmap_opt"]["weights"] = "nowhere.pth"
    with pytest.raises(ValueError, match="^train.heatmap_opt: weights must be an existing file, got 'nowhere.pth'$"):
        check(options)


def test_missing_weights_of_the_feature_network_are_found_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"^train.feature_opt: LightCNN_feature.pth .* is not in "):
        check(load_option_file(shipped_options()["dicgan"]))


@pytest.mark.parametrize(
    ("name", "key", "own"),
    [
        ("dic", "allign_opt", "align_opt"),
        ("dic", "pixels_opt", "pixel_opt"),
        ("jasrnet", "landmarks_opt", "landmark_opt"),
        ("sparnethd", "feature_maching_opt", "feature_matching_opt"),
    ],
)
def test_loss_whose_name_is_nearly_one_with_a_meaning_is_refused(name: str, key: str, own: str) -> None:
    options = load_option_file(shipped_options()[name])
    options["train"][key] = {"type": "MSELoss"}
    with pytest.raises(ValueError, match=rf"train\.{key} must not be so like {own}, .* Did you mean {own}"):
        check(options)


@pytest.mark.parametrize("key", ["pixel_2_opt", "pixel2_opt", "style_opt"])
def test_loss_may_have_a_name_of_its_own(key: str) -> None:
    options = load_option_file(shipped_options()["dic"])
    options["train"][key] = {"type": "L1Loss"}
    check(options)


def test_discriminator_that_is_no_section_is_named() -> None:
    options = load_option_file(shipped_options()["dicgan"]) | {"network_d": "LightCNNDiscriminator"}
    with pytest.raises(ValueError, match="^network_d must be a section of keys, got 'LightCNNDiscriminator'$"):
        check(options)


def test_problems_of_the_model_are_found_before_the_run(tmp_path: Path) -> None:
    options = load_option_file(shipped_options()["progressive"])
    give_weights(options, tmp_path / "weights.pth")
    options["train"]["accumulate"] = 2
    options["train"]["stages"][1]["weights"]["atention"] = 1
    with pytest.raises(ValueError, match="^2 problems in the options:\n") as caught:
        check(options)
    assert "train.stages[1].weights has no loss 'atention', did you mean 'attention'?" in str(caught.value)
    assert "train.accumulate must be 1" in str(caught.value)


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ({"num": 0}, r"val\.attention\.num must be at least 1, got 0"),
        (4, r"val\.attention must be a section of keys such as \{num: 4\}, got 4"),
    ],
)
def test_wrong_attention_section_is_refused(attention: Any, message: str) -> None:
    options = load_option_file(shipped_options()["sparnethd"])
    options["val"]["attention"] = attention
    with pytest.raises(ValueError, match=message):
        check(options)


def test_attention_figures_need_tensorboard_and_a_training() -> None:
    options = load_option_file(shipped_options()["sparnethd"])
    options["val"]["attention"] = {"num": 2}
    check(options)
    options["logger"]["use_tb_logger"] = False
    with pytest.raises(ValueError, match=r"val\.attention needs logger\.use_tb_logger: true"):
        check(options)
    options = load_option_file(shipped_options()["test_sparnethd"])
    options["val"]["attention"] = {"num": 2}
    with pytest.raises(ValueError, match="val has no option 'attention'"):
        check(options, is_train=False)


def test_metric_may_be_left_out(tmp_path: Path) -> None:
    options = load_option_file(shipped_options()["fan_distill"])
    give_weights(options, tmp_path / "weights.pth")
    options["val"]["metrics"]["nme"] = None
    check(options)


@pytest.mark.parametrize(
    ("val", "message"),
    [
        ({"best": "psnr"}, r"^val.best must name one of val.metrics \(psnr_official, .*\), got 'psnr'$"),
        ({"best": "psnr_y", "metrics": None}, r"^val.best must name one of val.metrics \(there are none\)"),
        ({"tb_images": 0}, "^val.tb_images must be at least 1, got 0$"),
        ({"tb_images": "4"}, "^val.tb_images must be an integer, got '4'$"),
        ({"metrics": {"nme": {"type": "calculate_nme", "limit": 1}}}, "^val.metrics.nme: .*limit"),
    ],
)
def test_wrong_options_of_a_validation_are_refused(val: dict[str, Any], message: str) -> None:
    options = load_option_file(shipped_options()["sparnet"])
    options["val"] |= val
    with pytest.raises(ValueError, match=message):
        check(options)


def test_best_weights_and_pictures_are_of_a_training() -> None:
    options = load_option_file(shipped_options()["sparnet"])
    options["val"] |= {"best": "psnr_y", "tb_images": 2}
    check(options)
    options["logger"]["use_tb_logger"] = False
    with pytest.raises(ValueError, match=r"^val\.tb_images needs logger\.use_tb_logger: true"):
        check(options)
    options = load_option_file(shipped_options()["test_sparnet"])
    options["val"]["best"] = "psnr_y"
    with pytest.raises(ValueError, match="val has no option 'best'"):
        check(options, is_train=False)


def test_missing_weights_of_a_metric_are_found_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESR_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    options = load_option_file(shipped_options()["test_sparnet"])
    options["val"]["metrics"] = {"fid": {"type": "calculate_fid"}}
    with pytest.raises(ValueError, match=r"^val.metrics.fid: .*facesr weights fetch inception_fid"):
        check(options, is_train=False)


@pytest.mark.parametrize("name", ["sparnet", "dic", "jasrnet"])
@pytest.mark.parametrize(
    ("section", "key", "value", "where"),
    [
        ("train", "pixel_opt", "L1Loss", "train.pixel_opt"),
        ("datasets", "val", None, "datasets.val"),
        ("val", "metrics", ["psnr"], "val.metrics"),
        ("val", "metrics", {"psnr": "psnr"}, "val.metrics.psnr"),
    ],
)
def test_what_is_no_section_is_named_before_the_model_looks_at_it(
    name: str, section: str, key: str, value: Any, where: str
) -> None:
    options = load_option_file(shipped_options()[name])
    options[section][key] = value
    with pytest.raises(ValueError, match=f"{where} must be a section of keys, got "):
        check(options)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("dist_params", {"timeout": 600}, "dist_params has no option 'timeout', did you mean 'timeout_s'?"),
        ("dist_params", {"timeout_s": -5}, "dist_params.timeout_s must be a number of seconds above 0, got -5"),
        ("dist_params", {"port": "abc"}, "dist_params.port must be a whole number from 1 to 65535, got 'abc'"),
        ("dist_params", {"port": 65536}, "dist_params.port must be a whole number from 1 to 65535, got 65536"),
        ("dist_params", {"backend": 1}, "dist_params.backend must be a name such as nccl or gloo, got 1"),
        ("dist_params", None, "dist_params must be a section of keys, got None"),
        ("find_unused_parameters", "abc", "find_unused_parameters must be true or false, got 'abc'"),
        ("logger.use_tb_logger", "abc", "logger.use_tb_logger must be true or false, got 'abc'"),
        ("logger.wandb", "faces", "logger.wandb must be a section of keys, got 'faces'"),
        ("logger.wandb", {"projct": "faces"}, "logger.wandb has no option 'projct', did you mean 'project'?"),
        ("val.save_img", 3, "val.save_img must be true or false, got 3"),
        (
            "logger.save_checkpoint_freq",
            "5.0e3",
            "logger.save_checkpoint_freq must be a number, got '5.0e3'. YAML needs a point and a sign in it, 2.0e-4 or "
            "5.0e+3, or a tag: !!float 2e-4",
        ),
        ("train.scheduler.gamma", "5e-1", "train.scheduler.gamma must be a number, got '5e-1'."),
    ],
)
def test_value_that_would_fail_later_is_named(where: str, value: Any, message: str) -> None:
    options = load_option_file(shipped_options()["sparnet"])
    options["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": [10], "gamma": 0.5}
    *parents, last = where.split(".")
    section = options
    for name in parents:
        section = section[name]
    section[last] = value
    (problem,) = find_option_problems(options, True, REGISTRIES)
    assert problem.startswith(message)


def test_yaml_reads_the_numbers_that_the_message_names() -> None:
    assert load_yaml("[2.0e-4, 5.0e+3, !!float 2e-4, 2e-4, 5.0e3]") == [2e-4, 5e3, 2e-4, "2e-4", "5.0e3"]
