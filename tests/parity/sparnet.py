"""Adapters of SPARNet: one function per family of reference cases."""

import re
from dataclasses import replace

import numpy as np
import torch

from facesr_plugin.archs.arch_util import LayerStyle
from facesr_plugin.archs.sparnet_arch import AttentionHourglass, FaceAttentionUnit
from facesr_plugin.archs.sparnet_discriminator_arch import SPARNetDiscriminator
from facesr_plugin.cards import get_card
from facesr_plugin.checkpoints import from_official
from facesr_plugin.checkpoints.sparnet import GENERATOR_KEYS
from facesr_plugin.checkpoints.sparnet_discriminator import DISCRIMINATOR_KEYS
from facesr_plugin.data.transforms import ZoomDraw, make_lq, zoom
from facesr_plugin.metrics.image_metric import psnr
from facesr_plugin.ops.color import luma_truncated
from facesr_plugin.ops.protocol import prepare_input, quantise, to_float
from facesr_plugin.ops.resize import resize_pil
from facesr_plugin.registry import ARCH_REGISTRY, METRIC_REGISTRY
from parity.recipes import assignments, count_rounds, evaluate, take_slice
from parity.sparnet_align import align_paste
from parity.sparnet_data import degradation_ops
from parity.sparnet_losses import feature_matching, gan
from parity.sparnet_perceptual import perceptual
from parity.sparnet_train import train_step, train_step_hd
from parity.weights import fill_official

CARD = get_card("sparnet")
_DISCRIMINATOR_ARGS = {"num_D": "num_d"}


# Networks


def generator(case):
    """Whole generators: output, attention maps, statistics, counts; buffers after a forward in train mode."""
    meta = case.meta
    args = {**meta["constructor"], "spectral_norm": _has_spectral_norm(case)}
    converted = from_official(case.system, _weights(case), args)
    net = ARCH_REGISTRY.get(converted.arch)(**converted.args)
    case.check("num_parameters", sum(value.numel() for value in net.parameters()), meta["num_parameters"], "exact")
    case.check("num_state_entries", len(net.state_dict()), len(meta["state_dict"]), "exact")
    maps = _hook_attention(net)
    out = _run(case, net, converted.state_dict).numpy()
    case.check_array("out", take_slice(out, meta.get("output_slice", "full")), "network")
    slices = {name: text for name, _shape, text in meta["attention_arrays"]}
    for name in [name for name in case.arrays if name.startswith("att.")]:
        block = name.removeprefix("att.").removesuffix(".mean")
        (key,) = GENERATOR_KEYS.to_ours({f"{block}.att_func.out_block.0.conv2d.weight": None})
        case.check_array(name, take_slice(maps[key.removesuffix(".out.conv.weight")], slices[name]), "network")
    _check_statistics(case, out)
    _check_after(case, net)


def residual_block(case):
    """One residual block: output and attention map."""
    arguments = case.meta["constructor"]
    block = FaceAttentionUnit(
        arguments["c_in"],
        arguments["c_out"],
        style=_style(case),
        scale=arguments["scale"],
        depth=arguments["hg_depth"],
        attention=arguments["att_name"],
    )
    maps = _hook_attention(block)
    case.check_array("out", _run(case, block, _block_weights(case, "encoder.1.")), "block")
    if maps:
        case.check_array("att", maps["attention"], "block")
    _check_after(case, block, "encoder.1.")


def hourglass(case):
    """The attention branch alone; ``out`` is the input times the map."""
    arguments = case.meta["constructor"]
    block = AttentionHourglass(arguments["c_in"], arguments["c_out"], _style(case), depth=arguments["depth"])
    attention = _run(case, block, _block_weights(case, "encoder.1.att_func.")).numpy()
    case.check_array("att", attention, "block")
    case.check_array("out", _input(case).numpy() * attention, "block")
    _check_after(case, block, "encoder.1.att_func.")


