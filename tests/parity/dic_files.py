"""Key names of DIC's networks in the second public implementation."""

import torch

from facesr_plugin.checkpoints import from_official, to_official
from facesr_plugin.registry import ARCH_REGISTRY

_ARCHS = {"generator": "DICNet", "discriminator": "LightCNNDiscriminator"}
_HOURGLASS = ("HG.", "hour_glass.")


def key_map(case):
    """Every released key of the published networks with its counterpart, in the released order; and the way back."""
    for name, arch in _ARCHS.items():
        _check(arch, case.meta[name])
    table = case.meta["generator"].items()
    _check(
        "FeedbackHourglass",
        {
            official.removeprefix(_HOURGLASS[0]): theirs.removeprefix(_HOURGLASS[1])
            for official, theirs in table
            if official.startswith(_HOURGLASS[0])
        },
    )


def _check(arch, table):
    with torch.device("meta"):
        ours = ARCH_REGISTRY.get(arch)().state_dict()
    args = from_official("dic", to_official("dic", ours, {})).args
    official, theirs = (to_official("dic", ours, args, dialect) for dialect in ("official", "mmagic"))
    keys = {id(value): key for key, value in theirs.items()}
    assert [(key, keys[id(value)]) for key, value in official.items()] == list(table.items())
    back = from_official("dic", theirs, dialect="mmagic")
    assert (back.arch, back.args) == (arch, args)
    assert all(back.state_dict[key] is value for key, value in ours.items())
