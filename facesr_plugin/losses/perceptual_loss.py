"""Perceptual loss: distance between VGG features of two images (Johnson et al., ECCV 2016).

The defaults are those of SPARNetHD (TIP 2021, as released). Its program keeps the convolutions' outputs, which the
following in-place ReLU overwrites, so that the features in force are those after the ReLU, but for the last layer.
Here no feature is changed after it was taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.reader import read_checkpoint
from facesr_plugin.registry import LOSS_REGISTRY
from facesr_plugin.utils.weights import resolve_weights

SPARNETHD_LAYERS = {"relu1_2": 1.0, "relu2_2": 1.0, "relu3_4": 1.0, "relu4_4": 1.0, "conv5_4": 1.0}
CRITERIA = {"l1": F.l1_loss, "l2": F.mse_loss}
_DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # convolutions per block
_WIDTHS = (64, 128, 256, 512, 512)
_SMALLEST_SIZE = 224  # what VGG was trained with


def layer_names(vgg_type: str) -> list[str]:
    """Name VGG's layers ``conv1_1``, ``relu1_1``, ... ``pool5``; the index is that of torchvision's ``features``."""
    names = []
    for block, depth in enumerate(_DEPTHS[vgg_type], start=1):
        names += [f"{kind}{block}_{i}" for i in range(1, depth + 1) for kind in ("conv", "relu")]
        names.append(f"pool{block}")
    return names


class VGGFeatures(nn.Module):
    """The convolutional part of VGG up to the deepest layer asked for; keys are torchvision's (``features.N.weight``).

    Args:
        vgg_type: ``vgg16`` or ``vgg19``.
        layers: Names as in :func:`layer_names` of the layers to return.
    """

    def __init__(self, vgg_type: str, layers: Iterable[str]) -> None:
        super().__init__()
        self.names = layer_names(vgg_type)
        self.layers = frozenset(layers)
        self.names = self.names[: max(map(self.names.index, self.layers)) + 1]
        self.features = nn.Sequential(*(self._build(index) for index in range(len(self.names))))

    def _build(self, index: int) -> nn.Module:
        name = self.names[index]
        block = int(name[4])
        if name.startswith("conv"):
            num_in = _WIDTHS[block - 1] if not name.endswith("_1") else (3, *_WIDTHS)[block - 1]
            return nn.Conv2d(num_in, _WIDTHS[block - 1], 3, padding=1)
        if name.startswith("relu"):  # in place halves the memory; nobody needs a convolution's output
            return nn.ReLU(inplace=self.names[index - 1] not in self.layers)
        return nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features ``(N, C, H / 2^b, W / 2^b)`` of images ``(N, 3, H, W)`` by layer name."""
        found = {}
        for name, layer in zip(self.names, self.features, strict=True):
            images = layer(images)
            if name in self.layers:
                found[name] = images
        return found


