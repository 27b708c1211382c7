"""Face super-resolution for BasicSR: Progressive FSR, DIC, SPARNet and JASRNet.

Importing the package makes sure that the start-up hook is in place, so that a later (or an earlier)
``import basicsr`` knows the package's networks; it imports neither torch nor BasicSR itself.

``facesr_plugin.load(weights)`` returns a restorer of aligned faces and of whole photos.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import _facesr_autoload
from facesr_plugin.version import __version__

if TYPE_CHECKING:
    from facesr_plugin.pipeline.restorer import Restorer

__all__ = ["__version__", "load", "register"]

_facesr_autoload.install()


def register() -> None:
    """Import, repair and extend BasicSR now; needed only with ``FACESR_AUTOLOAD=0``.

    Raises:
        ImportError: If BasicSR is not installed.
    """
    _facesr_autoload.install(force=True)
    from facesr_plugin.registry import register as register_all

    register_all()


def load(weights: str | os.PathLike, **settings: Any) -> Restorer:
    """Load weights to restore aligned faces and whole photos; see ``facesr_plugin.pipeline.restorer.load``."""
    from facesr_plugin.pipeline.restorer import load as load_restorer

    return load_restorer(weights, **settings)
