"""System cards: one frozen record per published system with everything that its protocol fixes.

Data sets, training, validation, inference, restoration, evaluation and conversion read the card;
nothing else in the package knows one system from another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

LARGEST_SIZE = 4096
FRAMINGS = ("box", "celeba", "ffhq", "loose")  # see pipeline.aligner


@dataclass(frozen=True)
class Upsampling:
    """How the small image is enlarged before the network.

    Args:
        library: Whose kernel, on 8-bit images: ``pil`` (Pillow) or ``opencv``.
        kernel: ``bicubic`` or ``bilinear``.
    """

    library: str
    kernel: str


@dataclass(frozen=True)
class Reduction:
    """How the small image is made from a face, with Pillow on 8-bit images.

    Args:
        kernel: ``bicubic`` or ``bilinear``, antialiased.
        halving: In steps of 2, each rounded to 8 bits, instead of in one go; the scale is then a power of 2.
    """

    kernel: str
    halving: bool = False

    def factors(self, scale: int) -> list[int]:
        """Return the factors of the resizes that reduce by ``scale``, in order.

        Raises:
            ValueError: If it halves and ``scale`` is no power of 2.
        """
        if not self.halving:
            return [scale]
        if scale < 1 or scale & (scale - 1):
            raise ValueError(f"scale must be a power of 2 to reduce by halves, got {scale}")
        return [2] * (scale.bit_length() - 1)


@dataclass(frozen=True)
class SystemCard:
    """Protocol of one system.

    Args:
        system: Name in options, checkpoints and reports.
        arch: Registered name of its generator.
        lq_size: Side of the published small input, in pixels.
        scale: Published factor from the small input to the restored face.
        mean: Per channel (RGB, [0, 1] scale), subtracted before the network.
        std: Per channel, divided by after ``mean``.
        reduction: From the face to the small input.
        upsampling: Enlargement before the network; None if the network takes the small image.
        size_multiple: Sides of the network's input must be multiples of this.
        output_rounding: To 8 bit: ``truncate`` or ``round`` (half to even).
        framing: How a face has to be cropped, one of ``FRAMINGS``.
        num_landmarks: Points that training needs; 0 for none.
        metric_protocol: Prefix of the system's own metrics: ``calculate_<protocol>_psnr``.
        any_lq_size: Whether a small image of other sides that are multiples of ``size_multiple`` is taken as it is.
        every_step: Whether its network gives images and heatmaps of every step (``every_step=True``).
        landmark_head: Whether its network finds landmarks beside restoring (``heads="both"``).
    """

    system: str
    arch: str
    lq_size: int
    scale: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    reduction: Reduction
    upsampling: Upsampling | None
    size_multiple: int
    output_rounding: str
    framing: str
    num_landmarks: int
    metric_protocol: str
    any_lq_size: bool = False
    every_step: bool = False
    landmark_head: bool = False

    @property
    def gt_size(self) -> int:
        """Side of the published target, in pixels."""
        return self.lq_size * self.scale

    def sized(self, gt_size: int, scale: int | None = None) -> SystemCard:
        """Return the card for a network that was trained for faces of ``gt_size`` pixels, reduced by ``scale``.

        Raises:
            ValueError: If the system cannot have such faces.
        """
        scale = self.scale if scale is None else scale
        step = self.gt_multiple(scale) if scale > 0 else 0
        if not 0 < step <= gt_size <= LARGEST_SIZE or gt_size % step:
            raise ValueError(
                f"faces of {self.system} must have a multiple of {step} pixels, at most {LARGEST_SIZE}, got {gt_size}"
            )
        return replace(self, lq_size=gt_size // scale, scale=scale)

    def gt_multiple(self, scale: int) -> int:
        """Return what sides of faces are multiples of, for the network to take them when ``scale`` reduced them."""
        return scale * self.size_multiple if self.upsampling is None else math.lcm(scale, self.size_multiple)

    def in_range(self, rgb_range: float) -> SystemCard:
        """Return the card for a network whose colours reach to ``rgb_range`` instead of 1."""
        return replace(self, std=tuple(value / rgb_range for value in self.std))


CARDS: dict[str, SystemCard] = {
    card.system: card
    for card in (
        SystemCard(
            system="sparnet",
            arch="SPARNet",
            lq_size=16,
            scale=8,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            reduction=Reduction("bicubic"),
            upsampling=Upsampling("pil", "bicubic"),
            size_multiple=8,
            output_rounding="truncate",
            framing="loose",
            num_landmarks=0,
            metric_protocol="sparnet",
        ),
        SystemCard(
            system="sparnethd",
            arch="SPARNet",
            lq_size=512,
            scale=1,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            reduction=Reduction("bicubic"),
            upsampling=Upsampling("pil", "bicubic"),
            size_multiple=16,
            output_rounding="truncate",
            framing="ffhq",
            num_landmarks=0,
            metric_protocol="sparnet",
        ),
        SystemCard(
            system="progressive",
            arch="ProgressiveFSRNet",
            lq_size=16,
            scale=8,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            reduction=Reduction("bilinear", halving=True),
            upsampling=None,
            size_multiple=1,
            output_rounding="round",
            framing="celeba",
            num_landmarks=0,
            metric_protocol="progressive",
        ),
        SystemCard(
            system="jasrnet",
            arch="JASRNet",
            lq_size=16,
            scale=8,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            reduction=Reduction("bicubic"),
            upsampling=Upsampling("opencv", "bicubic"),
            size_multiple=8,
            output_rounding="round",
            framing="box",
            num_landmarks=68,
            metric_protocol="jasrnet",
            landmark_head=True,
        ),
        SystemCard(
            system="dic",
            arch="DICNet",
            lq_size=16,
            scale=8,
            mean=(0.509, 0.424, 0.378),
            std=(1.0, 1.0, 1.0),
            reduction=Reduction("bicubic"),
            upsampling=None,
            size_multiple=8,
            output_rounding="round",
            framing="loose",
            num_landmarks=68,
            metric_protocol="dic",
            any_lq_size=True,
            every_step=True,
        ),
    )
}


def get_card(system: str) -> SystemCard:
    """Return the card of a system.

    Raises:
        ValueError: If there is no such system; the message lists the known ones.
    """
    if system not in CARDS:
        raise ValueError(f"system must be one of {', '.join(CARDS)}, got {system!r}")
    return CARDS[system]
