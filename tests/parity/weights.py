"""Weights of a reference: filled under the official names, then renamed to ours."""

import math

import numpy as np
import torch

from helpers.fill import fill_state


def fill_official(state_dict, *, seed, gain=1.0, rounds=0):
    """Return filled tensors by official key.

    Args:
        state_dict: ``[key, shape]`` pairs in order.
        seed: Of the fill.
        gain: Factor of every tensor of two or more dimensions, or factors by the last part of the key with a
            ``default``; the word ``sqrt_fan_in`` stands for the root of the product of all sizes but the first.
        rounds: Power iterations for ``weight_u`` and ``weight_v``, if there are any.
    """
    state = fill_state({key: tuple(shape) for key, shape in state_dict}, seed)
    gains = gain if isinstance(gain, dict) else {"default": gain}
    for key, value in state.items():
        if value.ndim >= 2:
            state[key] = value * _factor(gains.get(key.rpartition(".")[2], gains["default"]), value.shape)
    for u in [key for key in state if key.endswith("weight_u")]:
        layer = u.removesuffix("u")
        state[u], state[f"{layer}v"] = _power_iterations(state[f"{layer}orig"], state[u], rounds)
    return {key: torch.from_numpy(np.array(value)) for key, value in state.items()}


def _factor(gain, shape):
    return np.float32(math.sqrt(math.prod(shape[1:])) if gain == "sqrt_fan_in" else gain)


def _power_iterations(weight, u, rounds):
    if rounds < 1:
        raise ValueError(f"spectral norm needs at least one round, got {rounds}")
    matrix, u = weight.reshape(len(weight), -1).astype(np.float64), u.astype(np.float64)
    for _ in range(rounds):
        v = matrix.T @ u
        v /= np.linalg.norm(v)
        u = matrix @ v
        u /= np.linalg.norm(u)
    return u.astype(np.float32), v.astype(np.float32)
