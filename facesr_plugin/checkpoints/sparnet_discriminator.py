"""SPARNetHD's discriminators: official key names and constructor arguments (spec section 2.7 and 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from facesr_plugin.checkpoints.keymap import KeyMap, Rule, nest
from facesr_plugin.checkpoints.sparnet import (
    CONV_LAYER,
    conv_shape,
    count_blocks,
    has_spectral_norm,
    norm_type,
    relu_type,
)
from facesr_plugin.checkpoints.system_format import SystemFormat

_PATCH = nest([Rule("layers.{j}", "model.{j}"), Rule("score", "score_out")], CONV_LAYER)
DISCRIMINATOR_KEYS = KeyMap(nest([Rule("scales.{i}", "D_pool.{i}")], _PATCH))
_PUBLISHED_MAX_CH = 512


def discriminator_args(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find SPARNetDiscriminator's constructor arguments from a state dict with our key names.

    What keys and shapes leave open gets the published value: ``max_ch`` (if no width reaches it), ``leakyrelu``, ``in``
    rather than ``gn``, ``none`` rather than ``pixel``.

    Raises:
        UnsupportedCheckpointError: If a scale or a layer is missing.
    """
    num_d = count_blocks(state_dict, "scales")
    n_layers = count_blocks(state_dict, "scales.0.layers") - 1
    shapes = [conv_shape(state_dict, f"scales.0.layers.{i}") for i in range(n_layers + 1)]
    base_ch, widest = shapes[0][0], shapes[-1][0]
    return {
        "input_ch": shapes[0][1],
        "base_ch": base_ch,
        "max_ch": max(_PUBLISHED_MAX_CH, widest) if widest == base_ch << n_layers else widest,
        "n_layers": n_layers,
        "num_d": num_d,
        "norm_type": norm_type(state_dict),
        "relu_type": relu_type(state_dict),
        "spectral_norm": has_spectral_norm(state_dict),
    }


FORMATS = (
    SystemFormat(
        system="sparnethd",
        arch="SPARNetDiscriminator",
        keys=DISCRIMINATOR_KEYS,
        infer_args=discriminator_args,
        exact_args=("num_d", "n_layers", "spectral_norm"),
    ),
)
