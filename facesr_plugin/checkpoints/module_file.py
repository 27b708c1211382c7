"""The state dict of a network that was saved as a whole module, as the released compressed FAN is (spec section 6.2).

Its classes are read as inert records: their tables of parameters, buffers and children are walked, nothing is built.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.rebuild import Stub

# All that the released file names beside tensors; every other class is refused.
MODULE_STUBS = (
    "fan_model.fan_squeeze",
    "torch.nn.modules.conv.Conv2d",
    "torch.nn.modules.batchnorm.BatchNorm2d",
    "torch.nn.modules.activation.LeakyReLU",
    "torch.nn.modules.container.Sequential",
    "torch.nn.backends.thnn._get_thnn_function_backend",
)


def module_state_dict(module: Stub) -> dict[str, Tensor]:
    """Return what the module's ``state_dict()`` would.

    Args:
        module: Record of a pickled ``torch.nn.Module``.

    Raises:
        UnsupportedCheckpointError: If it, or a child, is none.
    """
    state: dict[str, Tensor] = {}
    _collect(module, "", state)
    return state


def _collect(module: Any, prefix: str, state: dict[str, Tensor]) -> None:
    for table in ("_parameters", "_buffers"):
        for name, value in _table(module, table, prefix).items():
            if value is not None:
                state[prefix + name] = value
    for name, child in _table(module, "_modules", prefix).items():
        if child is not None:
            _collect(child, f"{prefix}{name}.", state)


def _table(module: Any, name: str, prefix: str) -> dict[str, Any]:
    place = prefix.removesuffix(".")[:80] or "module"
    if not isinstance(module, Stub) or not isinstance(module.state, dict):
        raise UnsupportedCheckpointError(f"its {place!r} is no pickled module")
    table = module.state.get(name)
    if not isinstance(table, dict) or any(not isinstance(key, str) or "." in key for key in table):
        raise UnsupportedCheckpointError(f"its {place!r} has no table of names under {name}")
    return table
