"""Distillation of the small alignment network of Progressive FSR (BMVC 2019): from a teacher, or from known landmarks.

Source: the authors' distillation program, withdrawn in 2019 (mean squared error to the last heatmaps of 2DFAN-4, which
sees the 64x64 faces enlarged four times). What differs from it: the teacher is in eval mode and builds no graph; a
validation measures the landmarks; without a teacher the targets are Gaussians about known landmarks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from basicsr.archs import build_network
from torch import Tensor

from facesr_plugin.models.face_sr_model import FaceSRModel
from facesr_plugin.models.validation import Result
from facesr_plugin.ops.heatmap import decode_subpixel, render_gaussian
from facesr_plugin.ops.protocol import normalise
from facesr_plugin.registry import MODEL_REGISTRY

_TEACHER = "network_teacher"
_TEACHER_SCALE = 4  # its heatmaps have a quarter of its input's side


@MODEL_REGISTRY.register()
class FANDistillModel(FaceSRModel):
    """L = sum of the ``train.<name>_opt`` terms on (heatmaps, targets); published: one mean squared error (Sec. 3).

    A batch is ``lq``, faces in RGB [0, 1] as the network takes them, and ``landmarks`` ``(N, K, 2)`` in its pixels.
    With ``network_teacher`` its last heatmaps of the enlarged faces are the targets, and landmarks serve validation
    only; without, Gaussians of ``train.sigma`` pixels (default 1.5) and height 1 about the landmarks are.

    Args:
        opt: BasicSR's options, of which ``train`` as ``FaceSRModel``, and ``sigma``; ``val.metrics`` are metrics of
            landmarks (``calculate_nme`` ...), taken over all faces at once.

    Raises:
        ValueError: As ``FaceSRModel``; if the teacher lacks weights, would not survive a resume, or there is neither
            teacher nor landmarks.
    """

    system: ClassVar[str] = "progressive"
    train_keys: ClassVar[frozenset[str]] = FaceSRModel.train_keys | {"sigma"}

    def __init__(self, opt: dict[str, Any]) -> None:
        opt = {key: value for key, value in opt.items() if key != _TEACHER or value}
        if opt["is_train"]:
            for problem in self.find_problems(opt):
                raise ValueError(problem)
        super().__init__(opt)

    @classmethod
    def find_problems(cls, options: dict[str, Any]) -> Iterator[str]:
        """Report a run that would stop at its first batch, or at its first resume."""
        path, data = options["path"], (options.get("datasets") or {}).get("train") or {}
        if not options.get(_TEACHER):
            if data.get("landmarks") is False:
                yield "datasets.train.landmarks must not be false without network_teacher: nothing to learn"
            return
        if not path.get(f"pretrain_{_TEACHER}"):
            yield (
                f"path.pretrain_{_TEACHER} must name the weights of the teacher, got none. Set {_TEACHER}: ~ to learn "
                "from the landmarks of the data set instead."
            )
        if _TEACHER not in (path.get("ignore_resume_networks") or []):
            yield (
                f"path.ignore_resume_networks must have {_TEACHER}: BasicSR would look for the teacher among the run's "
                f"own checkpoints when it resumes. Set ignore_resume_networks: [{_TEACHER}]"
            )

    def init_training_settings(self) -> None:
        """As the base; the teacher is built and frozen."""
        self.sigma = self.opt["train"].get("sigma", 1.5)
        self.net_teacher = None
        if _TEACHER in self.opt:
            teacher = build_network(self.opt[_TEACHER]).to(self.device, memory_format=self._memory_format)
            self.load_network(teacher, self.opt["path"][f"pretrain_{_TEACHER}"])
            self.net_teacher = teacher.requires_grad_(False).eval()
        super().init_training_settings()

    # One iteration

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch: ``lq`` and, if it has them, ``landmarks``."""
        batch = self._take(data, ("lq", "landmarks"))
        self.lq = batch["lq"].contiguous(memory_format=self._memory_format)
        self.landmarks = batch.get("landmarks")

    def train_on_batch(self) -> dict[str, Tensor]:
        """One step towards the targets, which the criteria take as ``gt``."""
        self.gt = self.make_targets()
        return super().train_on_batch()

    @torch.no_grad()
    def make_targets(self) -> Tensor:
        """Heatmaps that the network should give for ``self.lq``: ``(N, K, H, W)``."""
        if self.net_teacher is None:
            return render_gaussian(self.landmarks, tuple(self.lq.shape[-2:]), self.sigma)
        large = F.interpolate(self.lq, scale_factor=_TEACHER_SCALE, mode="bilinear", align_corners=False)
        return self.net_teacher(large)[-1]

    def generator_losses(self) -> dict[str, Tensor]:
        """The terms on (heatmaps, targets).

        Raises:
            ValueError: If the network has another number of landmarks than the teacher or the data.
        """
        if self.output.shape != self.gt.shape:
            raise ValueError(
                f"network_g must have heatmaps of the targets' shape {tuple(self.gt.shape)}, got "
                f"{tuple(self.output.shape)}. Set network_g.num_landmarks: {self.gt.shape[1]}"
            )
        return super().generator_losses()

    # Validation and test

    def current_results(self) -> dict[str, Result]:
        """The faces, as they came, with the points that the heatmaps show."""
        faces = normalise(self.lq, self.card)
        return {"": Result(faces, decode_subpixel(self.output).float(), restored=False, heatmaps=self.output)}
