"""SPARNetHD (TIP 2021): blind restoration of aligned faces at 512x512, trained against multi-scale discriminators.

What differs from the released program is order only: the discriminator judges by forwards of its own after the
generator's gradients (the same image and weights), it gets none from them, and the moving average needs no forward to
keep the vectors of its spectral norm right.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from facesr_plugin.models.face_sr_gan_model import FaceSRGANModel
from facesr_plugin.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class SPARNetHDModel(FaceSRGANModel):
    """L_G = 100 pixel + 1 perceptual + 10 feature matching + 1 adversarial as published; see ``options/sparnethd.yml``.

    ``feature_matching_opt`` compares the discriminators' features; every other section but ``gan_opt`` compares (sr,
    gt) in [-1, 1].
    """

    system: ClassVar[str] = "sparnethd"
    own_losses: ClassVar[frozenset[str]] = FaceSRGANModel.own_losses | {"feature_matching"}

    def init_training_settings(self) -> None:
        """As the base; ``feature_matching_opt`` becomes ``self.feature_matching``, None if it is left out."""
        super().init_training_settings()
        self.feature_matching = self.criteria.pop("feature_matching", None)

    def adversarial_losses(self) -> dict[str, Tensor]:
        """The term for real, and feature matching against the features of the ground truth."""
        with torch.no_grad():
            gt = self.net_d(self.gt)
        sr = self.net_d(self.output)
        terms = {"gan": self.gan([judgement.score for judgement in sr], target_is_real=True)}
        if self.feature_matching is not None:
            features = ([judgement.features for judgement in judgements] for judgements in (sr, gt))
            terms["feature_matching"] = self.feature_matching(*features)
        return terms

    def discriminator_losses(self) -> dict[str, Tensor]:
        """Half the terms for real and for fake; with another ``gan_opt`` than the published one, as that says."""
        return {
            "real": self.gan(self._scores(self.gt), target_is_real=True, is_disc=True),
            "fake": self.gan(self._scores(self.output), target_is_real=False, is_disc=True),
            **self.penalty_losses(self._scores),
        }

    def _scores(self, images: Tensor) -> list[Tensor]:
        return [judgement.score for judgement in self.net_d(images)]

    def update_generator(self) -> None:
        """Move the average with the generator of before its step, as the released program does; then step."""
        if self.ema_decay > 0:
            self.model_ema(self.ema_decay)
        self.step(self.optimizer_g)
