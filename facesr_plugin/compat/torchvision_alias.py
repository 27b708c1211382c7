"""``functional-tensor``: BasicSR 1.4.2 imports a module that torchvision 0.17 dropped.

Without it ``import basicsr`` fails as a whole. The alias itself lives in ``_facesr_autoload``, because it must be
there before BasicSR is imported; this record only lists it.
"""

from __future__ import annotations

import sys

from _facesr_autoload import ALIAS
from facesr_plugin.compat.patch import Patch


def _needed() -> bool:
    module = sys.modules.get(ALIAS)
    return module is not None and type(module.__spec__.loader).__name__ == "_AliasLoader"


FUNCTIONAL_TENSOR = Patch(
    name="functional-tensor",
    reason="basicsr 1.4.2 imports torchvision.transforms.functional_tensor, gone since torchvision 0.17",
    needed=_needed,
    apply=lambda: None,
)
