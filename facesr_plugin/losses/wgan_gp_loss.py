"""WGAN with a penalty of the critic's gradient (Gulrajani et al., 2017), in the form of Progressive FSR (BMVC 2019).

``forward`` takes what BasicSR's ``GANLoss`` takes; a model adds ``gradient_penalty`` to its critic's terms.
The penalty has two sides and is taken per image, unlike that of the program's first version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from facesr_plugin.losses.gan_loss import gan_term
from facesr_plugin.registry import LOSS_REGISTRY

Scores = Tensor | Sequence[Tensor]


def penalty_norms(critic: Callable[[Tensor], Scores], gt: Tensor, sr: Tensor, share: Tensor | None = None) -> Tensor:
    """Return the norms of the critic's gradient at one image between each pair, with the graph for its weights.

    Computed in the precision of the images, also under autocast: half of it spoils second derivatives.

    Args:
        critic: Maps ``(N, C, H, W)`` to scores whose first dimension is N, or to one such tensor per scale. The score
            of an image is the mean over the other dimensions.
        gt: ``(N, C, H, W)`` real images, constants here.
        sr: Restored ones of that shape, constants here.
        share: ``(N, 1, 1, 1)`` of ``gt`` in each image; drawn from U(0, 1) if None.

    Returns:
        ``(S, N)``, by scale, of the gradient of all scores' sum over all values of each image.

    Raises:
        ValueError: If the shapes differ.
    """
    if gt.shape != sr.shape or gt.dim() != 4:
        raise ValueError(f"gt and sr must have one shape (N, C, H, W), got {tuple(gt.shape)} and {tuple(sr.shape)}")
    if share is None:
        share = torch.rand(len(gt), 1, 1, 1, device=gt.device, dtype=gt.dtype)
    between = (share * gt + (1 - share) * sr).detach().requires_grad_()
    with torch.autocast(gt.device.type, enabled=False):
        found = critic(between)
        return torch.stack([_norms(scores, between) for scores in ([found] if isinstance(found, Tensor) else found)])


def _norms(scores: Tensor, images: Tensor) -> Tensor:
    total = scores.reshape(len(images), -1).mean(1).sum()
    (gradient,) = torch.autograd.grad(total, images, create_graph=True)
    return gradient.flatten(1).norm(dim=1)


@LOSS_REGISTRY.register()
class WGANGPLoss(nn.Module):
    r"""Adversarial loss of a critic D whose scores have no bounds.

    .. math::
        L_G &= -w \overline{D(sr)} \\
        L_D &= \overline{D(sr)} - (\overline{D(gt)} - d \overline{D(gt)^2})
               + g \operatorname{mean}_i (\|\nabla D(\hat x_i)\|_2 - 1)^2

    with one x_i on the line between the i-th real and restored image. Scores of several scales are averaged.

    Args:
        loss_weight: w, for the generator only.
        gp_weight: g.
        drift_weight: d, which keeps the scores of real images near 0.

    Raises:
        ValueError: If ``gp_weight`` or ``drift_weight`` is negative.
    """

    def __init__(self, *, loss_weight: float = 1.0, gp_weight: float = 10.0, drift_weight: float = 0.001) -> None:
        super().__init__()
        for name, value in {"gp_weight": gp_weight, "drift_weight": drift_weight}.items():
            if not value >= 0:
                raise ValueError(f"{name} must be 0 or more, got {value}")
        self.loss_weight = loss_weight
        self.gp_weight = gp_weight
        self.drift_weight = drift_weight

    def forward(self, scores: Scores, target_is_real: bool, is_disc: bool = False) -> Tensor:
        """Return one scalar term; L_D is the sum of those for real and for fake, and ``gradient_penalty``.

        Args:
            scores: Large for real: one tensor of any shape, or one per scale.
            target_is_real: Whether the scores should say real.
            is_disc: For the critic: with the drift term for real, and not weighted.

        Raises:
            ValueError: If there are no scores.
        """
        term = gan_term(scores, "wgan", target_is_real, is_disc)
        if not is_disc:
            return self.loss_weight * term
        return term + self.drift_weight * _mean_square(scores) if target_is_real else term

    def gradient_penalty(self, critic: Callable[[Tensor], Scores], gt: Tensor, sr: Tensor) -> Tensor:
        """Return the weighted penalty at images between ``gt`` and ``sr``; arguments as for ``penalty_norms``.

        Its gradient in the critic's weights needs the critic's second derivatives.
        """
        return self.gp_weight * (penalty_norms(critic, gt, sr) - 1).square().mean()


def _mean_square(scores: Scores) -> Tensor:
    scales = [scores] if isinstance(scores, Tensor) else scores
    return torch.stack([score.square().mean() for score in scales]).mean()
