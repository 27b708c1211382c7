"""JASRNet against its references."""

import torch

from facesr_plugin.checkpoints import from_official
from facesr_plugin.registry import ARCH_REGISTRY
from parity.recipes import evaluate
from parity.weights import fill_official

_MEAN, _STD = (torch.tensor(values) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
_SHIFTS = {"sub_mean_cpm": -1, "sub_mean": -1, "add_mean": 1}
_ARGS = {
    "nParts": "num_landmarks",
    "n_resblocks": "num_block",
    "n_feats": "num_feat",
    "scale": "upscale",
    "rgb_range": "rgb_range",
}
_PARTS = {
    "sub_mean": "shift_in",
    "add_mean": "shift_out",
    "encoder_a": "encoder1",
    "encoder_a_downsample": "down1",
    "encoder_b1": "encoder2",
    "encoder_b1_downsample": "down2",
    "encoder_b2": "pool",
    "encoder_c1": "encoder3",
    "encoder_c1_downsample": "down3",
    "encoder_c2": "encoder4",
    "features": "body",
    "long_connection": "skip",
    "sr_feature": "sr_body",
    "CPM_feature": "landmark_body",
}


def build(case):
    """Return the network with the case's weights, in eval mode; its shifts are the constants of the released code."""
    stated = case.meta["constructor"]
    converted = from_official("jasrnet", official_state(case))
    assert converted.args == {ours: stated[official] for official, ours in _ARGS.items()}
    net = ARCH_REGISTRY.get(converted.arch)(**converted.args)
    net.load_state_dict(converted.state_dict)
    count = sum(parameter.numel() for parameter in net.parameters())
    case.check("parameters", count, case.meta.get("n_trainable", count), "exact")
    return net.eval()


def official_state(case):
    """Return the case's weights by official key."""
    fill = case.meta["fill"]
    state = fill_official(case.meta["state_dict"], seed=fill["seed"], gain=fill["gain"])
    for name, sign in _SHIFTS.items():
        state[f"{name}.weight"] = torch.diag(1 / _STD).view(3, 3, 1, 1)
        state[f"{name}.bias"] = sign * case.meta["constructor"]["rgb_range"] * _MEAN / _STD
    return state


def network(case):
    """Both heads; in one case the output of every part of the network."""
    net, given = build(case), case.meta["input"]
    x = torch.from_numpy(evaluate(given["recipe"], given))
    found = {}
    parts = {name.removeprefix("feat."): None for name in case.arrays if name.startswith("feat.")}
    for official in parts:
        part = net.get_submodule(_PARTS.get(official, official))
        part.register_forward_hook(lambda _part, _args, output, name=official: found.update({name: output}))
    with torch.no_grad():
        sr, heatmaps = net(x, heads="both")
        assert torch.equal(net(x), sr)
        assert all(map(torch.equal, net(x, heads="landmarks"), heatmaps))
    case.check_array("sr", sr, "network")
    for i, maps in enumerate(heatmaps):
        case.check_array(f"heatmap.{i}", maps, "network")
    for official in parts:
        case.check_array(f"feat.{official}", found[official], "network")
