"""Whole-module pickles as torch 1.0 wrote them, of the form of the released compressed FAN."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

_FAN_SOURCE = """
from torch import nn


class fan_squeeze(nn.Module):
    def __init__(self, width, landmarks):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 5, padding=2)
        widths = [width, 2 * width, 4 * width, 4 * width]
        layers = []
        for i in range(3):
            layers += [nn.Conv2d(widths[i], widths[i + 1], 3, padding=1), nn.BatchNorm2d(widths[i + 1]), nn.LeakyReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[3], landmarks, 3, padding=1), nn.LeakyReLU())
"""
_BACKEND_SOURCE = """
class Backend:
    def __reduce__(self):
        return _get_thnn_function_backend, ()


def _get_thnn_function_backend():
    return Backend()
"""
_MODERN = (  # attributes that torch 1.0 did not have
    "_backward_pre_hooks",
    "_is_full_backward_hook",
    "_non_persistent_buffers_set",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
    "padding_mode",
    "_reversed_padding_repeated_twice",
)


def make_fan_module(folder: Path, monkeypatch: pytest.MonkeyPatch, *, width: int, landmarks: int) -> nn.Module:
    """Return a network of the released class, as it would be in the memory of torch 1.0.

    Args:
        folder: For the source of its module.
        monkeypatch: Forgets the module after the test.
        width: Of the first convolution.
        landmarks: Heatmaps.
    """
    backend = _import_source(folder, monkeypatch, "torch.nn.backends.thnn", _BACKEND_SOURCE)
    module = _import_source(folder, monkeypatch, "fan_model", _FAN_SOURCE).fan_squeeze(width, landmarks)
    for part in module.modules():
        for name in _MODERN:
            part.__dict__.pop(name, None)
        part.__dict__["_backend"] = backend.Backend()
    return module


def save_whole_module(path: Path, module: nn.Module) -> Path:
    """Write a module in the stream of pickles and storages that torch used before 1.6."""
    torch.save(module, path, _use_new_zipfile_serialization=False)
    return path


def _import_source(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module
