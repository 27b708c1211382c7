"""Pretraining of DIC's landmark branch (CVPR 2020) on ground-truth faces.

Source: what its authors say of it in their tracker (squared error of the heatmaps, summed over the recurrent steps);
neither program nor settings were released.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor, nn

from facesr_plugin.models.building import find_wrong_int
from facesr_plugin.models.dic_heatmaps import make_targets, results_of_steps, shows_steps
from facesr_plugin.models.divergence import warn_of_huge
from facesr_plugin.models.face_sr_model import FaceSRModel
from facesr_plugin.models.landmarks import find_wrong_sigma
from facesr_plugin.models.validation import Result
from facesr_plugin.ops.protocol import normalise
from facesr_plugin.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class DICHourglassModel(FaceSRModel):
    """L = sum over steps t, and over the ``train.<name>_opt`` terms, of term(heatmaps_t, targets).

    In every step the network sees the same face, with the hidden features of the step before. A batch is ``lq``, faces
    in RGB [0, 1] as ``LandmarkDataset`` gives them, and ``landmarks`` ``(N, K, 2)`` in their pixels.

    Args:
        opt: BasicSR's options, of which ``train`` as ``FaceSRModel``, ``sigma`` of the Gaussians in heatmap pixels
            (default 1) and ``num_steps`` (default 4).

    Raises:
        ValueError: As ``FaceSRModel``; if an option is wrong.
    """

    system: ClassVar[str] = "dic"
    batch_fields: ClassVar[tuple[str, ...]] = ("lq", "landmarks")
    val_keys: ClassVar[tuple[str, ...]] = ("steps",)
    train_keys: ClassVar[frozenset[str]] = FaceSRModel.train_keys | {"sigma", "num_steps"}
    remedy: ClassVar[str] = "Lower train.optim_g.lr: a wide network needs 1e-4."

    def __init__(self, opt: dict[str, Any]) -> None:
        if opt["is_train"]:
            for problem in self.find_problems(opt):
                raise ValueError(problem)
        train = opt.get("train") or {}
        self.sigma, self.num_steps = train.get("sigma", 1.0), train.get("num_steps", 4)
        self.steps: list[Tensor] = []
        super().__init__(opt)

    @classmethod
    def find_problems(cls, options: dict[str, Any]) -> Iterator[str]:
        """Report wrong numbers, and data without landmarks."""
        train = options["train"]
        yield from find_wrong_sigma(train, "heatmap pixels")
        yield from find_wrong_int("train.num_steps", train.get("num_steps", 4), least=1)
        data = (options.get("datasets") or {}).get("train") or {}
        if data.get("landmarks") is False:
            yield "datasets.train.landmarks must not be false: there would be nothing to learn"

    # One iteration

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch: ``lq`` and, if it has them, ``landmarks``."""
        batch = self._take(data, ("lq", "landmarks"))
        self.lq = normalise(batch["lq"], self.card).contiguous(memory_format=self._memory_format)
        self.landmarks = batch.get("landmarks")

    def predict(self, net: nn.Module) -> Tensor:
        """Return the last heatmaps of ``self.lq``, ``(N, K, H / 4, W / 4)``; all are kept in ``self.steps``."""
        self.steps, hidden = [], None
        for _ in range(self.num_steps):
            heatmaps, hidden = net(self.lq, hidden)
            self.steps.append(heatmaps)
        return heatmaps

    def generator_gradients(self) -> dict[str, Tensor]:
        """As the base; the graph of the steps ends with it."""
        losses = super().generator_gradients()
        self.steps = []
        return losses

    def generator_losses(self) -> dict[str, Tensor]:
        """The terms over all steps."""
        targets = make_targets(self.landmarks, self.lq, self.output, self.sigma)
        return {name: sum(loss(maps, targets) for maps in self.steps) for name, loss in self.criteria.items()}

    def get_current_log(self) -> dict[str, float]:
        """The losses of the last iteration; huge ones are a warning."""
        log = super().get_current_log()
        warn_of_huge(log, self.remedy)
        return log

    # Validation and test

    def current_results(self) -> dict[str, Result]:
        """The faces as they came with the landmarks of the last step; with ``val.steps`` also ``step1`` and so on."""
        faces = [self.lq] * len(self.steps)
        return results_of_steps(faces, self.steps, every=shows_steps(self.opt), restored=False)

    def forget_batch(self) -> None:
        """As the base, with what the steps gave."""
        super().forget_batch()
        self.steps = []