def discriminator(case):
    """Multi-scale discriminators: scores, features, the image pyramid; vectors of spectral norm after a forward."""
    arguments = {_DISCRIMINATOR_ARGS.get(name, name): value for name, value in case.meta["constructor"].items()}
    net = SPARNetDiscriminator(**arguments, spectral_norm=_has_spectral_norm(case))
    case.check("num_parameters", sum(v.numel() for v in net.parameters()), case.meta["num_parameters"], "exact")
    images = []
    for scale in net.scales:
        scale.register_forward_pre_hook(lambda _module, inputs: images.append(inputs[0].numpy()))
    judgements = _run(case, net, DISCRIMINATOR_KEYS.to_ours(_weights(case)))
    full = {f"input.{i}": value for i, value in enumerate(images)}
    for i, judgement in enumerate(judgements):
        full[f"score.{i}"] = judgement.score.numpy()
        full |= {f"feat.{i}.{j}": value.numpy() for j, value in enumerate(judgement.features)}
    slices = {name: (shape, text) for name, shape, text, *_ in case.meta["features"]}
    for name in case.arrays:
        if not name.startswith("after."):
            shape, text = slices.get(name, (full[name].shape, "full"))
            case.check(f"shape of {name}", full[name].shape, shape, "exact")
            case.check_array(name, take_slice(full[name], text), "network")
    _check_after(case, net, keys=DISCRIMINATOR_KEYS)


def _style(case):
    arguments = case.meta["constructor"]
    return LayerStyle(arguments["norm_type"].lower(), arguments["relu_type"].lower(), _has_spectral_norm(case))


def _has_spectral_norm(case):
    return bool(case.meta.get("spectral_norm"))


def _rounds(case):
    """Return the power iterations that the field ``spectral_norm`` (a text or a record with one) asks for."""
    stated = case.meta.get("spectral_norm")
    return count_rounds(stated["uv_recipe"] if isinstance(stated, dict) else stated) if stated else 0


def _weights(case):
    meta = case.meta
    return fill_official(meta["state_dict"], seed=meta["seed"], gain=meta.get("gain", 1.0), rounds=_rounds(case))


def _block_weights(case, prefix):
    """Rename a block's keys as those of a whole generator in which the block stands at ``prefix``."""
    renamed = GENERATOR_KEYS.to_ours({prefix + key: value for key, value in _weights(case).items()})
    ours = prefix.replace("att_func", "attention")
    return {key.removeprefix(ours): value for key, value in renamed.items()}


def _input(case):
    return torch.from_numpy(evaluate(case.meta["input"], {"seed": case.meta["seed"]}))


def _hook_attention(module):
    """Return a dict that a forward fills with the attention maps by module name."""
    maps = {}
    for name, part in module.named_modules():
        if isinstance(part, AttentionHourglass):
            part.register_forward_hook(lambda _part, _input, output, name=name: maps.update({name: output.numpy()}))
    return maps


def _run(case, module, weights):
    """Load the weights, run once in the mode of the case, return the output."""
    mode = case.meta["mode"].split()[0]
    if mode not in ("train", "eval"):
        raise ValueError(f"mode must start with train or eval, got {case.meta['mode']!r}")
    module.load_state_dict(weights)
    module.train(mode == "train")
    with torch.no_grad():
        return module(_input(case))


def _check_statistics(case, out):
    out = out.astype(np.float64)
    actual = {"mean": out.mean(), "std": out.std(ddof=1), "absmax": abs(out).max(), "abs_sum_float64": abs(out).sum()}
    for name, expected in case.meta.get("output_stats", {}).items():
        if name == "mean":  # is as exact as the values that it sums, however small it is itself
            largest = case.meta["output_stats"]["absmax"]
            case.check("output_stats.mean", actual[name] / largest + 1, expected / largest + 1, "statistics")
        else:
            case.check(f"output_stats.{name}", actual[name], expected, "statistics")


def _check_after(case, module, prefix="", keys=GENERATOR_KEYS):
    """Compare ``after.<official key>`` with the buffers after the forward."""
    state = module.state_dict()
    for name in case.arrays:
        if name.startswith("after."):
            (key,) = keys.to_ours({prefix + name.removeprefix("after."): None})
            case.check_array(name, state[key.removeprefix(prefix.replace("att_func", "attention"))], "network")


# Images


def tensor_to_image(case):
    """The network's range to 8 bits: truncated as the card says, and rounded."""
    output = torch.from_numpy(assignments(case.meta["inputs"], {"seed": case.meta["seed"]})["x"])
    for name, rounding in (("uint8_truncated", "truncate"), ("rounded", "round")):
        image = quantise(output, replace(CARD, output_rounding=rounding))[0].permute(1, 2, 0)
        case.check_array(name, image, "data")
    case.check("the card's rounding", CARD.output_rounding == "truncate", True, "exact")


