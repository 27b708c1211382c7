"""SPARNet (TIP 2021), pixel loss only: 16x16 to 128x128."""

from __future__ import annotations

from typing import ClassVar

from facesr_plugin.models.face_sr_model import FaceSRModel
from facesr_plugin.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class SPARNetModel(FaceSRModel):
    """L = sum of the ``train.<name>_opt`` terms on (sr, gt) in [-1, 1]; published: one L1 of weight 1 (Sec. III)."""

    system: ClassVar[str] = "sparnet"
