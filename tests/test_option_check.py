"""The check of whole option files: every shipped file passes, what cannot work does not."""

from __future__ import annotations

from typing import Any

import pytest
from basicsr.utils import registry

from facesr_plugin.option_check import check_options
from facesr_plugin.utils.option_file import load_option_file, shipped_options

REGISTRIES = {kind: getattr(registry, f"{kind.upper()}_REGISTRY") for kind in ("dataset", "loss", "metric", "model")}


def check(options: dict[str, Any], is_train: bool = True) -> None:
    check_options(options, is_train, REGISTRIES)


@pytest.mark.parametrize("name", list(shipped_options()))
def test_every_shipped_file_passes(name: str) -> None:
    check(load_option_file(shipped_options()[name]), is_train=not name.startswith("test_"))


def test_option_files_of_other_models_are_left_to_basicsr() -> None:
    check({"model_type": "SRModel", "something": "of its own"})


def test_unknown_model_is_refused_before_anything_else() -> None:
    with pytest.raises(ValueError, match="^model_type must be a registered name, got None"):
        check({})