def lr_pairs(case):
    """Small input, enlarged input, its normalised form, and the zoom with given draws; all from a rebuilt image."""
    meta = case.meta
    if meta["tensor"] != "(uint8 / 255 - 0.5) / 0.5, CHW, RGB":
        raise ValueError(f"the tensor's formula is not known: {meta['tensor']!r}")
    photos = {}
    for index, part in enumerate(meta["cases"]):
        name, photo = _rebuild_photo(part["hr"], meta["seed"])
        photos[name] = photo
        if name in case.arrays:
            case.check_array(name, photo, "data")
        lq = make_lq(photo, part["scale"], CARD.reduction)
        case.check_array(f"lr.{index}", lq, "data")
        prepared = prepare_input(to_float(_to_batch(lq)), CARD, photo.shape[:2])
        enlarged = quantise(prepared, replace(CARD, output_rounding="round"))[0].permute(1, 2, 0).numpy()
        stride = part["up_stride"]
        case.check_array(f"up.{index}", enlarged[::stride, ::stride], "data")
        case.check(f"mean of up.{index}", enlarged.mean(), part["up_mean"], "statistics")
        expected = (_to_batch(enlarged).to(torch.float32) / 255 - 0.5) / 0.5
        case.check(f"tensor of up.{index}", prepared, expected, "data")
    if "zoom" in meta:
        zoomed = meta["zoom"]
        source = photos[zoomed["source"]]
        draw = ZoomDraw(zoomed["scale_factor"], **zoomed["crop"])
        case.check("enlarged size", [int(draw.factor * side) for side in source.shape[:2]], zoomed["resized"], "exact")
        case.check_array("zoom.0", zoom(source, draw, "official"), "data")


def _rebuild_photo(text, seed):
    """Return name and pixels of ``PIL bicubic resize to 128x128 of floor(256*uniform('hr.0', (16,16,3), seed))``."""
    found = re.fullmatch(r"PIL (bicubic|bilinear) resize to (\d+)x(\d+) of (.+)", text)
    if found is None:
        raise ValueError(f"no recipe of a photo: {text!r}")
    blocks = evaluate(found[4], {"seed": seed}).astype(np.uint8)
    photo = resize_pil(_to_batch(blocks), (int(found[3]), int(found[2])), found[1])
    return re.search(r"uniform\('([^']+)'", text)[1], photo[0].permute(1, 2, 0).numpy()


def _to_batch(image):
    """Turn (H, W, 3) uint8 into (1, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


def metric(case):
    """The registered PSNR and SSIM of the protocol on stored image pairs."""
    names = {f"{name}_y": f"calculate_{CARD.metric_protocol}_{name}" for name in ("psnr", "ssim")}
    for index, expected in enumerate(case.meta["cases"]):
        gt, sr = (case.arrays[f"{name}.{index}"] for name in ("gt", "test"))
        case.check(f"size of {index}", gt.shape[:2], expected["size"], "exact")
        for field, name in names.items():
            value = METRIC_REGISTRY.get(name)(sr[..., ::-1], gt[..., ::-1])
            case.check(f"{field} of {index}", value, expected[field], "metric")
        case.check(f"psnr_rgb of {index}", psnr(sr, gt), expected["psnr_rgb"], "metric")
        if f"y_of_gt.{index}" in case.arrays:
            case.check_array(f"y_of_gt.{index}", luma_truncated(gt), "data")


FAMILIES_BY_NETWORK = {
    "SPARNet generator": generator,
    "ResidualBlock": residual_block,
    "HourGlassBlock": hourglass,
    "MultiScaleDiscriminator": discriminator,
}
FAMILIES_BY_PREFIX = {
    "train_step": train_step,
    "train_step_hd": train_step_hd,
    "align_paste": align_paste,
    "tensor_to_image": tensor_to_image,
    "metric_": metric,
    "data_lr_pairs": lr_pairs,
    "degradation_ops": degradation_ops,
    "loss_feature_matching": feature_matching,
    "loss_gan": gan,
    "loss_perceptual": perceptual,
}
