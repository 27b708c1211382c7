"""Adversarial objectives of SPARNetHD (TIP 2021, as released) over the scores of several discriminators.

What differs from BasicSR's ``GANLoss``: a term is the mean over scales, the discriminator's terms are halved, and the
soft objective stands beside it. The released ``wgangp`` has no penalty and is called ``wgan`` here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.registry import LOSS_REGISTRY

# objective -> penalty of each score that should say real, and of each that should say fake
OBJECTIVES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "hinge": (lambda score: F.relu(1 - score), lambda score: F.relu(1 + score)),
    "lsgan": (lambda score: (score - 1).square(), torch.square),
    "vanilla": (lambda score: F.softplus(-score), F.softplus),  # binary cross-entropy of the logits
    "wgan": (torch.neg, lambda score: score),
    "softwgan": (lambda score: F.softplus(-score), F.softplus),
}


def gan_term(scores: Tensor | Sequence[Tensor], objective: str, target_is_real: bool, is_disc: bool) -> Tensor:
    """Return the mean over scales of the mean penalty of the scores, without any factor.

    Args:
        scores: Logits of any shape, or one tensor per scale.
        objective: Key of ``OBJECTIVES``.
        target_is_real: Whether the scores should say real.
        is_disc: For the discriminator; the generator's hinge term is ``-mean(score)``.

    Raises:
        ValueError: If there are no scores, or for hinge a generator's target that is not real.
    """
    scales = [scores] if isinstance(scores, Tensor) else list(scores)
    if not scales:
        raise ValueError("scores must have at least one scale, got none")
    penalty = OBJECTIVES[objective][0 if target_is_real else 1]
    if objective == "hinge" and not is_disc:
        if not target_is_real:
            raise ValueError("target_is_real must be true for the generator's hinge term, got False")
        penalty = torch.neg
    return torch.stack([penalty(score).mean() for score in scales]).mean()


@LOSS_REGISTRY.register()
class SPARNetGANLoss(nn.Module):
    r"""Adversarial loss; the arguments of ``forward`` are those of BasicSR's ``GANLoss``.

    With p_i the scores of scale i of S, for the hinge objective:

    .. math::
        L_G = \frac wS \sum_i -\overline{p_i(sr)} \qquad
        L_D = \frac1S \sum_i \tfrac12 (\overline{\max(0, 1 - p_i(gt))} + \overline{\max(0, 1 + p_i(sr))})

    ``lsgan`` has (p - 1)^2 for real and p^2 for fake, ``vanilla`` and ``softwgan`` softplus(-p) and softplus(p),
    ``wgan`` -p and p (no penalty of the gradient); their generator's term is that for real.

    Args:
        gan_type: ``hinge``, ``lsgan``, ``vanilla``, ``wgan`` or ``softwgan``.
        loss_weight: w, for the generator only.

    Raises:
        ValueError: If ``gan_type`` is unknown.
    """

    def __init__(self, *, gan_type: str = "hinge", loss_weight: float = 1.0) -> None:
        super().__init__()
        if gan_type not in OBJECTIVES:
            raise ValueError(f"gan_type must be one of {', '.join(OBJECTIVES)}, got {gan_type!r}")
        self.gan_type = gan_type
        self.loss_weight = loss_weight

    def forward(self, scores: Tensor | Sequence[Tensor], target_is_real: bool, is_disc: bool = False) -> Tensor:
        """Return one scalar term; L_D is the sum of the terms for real and for fake.

        Args:
            scores: Logits, large for real: one tensor, or one per scale.
            target_is_real: Whether the scores should say real.
            is_disc: For the discriminator: halved and not weighted.

        Raises:
            ValueError: As ``gan_term``.
        """
        term = gan_term(scores, self.gan_type, target_is_real, is_disc)
        return term / 2 if is_disc else self.loss_weight * term
