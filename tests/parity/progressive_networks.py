"""Networks of the progressive system against their references."""

import torch

from facesr_plugin.archs.fan_arch import CompressedFAN
from facesr_plugin.checkpoints.fan import COMPRESSED_KEYS
from facesr_plugin.checkpoints.progressive import CRITIC_KEYS, GENERATOR_KEYS
from helpers.training import build_model
from parity.progressive_case import build, build_filled, check_norms, check_output, inputs

_DISTILLATION = {"optim_g": {"type": "Adam", "lr": 1e-4}, "heatmap_opt": {"type": "MSELoss"}}


def generator(case):
    """Outputs by step and alpha; in train mode the running statistics after one forward from a fresh fill."""
    net = build(case)
    fresh = {key: value.clone() for key, value in net.state_dict().items()}
    for name, call in case.meta["calls"].items():
        net.load_state_dict(fresh)
        with torch.no_grad():
            check_output(case, name, net(inputs(case)["input"], **call), "network")
        _check_buffers(case, f"{name}/", net, GENERATOR_KEYS)


def generator_gradient(case):
    """Gradient of the input and norms of the parameters' gradients in a train-mode pass."""
    net, values = build(case), inputs(case)
    lq = values["input"].requires_grad_()
    (net(lq, case.meta["step"], case.meta["alpha"]) * values["cotangent"]).sum().backward()
    check_output(case, "grad_input", lq.grad, "gradient.train")
    check_norms(case, "grad_norms", net, GENERATOR_KEYS, "gradient.train.norm")


def critic(case):
    """Scores by step and alpha, gradient of the images, norms of the parameters' gradients."""
    net, values = build(case), inputs(case)
    for name, call in case.meta["calls"].items():
        tone = values[f"tone_step{call['step']}"]
        x = (0.6 * values[f"input_step{call['step']}"] + 0.8 * tone).requires_grad_()
        net.zero_grad(set_to_none=True)
        scores = net(x, **call)
        scores.sum().backward()
        check_output(case, name, scores.detach(), "network")
        check_output(case, f"{name}/grad_input", x.grad, "gradient")
        check_norms(case, f"{name}/grad_norms", net, CRITIC_KEYS, "gradient.norm")


def compressed_fan(case):
    """Heatmaps, their peaks and where they are; in train mode the running statistics."""
    net = build(case)
    with torch.no_grad():
        heatmaps = net(inputs(case)["input"])
    flat = heatmaps.flatten(2)
    check_output(case, "heatmaps", heatmaps, "network")
    check_output(case, "peak", flat.amax(2), "network")
    check_output(case, "argmax", flat.argmax(2).int(), "exact")
    _check_buffers(case, "buffer/", net, COMPRESSED_KEYS)


def teacher_fan(case):
    """Heatmaps of every stack, and the distillation loss of a student with the same fill."""
    net, values, meta = build(case), inputs(case), case.meta
    with torch.no_grad():
        for i, heatmaps in enumerate(net(values["input"])):
            check_output(case, f"stack{i}", heatmaps, "network")
    model = build_model("FANDistillModel", {"type": "CompressedFAN"}, _DISTILLATION)
    model.net_teacher = net
    model.net_g.load_state_dict(build_filled(_student_keys(), meta["seed"], 1.5, train=True).state_dict())
    model.feed_data({"lq": values["input64"]})
    model.optimize_parameters(1)
    check_output(case, "distill_target", model.gt, "network")
    check_output(case, "distill_loss", model.get_current_log()["l_g_heatmap"], "network")


def _check_buffers(case, prefix, net, keys):
    state = net.state_dict()
    for name in [name for name in case.arrays if name.startswith(prefix)]:
        (key,) = keys.to_ours({name.removeprefix(prefix): None})
        check_output(case, name, state[key], "network")


def _student_keys():
    with torch.device("meta"):
        state = CompressedFAN().state_dict()
    return [(key, tuple(value.shape)) for key, value in COMPRESSED_KEYS.to_official(state).items()]
