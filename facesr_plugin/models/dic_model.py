"""DIC (CVPR 2020): recovery and landmark branch in turns, a pixel and a heatmap term in every step.

Source: the authors' training program. What differs: heatmaps are made on the device, from landmarks that went through
the augmentation with the image; when the hourglass is released is an option that must be said, and one that would stay
untrained is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from facesr_plugin.cards import SystemCard, get_card
from facesr_plugin.models.building import find_wrong_int
from facesr_plugin.models.dic_heatmaps import make_targets, results_of_steps, shows_steps
from facesr_plugin.models.divergence import warn_of_huge
from facesr_plugin.models.face_sr_model import FaceSRModel
from facesr_plugin.models.landmarks import find_missing_landmarks, find_wrong_sigma
from facesr_plugin.models.validation import Result
from facesr_plugin.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class DICModel(FaceSRModel):
    """L = sum over steps t of pixel(sr_t, gt) + align(heatmaps_t, targets), with the other terms on the last sr alone.

    A batch has ``landmarks`` ``(N, K, 2)`` in pixels of ``gt`` unless ``align_opt`` is left out.

    Args:
        opt: BasicSR's options, of which ``train`` as ``FaceSRModel``, and ``pixel_opt`` (required), ``align_opt``,
            ``sigma`` of the Gaussians in heatmap pixels (default 1) and ``hourglass_freeze_iter``: iterations in which
            the hourglass keeps its weights (required; -1: all of them). ``path.pretrain_network_hourglass`` is a file
            of a FeedbackHourglass, which a run that continues does not read again. ``val.steps`` measures every step.

    Attributes:
        steps: Images and heatmaps of every step, where something needs them; else None.

    Raises:
        ValueError: As ``FaceSRModel``; if an option is missing or wrong, or the hourglass would never learn.
    """

    system: ClassVar[str] = "dic"
    val_keys: ClassVar[tuple[str, ...]] = ("steps",)
    path_keys: ClassVar[tuple[str, ...]] = ("pretrain_network_hourglass",)
    train_keys: ClassVar[frozenset[str]] = FaceSRModel.train_keys | {"sigma", "hourglass_freeze_iter"}
    own_losses: ClassVar[frozenset[str]] = FaceSRModel.own_losses | {"pixel", "align"}
    remedy: ClassVar[str] = "Lower train.optim_g.lr, or start from a pretrained hourglass (options/dic_hourglass.yml)."

    def __init__(self, opt: dict[str, Any]) -> None:
        self.steps = None
        if opt["is_train"]:
            for problem in self.find_problems(opt):
                raise ValueError(problem)
        super().__init__(opt)

    @classmethod
    def find_problems(cls, options: dict[str, Any]) -> Iterator[str]:
        """Report missing terms and landmarks, wrong sizes, and an hourglass that would never learn."""
        train = options["train"]
        if not train.get("pixel_opt"):
            yield "train.pixel_opt must be a section, the loss of every step's image, got none"
        yield from find_wrong_sigma(train, "heatmap pixels")
        wrong = list(find_wrong_int("train.hourglass_freeze_iter", train.get("hourglass_freeze_iter"), least=-1))
        yield from wrong or _find_hourglass_problems(options)
        if train.get("align_opt"):
            yield from find_missing_landmarks(options, "align_opt")
        yield from _find_size_problems(options, get_card(cls.system))

    def init_training_settings(self) -> None:
        """Take the weights of the hourglass, then as the base; ``align_opt`` becomes ``self.align``."""
        path = self.opt["path"]
        if path.get("pretrain_network_hourglass") and not path.get("resume_state"):
            self.load_network(self._hourglass, path["pretrain_network_hourglass"], param_key="params_ema")
        super().init_training_settings()
        self.sigma = self.opt["train"].get("sigma", 1.0)
        self.pixel = self.criteria.pop("pixel")
        self.align = self.criteria.pop("align", None)
        if self.align is not None:
            self.batch_fields = (*self.batch_fields, "landmarks")

    @property
    def _hourglass(self) -> nn.Module:
        return self.get_bare_model(self.net_g).hourglass

    # One iteration

    def optimize_parameters(self, current_iter: int) -> None:
        """One iteration; the hourglass learns in those after ``hourglass_freeze_iter``."""
        freeze = self.opt["train"]["hourglass_freeze_iter"]
        self._released = 0 <= freeze < current_iter
        super().optimize_parameters(current_iter)

    def idle_parts(self) -> Sequence[nn.Module]:
        """The hourglass until it is released or if no gradient reaches it; without later steps also their block."""
        net = self.get_bare_model(self.net_g)
        steps = net.num_steps > 1
        reached = self.align is not None or (steps and not net.detach_attention)
        return [*([] if self._released and reached else [net.hourglass]), *([] if steps else [net.block])]

    def predict(self, net: nn.Module) -> Tensor:
        """Restore; all steps are kept in ``self.steps`` where losses, landmarks or ``val.steps`` need them."""
        wanted = net.training or self.landmarks is not None or shows_steps(self.opt)
        self.steps = net(self.lq, every_step=True) if wanted else None
        return self.steps.sr[-1] if wanted else net(self.lq)

    def generator_gradients(self) -> dict[str, Tensor]:
        """As the base; the graph of the steps ends with it."""
        losses = super().generator_gradients()
        self.steps = None
        return losses

    def generator_losses(self) -> dict[str, Tensor]:
        """The terms over all steps, then those of the last image."""
        return {**self.step_losses(), **super().generator_losses()}

    def step_losses(self) -> dict[str, Tensor]:
        """The terms over all steps: ``pixel`` and ``align``."""
        terms = {"pixel": sum(self.pixel(sr, self.gt) for sr in self.pixel_images(self.steps.sr))}
        if self.align is not None:
            targets = make_targets(self.landmarks, self.gt, self.steps.heatmaps[-1], self.sigma)
            terms["align"] = sum(self.align(heatmaps, targets) for heatmaps in self.steps.heatmaps)
        return terms

    def pixel_images(self, images: Sequence[Tensor]) -> Sequence[Tensor]:
        """The images of the steps that the pixel term adds up: all."""
        return images

    def get_current_log(self) -> dict[str, float]:
        """The losses of the last iteration; huge ones are a warning."""
        log = super().get_current_log()
        warn_of_huge(log, self.remedy)
        return log

    # Validation and test

    def current_results(self) -> dict[str, Result]:
        """The last image, with its landmarks if the data set has some; with ``val.steps`` also ``step1`` and so on."""
        if self.steps is None:
            return super().current_results()
        return results_of_steps(*self.steps, every=shows_steps(self.opt))

    def forget_batch(self) -> None:
        """As the base, with what the steps gave."""
        super().forget_batch()
        self.steps = None


def _find_size_problems(options: dict[str, Any], card: SystemCard) -> Iterator[str]:
    scale, step = options.get("scale", card.scale), card.gt_multiple(card.scale)
    if scale != card.scale:
        yield f"scale must be {card.scale}, the only one that {card.arch} has, got {scale!r}"
    for phase, section in (options.get("datasets") or {}).items():
        side = section.get("gt_size")
        if isinstance(side, int) and side % step:
            yield f"datasets.{phase}.gt_size must be a multiple of {step}, since the hourglass halves it, got {side}"


def _find_hourglass_problems(options: dict[str, Any]) -> Iterator[str]:
    path, freeze = options.get("path") or {}, options["train"]["hourglass_freeze_iter"]
    starts = [path.get(name) for name in ("pretrain_network_hourglass", "pretrain_network_g")]
    if path.get("resume_state"):
        return
    if all(starts):
        yield (
            "path.pretrain_network_hourglass must be empty with path.pretrain_network_g, whose file has an hourglass, "
            f"got {starts[0]!r}"
        )
    if freeze != 0 and not any(starts):
        yield (
            f"train.hourglass_freeze_iter must be 0 without weights of the hourglass, which would stay untrained, got "
            f"{freeze}. Pretrain it (options/dic_hourglass.yml) and name its file in path.pretrain_network_hourglass, "
            "or set 0 to learn all at once."
        )