@LOSS_REGISTRY.register()
class FacePerceptualLoss(nn.Module):
    r"""Weighted sum over VGG layers of the mean absolute (or squared) difference of two images' features.

    .. math:: L = w \sum_k w_k \operatorname{mean} |\phi_k(sr) - \phi_k(gt)|

    Images are RGB in [-1, 1]. Without arguments this is SPARNetHD's. That of Progressive FSR is ``vgg_type: vgg16``,
    ``layer_weights: {relu1_2: 1, relu2_2: 1, relu3_3: 1, relu4_3: 1}``, ``criterion: l2``, ``use_input_norm: false``,
    ``min_width: 0``.

    Args:
        loss_weight: w.
        vgg_type: ``vgg19`` or ``vgg16``.
        layer_weights: w_k by layer name; None for SPARNetHD's ``SPARNETHD_LAYERS``, all 1.
        criterion: ``l1`` or ``l2`` (squared, without root).
        use_input_norm: Normalise with ImageNet's mean and deviation, after the step to [0, 1].
        min_width: Images less wide than this are resized (bilinear) to a square of this side; 0 for never.
        weights: File with torchvision's state dict; None to look for it as ``facesr weights list`` shows, and to
            download it if it is not there.

    Raises:
        FileNotFoundError: If there is no weight file and none can be downloaded.
        ValueError: If a name or number is not allowed, or the file has other weights.
    """

    def __init__(
        self,
        *,
        loss_weight: float = 1.0,
        vgg_type: str = "vgg19",
        layer_weights: Mapping[str, float] | None = None,
        criterion: str = "l1",
        use_input_norm: bool = True,
        min_width: int = _SMALLEST_SIZE,
        weights: str | os.PathLike | None = None,
    ) -> None:
        super().__init__()
        self.layer_weights = dict(SPARNETHD_LAYERS if layer_weights is None else layer_weights)
        _check("vgg_type", vgg_type, _DEPTHS)
        _check("criterion", criterion, CRITERIA)
        if not self.layer_weights:
            raise ValueError("layer_weights must name at least one layer, got none")
        for name in self.layer_weights:
            _check(f"a layer of {vgg_type}", name, layer_names(vgg_type))
        if min_width < 0:
            raise ValueError(f"min_width must be 0 or more, got {min_width}")
        self.loss_weight = loss_weight
        self.criterion = criterion
        self.min_width = min_width
        self.vgg = VGGFeatures(vgg_type, self.layer_weights)
        _load(self.vgg, vgg_type, resolve_weights(vgg_type, weights))
        mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if use_input_norm else ((0.0,) * 3, (1.0,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        """Return the loss of ``sr`` against ``gt``, both ``(N, 3, H, W)`` RGB in [-1, 1]; ``gt`` gets no gradient."""
        terms = self.layer_losses(sr, gt)
        return self.loss_weight * sum(weight * terms[name] for name, weight in self.layer_weights.items())

    def layer_losses(self, sr: Tensor, gt: Tensor) -> dict[str, Tensor]:
        """Return the unweighted mean difference by layer name; arguments as for ``forward``."""
        with torch.no_grad():
            wanted = self.extract(gt)
        found = self.extract(sr)
        return {name: CRITERIA[self.criterion](found[name], wanted[name]) for name in self.layer_weights}

    def extract(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features of images ``(N, 3, H, W)`` RGB in [-1, 1] by layer name."""
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must have shape (N, 3, H, W), got {tuple(images.shape)}")
        images = ((images + 1) / 2 - self.mean) / self.std
        if images.shape[3] < self.min_width:
            size = (self.min_width, self.min_width)
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        return self.vgg(images)


def _check(name: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def _load(net: VGGFeatures, vgg_type: str, path: str | os.PathLike) -> None:
    """Load torchvision's state dict; the classifier and deeper layers may be in the file or not."""
    state = read_checkpoint(path)
    problem = _find_problem(net.state_dict(), vgg_type, state)
    if problem:
        raise UnsupportedCheckpointError(f"weights must be torchvision's {vgg_type}, got {str(path)!r}: {problem}")
    net.load_state_dict({key: state[key] for key in net.state_dict()})


def _find_problem(wanted: dict[str, Tensor], vgg_type: str, state: object) -> str | None:
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        return "it is no state dict"
    convolutions = [index for index, name in enumerate(layer_names(vgg_type)) if name.startswith("conv")]
    allowed = {f"features.{index}.{kind}" for index in convolutions for kind in ("weight", "bias")}
    foreign = [key for key in state if key not in allowed and not key.startswith("classifier.")]
    if foreign:
        return f"{vgg_type} has no {foreign[0]!r}"
    for key, value in wanted.items():
        if key not in state:
            return f"{key!r} is missing"
        if state[key].shape != value.shape:
            return f"{key!r} has shape {tuple(state[key].shape)} instead of {tuple(value.shape)}"
    return None
