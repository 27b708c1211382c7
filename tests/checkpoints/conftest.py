from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Return what writes a file of torch and returns its path."""

    def write(content: Any, name: str = "file.pth") -> Path:
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write
