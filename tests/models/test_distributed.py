"""Networks on devices, in one process: what is frozen, what is connected; several ranks in tests/process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from basicsr.models import build_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from facesr_plugin.models.distributed import DistributedNetworks, find_sync_problems
from helpers.dic_runs import dic_options, step
from helpers.options import hd_model_options, model_options
from helpers.progressive_runs import progressive_options
from helpers.tiny_jasrnet import jasrnet_options


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def connected(options: dict[str, Any], **more: Any) -> Any:
    return build_model(options | {"dist": True} | more)


def test_buffers_are_not_broadcast_before_a_forward(tmp_path: Path, group: None) -> None:
    net = connected(model_options(tmp_path)).net_g
    assert isinstance(net, DistributedDataParallel)
    assert not getattr(net, "forward_sync_buffers", getattr(net, "broadcast_buffers", None))


@pytest.mark.parametrize("wanted", [None, True])
def test_search_of_unused_parameters_is_off_unless_the_file_wants_it(
    tmp_path: Path, group: None, wanted: bool | None
) -> None:
    options = dic_options(tmp_path) | ({} if wanted is None else {"find_unused_parameters": wanted})
    assert connected(options).net_g.find_unused_parameters is bool(wanted)


def test_test_connects_nothing(tmp_path: Path, group: None) -> None:
    options = model_options(tmp_path) | {"is_train": False, "path": {}}
    assert not isinstance(connected(options).net_g, DistributedDataParallel)


def test_network_is_connected_anew_when_its_learning_parameters_change(tmp_path: Path, group: None) -> None:
    model = connected(dic_options(tmp_path, hourglass_freeze_iter=1))
    seen = []
    for iteration in (1, 2, 3):
        step(model, iteration)
        seen.append(model.net_g)
    assert seen[0] is not seen[1]
    assert seen[1] is seen[2]
    assert seen[0].module is seen[1].module


def test_optimisers_keep_all_parameters_that_will_ever_learn(tmp_path: Path) -> None:
    model = build_model(jasrnet_options(tmp_path, landmark_opt=None))
    model.let_rest(model.idle_parts())
    (group,) = model.optimizer_g.param_groups
    assert len(group["params"]) == len(list(model.net_g.parameters()))
    assert not any(parameter.requires_grad for parameter in model.net_g.landmark_body.parameters())


@pytest.mark.parametrize(
    ("network", "train", "expected"),
    [
        ({}, {}, []),
        ({}, {"hourglass_freeze_iter": -1}, ["hourglass"]),
        ({}, {"align_opt": None}, []),
        ({"detach_attention": True}, {"align_opt": None}, ["hourglass"]),
        ({"num_steps": 1}, {}, ["block"]),
        ({"num_steps": 1}, {"align_opt": None}, ["hourglass", "block"]),
    ],
)
def test_parts_of_dic_without_gradients_rest(
    tmp_path: Path, network: dict[str, Any], train: dict[str, Any], expected: list[str]
) -> None:
    options = dic_options(tmp_path, **train)
    options["network_g"] |= network
    model = build_model(options)
    step(model, 1)
    assert [name for part in model.idle_parts() for name, child in model.net_g.named_children() if child is part] == (
        expected
    )
    still = {name for name, value in model.net_g.named_parameters() if value.grad is None}
    assert still == {name for name, _ in model.net_g.named_parameters() if name.split(".")[0] in expected}


def test_discriminator_stands_still_only_for_the_generators_step(tmp_path: Path, group: None) -> None:
    model = connected(hd_model_options(tmp_path))
    whole, resting = model.net_d, next(model.net_d.parameters())
    resting.requires_grad_(False)
    with model._standing_discriminator():
        assert model.net_d is whole.module
        assert not any(parameter.requires_grad for parameter in model.net_d.parameters())
    assert model.net_d is whole
    assert [p for p in model.net_d.parameters() if not p.requires_grad] == [resting]


def test_progressive_networks_rest_by_stage(tmp_path: Path) -> None:
    model = build_model(progressive_options(tmp_path))
    model._go_to(4)
    model.let_rest(model.idle_parts())
    resting = {name for name, value in model.net_d.named_parameters() if not value.requires_grad}
    assert {name.rsplit(".", 1)[0] for name in resting} == {"from_rgb.2", "stages.2.conv1", "stages.2.conv2"}


@pytest.mark.parametrize(
    ("num_gpu", "here", "value", "problem"),
    [
        (1, True, True, None),
        ("auto", True, True, None),
        (0, True, False, None),
        (0, True, True, "train.sync_bn must be false on a CPU, where torch has no SyncBatchNorm, got True"),
        ("auto", False, True, "train.sync_bn must be false on a CPU, where torch has no SyncBatchNorm, got True"),
        (1, True, "yes", "train.sync_bn must be true or false, got 'yes'"),
    ],
)
def test_sync_bn_is_refused_on_a_cpu(
    num_gpu: Any, here: bool, value: Any, problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here)
    found = list(find_sync_problems({"num_gpu": num_gpu, "train": {"sync_bn": value}}))
    assert found == ([] if problem is None else [problem])


def test_model_refuses_sync_bn_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^train.sync_bn must be false on a CPU"):
        build_model(model_options(tmp_path, sync_bn=True))


def test_sync_bn_replaces_batch_norm_and_no_key(group: None) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model = SimpleNamespace(
        device=torch.device("cpu"), _memory_format=torch.contiguous_format, is_train=True, _connect=lambda net: net,
        opt={"dist": True, "train": {"sync_bn": True}},
    )  # fmt: skip
    made = DistributedNetworks.model_to_device(model, net)
    assert isinstance(made[1], nn.SyncBatchNorm)
    assert made.state_dict().keys() == net.state_dict().keys()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="SyncBatchNorm and nccl need a GPU")
@pytest.mark.parametrize("system", [model_options, hd_model_options])
def test_gpu_trains_with_sync_bn(tmp_path: Path, system: Any) -> None:
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = connected(system(tmp_path, sync_bn=True), num_gpu=1)
        model.feed_data({"lq": torch.rand(2, 3, 32, 32), "gt": torch.rand(2, 3, 32, 32)})
        model.optimize_parameters(1)
        assert all(value == value for value in model.get_current_log().values())
    finally:
        dist.destroy_process_group()
