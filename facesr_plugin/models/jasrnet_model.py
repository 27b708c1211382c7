"""JASRNet (AAAI 2020): a tiny face is restored and its landmarks are found, both from one shared encoder.

Source: the authors' training program. What differs: targets are drawn on the device, from landmarks that went through
the augmentation with the image; a head whose loss does not count is not computed; the best checkpoint may be the one
with the best landmarks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from basicsr.utils.registry import METRIC_REGISTRY
from torch import Tensor, nn

from facesr_plugin.cards import SystemCard, get_card
from facesr_plugin.metrics.building import is_of_points
from facesr_plugin.models.face_sr_model import FaceSRModel
from facesr_plugin.models.landmarks import check_landmarks, find_missing_landmarks, find_wrong_sigma
from facesr_plugin.models.validation import Result
from facesr_plugin.ops.heatmap_targets import KINDS, SIGMA_PX, STRIDE, are_inside, decode_centroid, render_targets
from facesr_plugin.ops.protocol import prepare_input
from facesr_plugin.registry import MODEL_REGISTRY

_LANDMARK_OPT = "landmark_opt"
_HEADS = {(True, False): "sr", (False, True): "landmarks", (True, True): "both"}


@MODEL_REGISTRY.register()
class JASRNetModel(FaceSRModel):
    """L = landmark(heatmaps, targets, mask) + the sum of the other ``train.<name>_opt`` terms on (sr, gt).

    A batch has ``landmarks`` ``(N, K, 2)`` in pixels of ``gt`` unless ``landmark_opt`` does not count; points beside
    the picture are neither learned nor measured. A section that is left out, or has ``loss_weight`` 0, does not count;
    a head without such a section is computed neither in training nor in its validation. A test computes both.

    Args:
        opt: BasicSR's options, of which ``train`` as ``FaceSRModel``, and ``landmark_opt`` (CPMLoss), ``sigma`` of the
            targets in pixels of ``gt`` (default 4) and their ``heatmap``: ``gaussian`` (default) or ``laplacian``.
            ``scale`` is the factor by which faces were reduced, ``network_g.upscale`` (8) that of the network's tail.

    Attributes:
        heads: What the network computes: ``sr``, ``landmarks`` or ``both``.
        heatmaps: Of the last forward, by stage; None without landmark head.

    Raises:
        ValueError: As ``FaceSRModel``; if no loss counts, one lacks what it needs, or a metric measures a head that
            nothing trains.
    """

    system: ClassVar[str] = "jasrnet"
    train_keys: ClassVar[frozenset[str]] = FaceSRModel.train_keys | {"sigma", "heatmap"}
    own_losses: ClassVar[frozenset[str]] = FaceSRModel.own_losses | {"landmark"}

    def __init__(self, opt: dict[str, Any]) -> None:
        self.heads, self.heatmaps = "both", None
        if opt["is_train"]:
            for problem in self.find_problems(opt):
                raise ValueError(problem)
            opt = {**opt, "train": _without_idle_losses(opt["train"])}
            self.heads = _heads(opt["train"])
        super().__init__(opt)
        self.card = self.card.in_range(opt["network_g"].get("rgb_range", 1.0))

    @classmethod
    def find_problems(cls, options: dict[str, Any]) -> Iterator[str]:
        """Report losses, sizes and metrics that cannot work, and missing landmarks."""
        train = _without_idle_losses(options["train"])
        if not any(key.endswith("_opt") for key in train):
            yield "train must have a loss section with a loss_weight above 0, such as pixel_opt, got none"
            return
        heads = _heads(train)
        yield from _find_size_problems(options, get_card(cls.system))
        if heads != "landmarks":
            yield from _find_image_problems(options)
        if heads != "sr":
            yield from _find_landmark_problems(options, train)
        yield from _find_idle_metrics(options, heads)

    def init_training_settings(self) -> None:
        """As the base; ``landmark_opt`` becomes ``self.landmark``, None if it does not count."""
        super().init_training_settings()
        train_opt = self.opt["train"]
        self.sigma, self.kind = train_opt.get("sigma", SIGMA_PX), train_opt.get("heatmap", "gaussian")
        self.landmark = self.criteria.pop("landmark", None)
        if self.landmark is not None:
            self.batch_fields = (*self.batch_fields, "landmarks")

    def idle_parts(self) -> Sequence[nn.Module]:
        """The parts of a head whose loss does not count."""
        return self.get_bare_model(self.net_g).idle_parts(self.heads)

    # One iteration

    def feed_data(self, data: dict[str, Any]) -> None:
        """As the base; without ``gt`` the small images are enlarged by ``scale``."""
        super().feed_data(data)
        if "gt" not in data:
            scale = self.opt.get("scale", self.card.scale)
            size = tuple(scale * side for side in data["lq"].shape[-2:])
            self.lq = prepare_input(data["lq"].to(self.device), self.card, size)

    def predict(self, net: nn.Module) -> Tensor:
        """Restore, or without that head find landmarks; heatmaps are kept in ``self.heatmaps``."""
        made = net(self.lq, heads=self.heads)
        if self.heads == "sr":
            sr, self.heatmaps = made, None
        elif self.heads == "landmarks":
            sr, self.heatmaps = made[-1], made
        else:
            sr, self.heatmaps = made
        return sr

    def generator_gradients(self) -> dict[str, Tensor]:
        """As the base; the graph of the heatmaps ends with it."""
        losses = super().generator_gradients()
        self.heatmaps = None
        return losses

    def generator_losses(self) -> dict[str, Tensor]:
        """The terms on (sr, gt), and that of the heatmaps.

        Raises:
            ValueError: If the batch has no landmarks for it, or another number of points than the network.
        """
        terms = super().generator_losses()
        if self.landmark is not None:
            landmarks = check_landmarks(self.landmarks, self.heatmaps[-1].shape[1] - 1)
            targets = render_targets(landmarks, tuple(self.lq.shape[-2:]), sigma=self.sigma, kind=self.kind)
            terms["landmark"] = self.landmark(self.heatmaps, targets.heatmaps, targets.mask)
        return terms

    # Validation and test

    def current_results(self) -> dict[str, Result]:
        """The restored faces with the points that the last stage shows, or what of both there is."""
        if self.heatmaps is None:
            return super().current_results()
        heatmaps = self.heatmaps[-1][:, :-1].float()
        points = decode_centroid(heatmaps).points
        visible = None if self.landmarks is None else are_inside(self.landmarks, tuple(self.lq.shape[-2:]))
        if self.heads == "landmarks":
            return {"": Result(self.lq, points, restored=False, heatmaps=heatmaps, visible=visible)}
        return {"": Result(self.output, points, heatmaps=heatmaps, visible=visible)}

    def forget_batch(self) -> None:
        """As the base, with the heatmaps."""
        super().forget_batch()
        self.heatmaps = None


def _without_idle_losses(train: dict[str, Any]) -> dict[str, Any]:
    """Leave out the sections of losses that do not count."""
    return {
        key: section
        for key, section in train.items()
        if not key.endswith("_opt") or (section and section.get("loss_weight", 1) != 0)
    }


def _heads(train: dict[str, Any]) -> str:
    losses = {key for key in train if key.endswith("_opt")}
    return _HEADS[bool(losses - {_LANDMARK_OPT}), _LANDMARK_OPT in losses]


def _find_size_problems(options: dict[str, Any], card: SystemCard) -> Iterator[str]:
    scale = options.get("scale", card.scale)
    if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
        yield f"scale must be a whole number, the factor by which faces are reduced, got {scale!r}"
        return
    step = card.gt_multiple(scale)
    for phase, section in (options.get("datasets") or {}).items():
        gt_size = section.get("gt_size") or card.gt_size
        if isinstance(gt_size, int) and gt_size % step:
            yield (
                f"datasets.{phase}.gt_size must be a multiple of {step}, for the scale {scale} and the heatmaps' "
                f"stride {STRIDE}, got {gt_size}"
            )


def _find_image_problems(options: dict[str, Any]) -> Iterator[str]:
    upscale = (options.get("network_g") or {}).get("upscale", STRIDE)
    if upscale != STRIDE:
        yield (
            f"network_g.upscale must be {STRIDE} to restore faces of the ground truth's size, got {upscale!r}. It is "
            "the factor of the network's tail; that by which faces were reduced is scale, at the top of the file."
        )


def _find_landmark_problems(options: dict[str, Any], train: dict[str, Any]) -> Iterator[str]:
    kind = train[_LANDMARK_OPT].get("type")
    if kind != "CPMLoss":
        yield f"train.{_LANDMARK_OPT}.type must be CPMLoss, which takes the heatmaps of all stages, got {kind!r}"
    yield from find_wrong_sigma(train, "pixels")
    if train.get("heatmap", "gaussian") not in tuple(KINDS):
        yield f"train.heatmap must be one of {', '.join(KINDS)}, got {train['heatmap']!r}"
    yield from find_missing_landmarks(options, _LANDMARK_OPT)


def _find_idle_metrics(options: dict[str, Any], heads: str) -> Iterator[str]:
    for name, section in ((options.get("val") or {}).get("metrics") or {}).items():
        if not section or heads == "both" or section.get("type") not in METRIC_REGISTRY:
            continue
        if is_of_points(section) and heads == "sr":
            yield f"val.metrics.{name} must be ~ without train.{_LANDMARK_OPT}: nothing trains what it measures"
        if not is_of_points(section) and heads == "landmarks":
            yield f"val.metrics.{name} must be ~ without a loss of images: nothing trains what it measures"
