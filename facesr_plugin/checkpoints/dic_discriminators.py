"""Discriminators and feature network of DICGAN: key names, official and of mmagic, and arguments (spec sections 2.8-6).

The official feature file is flat. A discriminator lies in the file of its generator, below ``netD``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from facesr_plugin.checkpoints.dic import below, prefixed
from facesr_plugin.checkpoints.dic_hourglass import MMAGIC, SYSTEM
from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.keymap import KeyMap, Rule, chain, nest
from facesr_plugin.checkpoints.system_format import Dialect, SystemFormat

_FEATURE_CH, _REDUCTION = 128, 16

_OFFICIAL_FEATURES = chain(
    [Rule("head.conv", "features.0.filter")],
    nest(
        (Rule(f"groups.{i}", f"features.{place}") for i, place in enumerate((2, 4, 6, 7))),
        (Rule("mix.conv", "conv_a.filter"), Rule("filter.conv", "conv.filter")),
    ),
)
_MMAGIC_FEATURES = (
    Rule("head.conv", "features.0.filter"),
    Rule("groups.0.mix.conv", "features.2.filter"),
    Rule("groups.0.filter.conv", "features.3.filter"),
    Rule("groups.1.mix.conv", "features.5.filter"),
    Rule("groups.1.filter.conv", "features.6.filter"),
    Rule("groups.2.mix.conv", "features.8.filter"),
    Rule("groups.2.filter.conv", "features.9.filter"),
    Rule("groups.3.mix.conv", "features.10.filter"),
    Rule("groups.3.filter.conv", "features.11.filter"),
)


def _discriminator_keys(features: tuple[Rule, ...]) -> KeyMap:
    below_features = (Rule(f"features.{rule.ours}", rule.official, rule.order) for rule in features)
    return KeyMap(
        chain(below_features, [Rule("hidden", "classifier.0.filter"), Rule("score", "classifier.2")]),
    )


FEATURE_KEYS = KeyMap(_OFFICIAL_FEATURES)
DISCRIMINATOR_KEYS = _discriminator_keys(_OFFICIAL_FEATURES)

_PAIR = (Rule("conv1", "conv.0"), Rule("conv2", "conv.2"))
UNET_KEYS = KeyMap(
    chain(
        nest(
            (
                Rule("head", "model.inc.conv"),
                Rule("down.{i-1}", "model.down{i}.mpconv.1"),
                Rule("up.{i-1}", "model.up{i}.conv"),
            ),
            _PAIR,
        ),
        [Rule("tail", "model.outc.conv")],
    )
)


def feature_args(_state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return LightCNNFeature's constructor arguments: none."""
    return {}


def discriminator_args(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find LightCNNDiscriminator's constructor arguments from a state dict with our key names.

    Raises:
        UnsupportedCheckpointError: If the first linear layer is missing or not that of square images.
    """
    shape = tuple(state_dict["hidden.weight"].shape) if "hidden.weight" in state_dict else None
    side = math.isqrt(shape[1] // _FEATURE_CH) if shape and len(shape) == 2 else 0
    if not side or shape[1] != _FEATURE_CH * side**2:
        raise UnsupportedCheckpointError(f"hidden.weight must have shape (512, 128 * s^2), got {shape}")
    return {"image_size": _REDUCTION * side}


def unet_args(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find UNetFeatureDiscriminator's constructor arguments from a state dict with our key names."""
    return {"feature_only": not any(key.startswith(("up.", "tail.")) for key in state_dict)}


# The feature network comes first: its keys are some of the discriminator's.
FORMATS = (
    SystemFormat(
        SYSTEM,
        "LightCNNFeature",
        FEATURE_KEYS,
        feature_args,
        others=(Dialect(MMAGIC, KeyMap(_MMAGIC_FEATURES)),),
    ),
    SystemFormat(
        SYSTEM,
        "LightCNNDiscriminator",
        DISCRIMINATOR_KEYS,
        discriminator_args,
        exact_args=("image_size",),
        wrap=below("netD"),
        others=(Dialect(MMAGIC, _discriminator_keys(_MMAGIC_FEATURES), prefixed("discriminator.")),),
        parts=(("LightCNNFeature", "features."),),
    ),
    SystemFormat(
        SYSTEM, "UNetFeatureDiscriminator", UNET_KEYS, unet_args, exact_args=("feature_only",), wrap=below("netD")
    ),
)
