"""Generator and landmark networks of DIC against their references."""

import numpy as np
import torch
import torch.nn.functional as F

from facesr_plugin.archs.dic_arch import AttentiveBlock, AttentiveFusion, FirstBlock
from facesr_plugin.archs.hourglass_arch import FeedbackHourglass, StackedHourglass
from facesr_plugin.ops.heatmap import merge_heatmaps
from facesr_plugin.ops.landmark import group_matrix
from helpers.fill import uniform
from parity import dic_case
from parity.dic_case import KEYS, MEAN, check_output, inputs, load_filled

_CALLS = (1, 2, 3)
_ALIGN_WEIGHT = 0.1
_SMALL_NORM = 1e-4  # of gradients of single slopes, which rounding moves most


@torch.no_grad()
def generator(case):
    """Images and heatmaps of every step; the default call gives the last image."""
    net, lq = dic_case.generator(case, case.meta["weights"], case.meta["state_dict"]), inputs(case)["x"]
    output = net(lq, every_step=True)
    for step, (sr, heatmaps) in enumerate(zip(*output, strict=True)):
        check_output(case, f"sr_step{step}", sr, "network")
        check_output(case, f"heatmap_step{step}", heatmaps, "network")
    case.check(
        "number of parameters", sum(value.numel() for value in net.parameters()), case.meta["parameters"], "exact"
    )
    case.check("default output", net(lq), output.sr[-1], "exact")


@torch.no_grad()
def first_block(case):
    """The recovery block of the first step alone."""
    args = case.meta["constructor"]
    net = load_filled(case, FirstBlock(args["num_features"], args["num_groups"]), KEYS["DICNet"], "first_block.")
    check_output(case, "out", net(inputs(case)["feature"]), "block")


@torch.no_grad()
def attentive_block(case):
    """The recovery block of the later steps, called twice."""
    args, values = case.meta["constructor"], inputs(case)
    net = AttentiveBlock(args["num_features"], args["num_groups"], args["num_fusion_block"])
    load_filled(case, net, KEYS["DICNet"], "block.")
    prepared, state = net.prepare(values["feature"]), values["hidden"]
    for call in (1, 2):
        state = net(prepared, state, values["heatmap"])
        check_output(case, f"out_call{call}", state, "block")


@torch.no_grad()
def fusion(case):
    """The attentive fusion alone."""
    args, values = case.meta["constructor"], inputs(case)
    net = AttentiveFusion(args["feat_channel_in"], args["num_block"])
    load_filled(case, net, KEYS["DICNet"], "block.fusion_block.")
    check_output(case, "out", net(values["feature"], values["heatmap"]), "block")


def merging(case):
    """Merged heatmaps of each layout, and the gradient of their weighted sum."""
    seed = case.meta["input"]["seed"]
    for count in (5, 68, 194):
        heatmaps = np.float32(1.2) * uniform(f"heatmap_{count}", (2, count, 16, 16), seed) - np.float32(0.6)
        heatmaps[:, ::2] *= np.float32(0.05)
        heatmaps = torch.from_numpy(heatmaps).requires_grad_()
        merged = merge_heatmaps(heatmaps, torch.from_numpy(group_matrix(count)))
        cotangent = 2 * uniform(f"cotangent_{count}", tuple(merged.shape), seed) - 1
        (merged * torch.from_numpy(cotangent)).sum().backward()
        check_output(case, f"out_{count}", merged.detach(), "block")
        check_output(case, f"grad_{count}", heatmaps.grad, "gradient")
        norm = case.meta["outputs"][f"grad_l2_{count}"]["value"]
        case.check(f"norm of grad_{count}", heatmaps.grad.double().norm(), norm, "gradient.norm")


