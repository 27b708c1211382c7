"""Weights of a reference: filled under the official names, then renamed to ours."""

import numpy as np
import torch

from helpers.fill import fill_state


def fill_official(state_dict, *, seed, gain=1.0, rounds=0):
    """Return filled tensors by official key.

    Args:
        state_dict: ``[key, shape]`` pairs in order.
        seed: Of the fill.
        gain: Factor of every tensor of two or more dimensions.
        rounds: Power iterations for ``weight_u`` and ``weight_v``, if there are any.
    """
    state = fill_state({key: tuple(shape) for key, shape in state_dict}, seed)
    for key, value in state.items():
        if value.ndim >= 2:
            state[key] = value * np.float32(gain)
    for key in [key for key in state if key.endswith("weight_orig")]:
        u, v = f"{key.removesuffix('orig')}u", f"{key.removesuffix('orig')}v"
        state[u], state[v] = _power_iterations(state[key], state[u], rounds)
    return {key: torch.from_numpy(np.array(value)) for key, value in state.items()}


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
