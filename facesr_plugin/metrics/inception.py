"""InceptionV3 as FID has it: torchvision's blocks with the pooling of the TensorFlow network of 2015.

Its averages leave out the padding, and its last block takes the largest value instead of the mean, which is taken for
a mistake of that network and belongs to the protocol. Keys are those of pytorch-fid's file.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import Inception3
from torchvision.models.inception import BasicConv2d, InceptionA, InceptionAux, InceptionB, InceptionC, InceptionD
from torchvision.models.inception import InceptionE as TorchvisionE

from facesr_plugin.metrics.networks import fill_network, read_state
from facesr_plugin.utils.weights import resolve_weights

_SIDE = 299
_LAST_IN_CH = 2048
_WHAT = "pytorch-fid's InceptionV3"


class FidInception(Inception3):
    """The network without its classifier."""

    def __init__(self) -> None:
        blocks = [BasicConv2d, _BlockA, InceptionB, _BlockC, InceptionD, _build_last_block, InceptionAux]
        super().__init__(aux_logits=False, transform_input=False, inception_blocks=blocks, init_weights=False)
        self.fc = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled features ``(N, 2048)`` of images ``(N, 3, H, W)`` RGB in [-1, 1] of any size.

        They are resized to 299 x 299 as pytorch-fid and BasicSR do: bilinear, without a filter when they get smaller.
        """
        return super().forward(F.interpolate(images, (_SIDE, _SIDE), mode="bilinear", align_corners=False))


def load_inception(weights: str | os.PathLike | None = None) -> FidInception:
    """Return the frozen network, on the CPU.

    Args:
        weights: File of pytorch-fid; None to look for it as ``facesr weights list`` shows.

    Raises:
        FileNotFoundError: If ``weights`` does not exist.
        MissingWeightsError: If the file is not here; nothing is downloaded.
        UnsupportedCheckpointError: If it has other weights.
    """
    path = resolve_weights("inception_fid", weights, fetch=False)
    state = {key: value for key, value in read_state(path, _WHAT).items() if not key.startswith("fc.")}
    with torch.device("meta"):
        network = FidInception()
    return fill_network(network, state, path, _WHAT)


def _mean_inside(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _largest(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


def _run(x: Tensor, *layers: Callable[[Tensor], Tensor]) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


class _BlockA(InceptionA):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [
            self.branch1x1(x),
            _run(x, self.branch5x5_1, self.branch5x5_2),
            _run(x, self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3),
            _run(x, _mean_inside, self.branch_pool),
        ]


class _BlockC(InceptionC):
    def _forward(self, x: Tensor) -> list[Tensor]:
        double = (getattr(self, f"branch7x7dbl_{i}") for i in range(1, 6))
        return [
            self.branch1x1(x),
            _run(x, self.branch7x7_1, self.branch7x7_2, self.branch7x7_3),
            _run(x, *double),
            _run(x, _mean_inside, self.branch_pool),
        ]


class _BlockE(TorchvisionE):
    pool = staticmethod(_mean_inside)

    def _forward(self, x: Tensor) -> list[Tensor]:
        single = self.branch3x3_1(x)
        double = _run(x, self.branch3x3dbl_1, self.branch3x3dbl_2)
        return [
            self.branch1x1(x),
            torch.cat([self.branch3x3_2a(single), self.branch3x3_2b(single)], 1),
            torch.cat([self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)], 1),
            _run(x, self.pool, self.branch_pool),
        ]


class _LastBlockE(_BlockE):
    pool = staticmethod(_largest)


def _build_last_block(num_in_ch: int) -> nn.Module:
    """Of the two last blocks, the second alone has as many channels as it gives."""
    return (_LastBlockE if num_in_ch == _LAST_IN_CH else _BlockE)(num_in_ch)