@torch.no_grad()
def feedback_hourglass(case):
    """Three calls, each with the hidden features of the one before."""
    args, image = case.meta["constructor"], inputs(case)["image"]
    net = FeedbackHourglass(num_landmarks=args["num_keypoints"], num_feat=args["num_feature"])
    load_filled(case, net, KEYS["FeedbackHourglass"])
    hidden = None
    for call in _CALLS:
        heatmaps, hidden = net(image, hidden)
        check_output(case, f"heatmap_call{call}", heatmaps, "network")
        check_output(case, f"hidden_call{call}", hidden, "network")


@torch.no_grad()
def stacked_hourglass(case):
    """Heatmaps and hidden maps without given maps, then heatmaps with them."""
    args, item = case.meta["constructor"], case.meta["input"]["image"]
    net = StackedHourglass(
        num_landmarks=args["num_keypoints"],
        num_feat=args["num_feature"],
        num_stacks=args["num_stack"],
        connect=args["connect_type"],
    )
    load_filled(case, net, KEYS["StackedHourglass"])
    image = inputs(case)["image"]
    found = net(image)
    check_output(case, "heatmap_call1", found.heatmaps, "network")
    for index, hidden in enumerate(found.hidden):
        check_output(case, f"hidden{index}_call1", hidden, "network")
    given = [
        torch.from_numpy(2 * uniform(f"hidden{index}", tuple(hidden.shape), item["seed"]) - 1)
        for index, hidden in enumerate(found.hidden)
    ]
    check_output(case, "heatmap_call2", net(image, given).heatmaps, "network")


def gradients(case):
    """One DIC loss in float64, which the order of sums does not move, and in float32, with each kind of attention."""
    for detach in (False, True):
        for dtype, family in ((torch.float64, "dic.gradient"), (torch.float32, "dic.gradient.float32")):
            _gradients(case, detach, dtype, family)


def _gradients(case, detach, dtype, family):
    stated = case.meta[f"detach_{detach}"]
    net = dic_case.generator(case, case.meta["weights"], case.meta["state_dict"], detach_attention=detach).to(dtype)
    lq, gt, heatmaps = (torch.from_numpy(value).to(dtype) for value in _batch(case))
    output = net(lq, every_step=True)
    pixel = [F.l1_loss(sr, gt) for sr in output.sr]
    align = [F.mse_loss(predicted, heatmaps) for predicted in output.heatmaps]
    total = sum(pixel) + _ALIGN_WEIGHT * sum(align)
    total.backward()
    losses = {"pixel_by_step": torch.stack(pixel), "align_by_step": torch.stack(align), "total": total}
    for name, found in losses.items():
        case.check(f"{name}, detach {detach}", found.detach(), stated[name], "network")
    grads = KEYS["DICNet"].to_official({key: value.grad for key, value in net.named_parameters()})
    _check_norms(case, grads, stated["grad_norm_by_parameter"], family)
    for name in [name for name in case.arrays if name.startswith(f"grad_detach_{detach}/")]:
        check_output(case, name, grads[name.partition("/")[2]], family)


def _batch(case):
    """LQ and GT images minus the mean, and target heatmaps."""
    batches, net = case.meta["batches"], case.meta["constructor"]
    count, side, seed = batches["B"], batches["LR_size"], batches["seed"] * 100 + 1
    scale = net["scale"]
    lq, gt = (uniform(name, (count, 3, s, s), seed) - MEAN for name, s in (("LR", side), ("HR", side * scale)))
    return lq, gt, uniform("gt_heatmap", (count, net["hg_num_keypoints"], 2 * side, 2 * side), seed)


def _check_norms(case, grads, expected, family):
    assert list(grads) == list(expected)
    for small in (False, True):
        keys = [key for key, norm in expected.items() if (norm < _SMALL_NORM) == small]
        reference = np.array([expected[key] for key in keys])
        found = np.array([grads[key].double().norm() for key in keys])
        limit = f"{family}.small" if small else family
        case.check(f"norms of the gradients, small {small}", found / reference, np.ones(len(keys)), limit)
