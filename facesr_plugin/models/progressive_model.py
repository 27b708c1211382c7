"""Progressive FSR (BMVC 2019): 16x16 to 32x32, then 64x64, then 128x128, against a critic that grows with it.

Source: the authors' training program, withdrawn in 2019; the critic judges what the generator makes after its step, as
there. What differs: one run goes through all stages and can be stopped anywhere; only what a stage names is computed;
the critic judges restored and real images in one pass, and landmarks are found once for both losses that need them (the
same numbers).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel

from facesr_plugin.models.face_sr_gan_model import FaceSRGANModel, find_missing_opponent
from facesr_plugin.models.stages import Place, read_schedule
from facesr_plugin.ops.protocol import denormalise, normalise, reduce_faces
from facesr_plugin.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class ProgressiveFSRModel(FaceSRGANModel):
    """L_G = sum of the losses that a stage names, by its weights; see ``options/progressive.yml``.

    ``gan_opt`` is the critic's; every other section compares (sr, gt) in [-1, 1]. Stage and fade-in follow from the
    number of the iteration. Ground truth of a stage is the data's, reduced in 8 bits as the card says.

    Args:
        opt: BasicSR's options; ``train.stages`` is a list of ``Stage``. ``accumulate`` must be 1.

    Attributes:
        call: ``step`` and ``alpha`` of the networks.

    Raises:
        ValueError: As ``FaceSRGANModel`` and ``read_schedule``; if ``accumulate`` is not 1.
    """

    system: ClassVar[str] = "progressive"
    train_keys: ClassVar[frozenset[str]] = FaceSRGANModel.train_keys | {"stages"}

    def __init__(self, opt: dict[str, Any]) -> None:
        if opt["is_train"]:
            for problem in self.find_problems(opt):
                raise ValueError(problem)
            self.schedule = read_schedule(opt)
            self._go_to(1)
        super().__init__(opt)

    @classmethod
    def find_problems(cls, options: dict[str, Any]) -> Iterator[str]:
        """Report what the critic lacks, stages that do not fit, and gradients in parts."""
        yield from find_missing_opponent(options)
        try:
            read_schedule(options)
        except ValueError as error:
            yield str(error)
        parts = options["train"].get("accumulate", 1)
        if parts != 1:
            yield (
                f"train.accumulate must be 1: the critic compares the images of a whole batch, got {parts}. "
                "Use a smaller batch_size_per_gpu."
            )

    # Stages

    def _go_to(self, iteration: int) -> None:
        """Take the place of an iteration in the schedule."""
        self.place: Place = self.schedule.at(iteration)
        self.call = {"step": self.place.stage.step, "alpha": self.place.alpha}

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """As the base; then at the place of the state's iteration."""
        super().resume_training(resume_state)
        self._go_to(resume_state["iter"])

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch; its ground truth becomes ``self.gt`` when the step is known."""
        super().feed_data(data)
        self._face = vars(self).pop("gt", None)

    def _make_gt(self, side: int) -> Tensor:
        """The batch's faces with ``side`` pixels.

        Raises:
            ValueError: If they have other pixels than that or a multiple.
        """
        factor, rest = divmod(self._face.shape[-1], side)
        if rest or not factor:
            raise ValueError(
                f"gt must have {side} pixels or a multiple, as the result of {self.lq.shape[-1]} pixels, got "
                f"{self._face.shape[-1]}. Set scale at the top of the option file to that of the last stage."
            )
        if factor == 1:
            return self._face
        return normalise(reduce_faces(denormalise(self._face, self.card), self.card, factor), self.card)

    # One iteration

    def optimize_parameters(self, current_iter: int) -> None:
        """One iteration of its stage."""
        self._go_to(current_iter)
        self.gt = self._make_gt(self.lq.shape[-1] * self.place.stage.scale)
        super().optimize_parameters(current_iter)

    def idle_parts(self) -> Sequence[nn.Module]:
        """What the networks' current step leaves out."""
        nets = (self.get_bare_model(net) for net in (self.net_g, self.net_d))
        return [part for net in nets for part in net.idle_parts(**self.call)]

    def generator_losses(self) -> dict[str, Tensor]:
        """The terms that the stage names, by its weights."""
        weights = self.place.stage.weights
        terms = self._image_losses([name for name in self.criteria if name in weights])
        if "gan" in weights:
            terms |= self.adversarial_losses()
        return {name: weights[name] * term for name, term in terms.items()}

    def _image_losses(self, names: list[str]) -> dict[str, Tensor]:
        """Terms on (sr, gt); losses with one aligner share its heatmaps."""
        aligners = [self.criteria[name].aligner for name in names if hasattr(self.criteria[name], "aligner")]
        shared = {one: one.pair(self.output, self.gt) for one in set(aligners) if aligners.count(one) > 1}
        terms = {}
        for name in names:
            criterion = self.criteria[name]
            heatmaps = shared.get(getattr(criterion, "aligner", None))
            more = () if heatmaps is None else (heatmaps,)
            terms[name] = criterion(self.output, self.gt, *more)
        return terms

    def adversarial_losses(self) -> dict[str, Tensor]:
        """The term for real."""
        return {"gan": self.gan(self.net_d(self.output, **self.call), target_is_real=True)}

    @property
    def steps_between(self) -> bool:
        """The critic's gradients need the generator's step."""
        return True

    def train_on_batch(self) -> dict[str, Tensor]:
        """One step of the generator, then one of the critic."""
        with self._standing_discriminator():
            losses = self.generator_gradients()
        self.update_generator()
        return losses | self.train_discriminator()

    def train_discriminator(self) -> dict[str, Tensor]:
        """One step on what the generator makes now; none in a stage without ``gan``."""
        if "gan" not in self.place.stage.weights:
            return {}
        with torch.no_grad(), self.precision.autocast():
            self.output = self.predict(self.net_g)
        return super().train_discriminator()

    def discriminator_losses(self) -> dict[str, Tensor]:
        """The terms for real and fake, and the penalty of the critic's gradient."""
        sr, gt = self._scores()
        return {
            "real": self.gan(gt, target_is_real=True, is_disc=True),
            "fake": self.gan(sr, target_is_real=False, is_disc=True),
            **self.penalty_losses(lambda images: self.net_d(images, **self.call)),
        }

    def _scores(self) -> tuple[Tensor, Tensor]:
        """Scores of restored and real images, from one pass.

        ``DataParallel`` would divide that pass among devices without regard to its halves: it gets two.
        """
        if isinstance(self.net_d, DataParallel):
            return self.net_d(self.output, **self.call), self.net_d(self.gt, **self.call)
        sr, gt = self.net_d(torch.cat([self.output, self.gt]), **self.call, groups=2).chunk(2)
        return sr, gt

    def get_current_log(self) -> dict[str, float]:
        """The losses of the last iteration, and where it was."""
        self.log_dict = {**super().get_current_log(), **self.call}
        return self.log_dict

    # Validation and files

    def test(self) -> None:
        """Restore at the current step, and bring the ground truth to the size of the result."""
        super().test()
        if self._face is not None:
            self.gt = self._make_gt(self.output.shape[-1])

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> None:
        """Validate in the size of the current stage."""
        if self.is_train:
            self._go_to(current_iter)
        super().validation(dataloader, current_iter, tb_logger, save_img)

    def is_comparable(self, iteration: int) -> bool:
        """Whether that iteration is in the same stage: faces of other sizes cannot be compared."""
        return not self.is_train or self.schedule.at(iteration).stage is self.place.stage
