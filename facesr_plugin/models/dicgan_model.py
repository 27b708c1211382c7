"""DICGAN (CVPR 2020): DIC, fine-tuned with the features of a face recogniser and against a discriminator.

Source: the authors' training program, and the second public implementation (mmagic), whose schedule ``gan_start_iter``
and ``d_steps`` give. What differs: the released program adds up the pixel term of the last image T times instead of
those of the T images, which ``pixel_steps: released`` does too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor

from facesr_plugin.models.building import find_wrong_int
from facesr_plugin.models.dic_model import DICModel
from facesr_plugin.models.face_sr_gan_model import FaceSRGANModel
from facesr_plugin.registry import MODEL_REGISTRY

PIXEL_STEPS = ("all", "released")


@MODEL_REGISTRY.register()
class DICGANModel(FaceSRGANModel, DICModel):
    """L_G = DIC's terms + feature(sr_T, gt) + gan(D(sr_T)); L_D = gan(D(gt)) + gan(D(sr_T)), published by BCE.

    Args:
        opt: As DICModel and FaceSRGANModel; ``train`` takes besides them ``pixel_steps``: ``all`` (default), or
            ``released``; ``gan_start_iter``: iterations with DIC's terms alone (default 0); and ``d_steps``: steps of
            the discriminator in an iteration (default 1).

    Raises:
        ValueError: As these; if an option is wrong, or the generator would start untrained against a discriminator.
    """

    train_keys: ClassVar[frozenset[str]] = (
        FaceSRGANModel.train_keys | DICModel.train_keys | {"pixel_steps", "gan_start_iter", "d_steps"}
    )
    own_losses: ClassVar[frozenset[str]] = FaceSRGANModel.own_losses | DICModel.own_losses

    @classmethod
    def find_problems(cls, options: dict[str, Any]) -> Iterator[str]:
        """Report as DICModel, and wrong options of the schedule, and a start from scratch."""
        yield from super().find_problems(options)
        train, path = options["train"], options.get("path") or {}
        if train.get("pixel_steps", "all") not in PIXEL_STEPS:
            yield f"train.pixel_steps must be one of {', '.join(PIXEL_STEPS)}, got {train['pixel_steps']!r}"
        start = train.get("gan_start_iter", 0)
        yield from find_wrong_int("train.d_steps", train.get("d_steps", 1), least=1)
        yield from find_wrong_int("train.gan_start_iter", start, least=0)
        if (options.get("network_d") or {}).get("feature_only"):
            yield "network_d.feature_only must be false, got True: features alone are no scores"
        if not start and not path.get("pretrain_network_g") and not path.get("resume_state"):
            yield (
                "path.pretrain_network_g must name weights of DIC (options/dic.yml), got none: users saw these losses "
                "explode from scratch. Or set train.gan_start_iter: 10000 for one run of both."
            )

    def pixel_images(self, images: Sequence[Tensor]) -> Sequence[Tensor]:
        """The images of all steps; as released, the last one as often."""
        if self.opt["train"].get("pixel_steps") == "released":
            return [images[-1]] * len(images)
        return images

    # One iteration

    def optimize_parameters(self, current_iter: int) -> None:
        """One iteration; the discriminator takes part in those after ``gan_start_iter``."""
        self._against = current_iter > self.opt["train"].get("gan_start_iter", 0)
        super().optimize_parameters(current_iter)

    def generator_losses(self) -> dict[str, Tensor]:
        """All terms; until ``gan_start_iter`` those over all steps."""
        return super().generator_losses() if self._against else self.step_losses()

    def adversarial_losses(self) -> dict[str, Tensor]:
        """The term for real of the last image."""
        return {"gan": self.gan(self._scores(self.output), target_is_real=True)}

    @property
    def steps_between(self) -> bool:
        """Whether the discriminator steps more than once."""
        return self.opt["train"].get("d_steps", 1) > 1

    def train_discriminator(self) -> dict[str, Tensor]:
        """The steps on the image of before the generator's step; none until ``gan_start_iter``."""
        losses: dict[str, Tensor] = {}
        for _ in range(self.opt["train"].get("d_steps", 1) if self._against else 0):
            losses = super().train_discriminator()
        return losses

    def discriminator_losses(self) -> dict[str, Tensor]:
        """The terms for real and for fake; with another ``gan_opt`` than the published one, as that says."""
        return {
            "real": self.gan(self._scores(self.gt), target_is_real=True, is_disc=True),
            "fake": self.gan(self._scores(self.output), target_is_real=False, is_disc=True),
            **self.penalty_losses(self._scores),
        }

    def _scores(self, images: Tensor) -> Tensor:
        return self.net_d(images)
