"""Multi-scale patch discriminator of SPARNetHD (TIP 2021, as released)."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from facesr_plugin.archs.arch_util import ConvLayer, LayerStyle, check_int, init_weights
from facesr_plugin.ops.upfirdn import halve
from facesr_plugin.registry import ARCH_REGISTRY


class PatchJudgement(NamedTuple):
    """What one patch discriminator says of a batch.

    Args:
        score: ``(N, 1, H', W')`` logits, one per patch; large for real.
        features: Outputs of its layers ``(N, C, H / 2^i, W / 2^i)``, for feature matching.
    """

    score: Tensor
    features: list[Tensor]


class PatchDiscriminator(nn.Module):
    """Judge overlapping patches of an image.

    Args:
        input_ch: Channels of the image.
        base_ch: Width of the first layer, doubled by each further one up to ``max_ch``.
        max_ch: Largest width.
        n_layers: Number of halvings.
        style: Norm, activation and spectral norm; the first layer has no norm.
    """

    def __init__(self, input_ch: int, base_ch: int, max_ch: int, n_layers: int, style: LayerStyle) -> None:
        super().__init__()
        widths = [min(base_ch << i, max_ch) for i in range(n_layers + 1)]
        self.layers = nn.ModuleList([ConvLayer(input_ch, widths[0], style._replace(norm="none"))])
        self.layers.extend(ConvLayer(*pair, style, scale="down") for pair in pairwise(widths))
        self.score = ConvLayer(widths[-1], 1, style.plain, pad=False)

    def forward(self, image: Tensor) -> PatchJudgement:
        """Judge ``(N, input_ch, H, W)``."""
        features = []
        for layer in self.layers:
            image = layer(image)
            features.append(image)
        return PatchJudgement(self.score(image), features)


@ARCH_REGISTRY.register()
class SPARNetDiscriminator(nn.Module):
    """Judge an image at several scales with independent patch discriminators. Input: RGB in [-1, 1].

    The defaults are those of the published run.

    Args:
        input_ch: Channels of the image.
        base_ch: Width of the first layers.
        max_ch: Largest width.
        n_layers: Halvings in each patch discriminator.
        num_d: Patch discriminators; each sees half the size of the one before.
        norm_type: ``bn``, ``in``, ``gn``, ``pixel`` or ``none``.
        relu_type: ``leakyrelu``, ``relu``, ``selu``, ``prelu`` or ``none``.
        spectral_norm: Divide every convolution's weight by its spectral norm.

    Raises:
        TypeError: If a number is not an int or ``spectral_norm`` not a bool.
        ValueError: If a number is less than 1 or a name is unknown.
    """

    def __init__(
        self,
        *,
        input_ch: int = 3,
        base_ch: int = 64,
        max_ch: int = 512,
        n_layers: int = 4,
        num_d: int = 3,
        norm_type: str = "in",
        relu_type: str = "leakyrelu",
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        numbers = {"input_ch": input_ch, "base_ch": base_ch, "max_ch": max_ch, "n_layers": n_layers, "num_d": num_d}
        for name, value in numbers.items():
            check_int(name, value, least=1)
        style = LayerStyle.from_names(norm_type, relu_type, spectral_norm)
        self.input_ch = input_ch
        self.min_size = (2 ** (n_layers + 1) + 1) * 2 ** (num_d - 1)  # the last unpadded layer needs 3 pixels
        self.scales = nn.ModuleList(
            PatchDiscriminator(input_ch, base_ch, max_ch, n_layers, style) for _ in range(num_d)
        )
        init_weights(self)

    def forward(self, image: Tensor) -> list[PatchJudgement]:
        """Judge a batch at every scale, the largest first.

        Args:
            image: ``(N, input_ch, H, W)`` RGB in [-1, 1].

        Raises:
            ValueError: If ``image`` has another shape or is too small for the smallest scale.
        """
        if image.dim() != 4 or image.shape[1] != self.input_ch:
            raise ValueError(f"image must have shape (N, {self.input_ch}, H, W), got {tuple(image.shape)}")
        if min(image.shape[2:]) < self.min_size:
            raise ValueError(
                f"image must be at least {self.min_size}x{self.min_size}, got {image.shape[2]}x{image.shape[3]}. "
                "Use fewer scales (num_d) or halvings (n_layers) for smaller images."
            )
        judgements = [self.scales[0](image)]
        for scale in self.scales[1:]:
            image = halve(image)
            judgements.append(scale(image))
        return judgements
