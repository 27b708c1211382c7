"""Write attention figures to TensorBoard during validation: the option ``val.attention`` of a training."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from basicsr.utils import tensor2img
from PIL import Image
from torch import Tensor, nn

from facesr_plugin.utils.visualize import (
    AttentionOptions,
    Cell,
    attention_figure,
    capture_attention,
    choose_blocks,
)

_LARGEST_CELL_PX = 256  # a figure of 512x512 cells would be some 5 MB in every validation


class AttentionLog:
    """Draw the first images of each validation.

    Args:
        section: ``val.attention``; see ``AttentionOptions``.
        network: The generator.

    Raises:
        OptionTypeError: If an option has the wrong type.
        ValueError: If an option is unknown or out of range, or the network has no attention, or not in a block given.
    """

    def __init__(self, section: Any, network: nn.Module) -> None:
        options = AttentionOptions.parse(section)
        self._num = options.num
        try:
            self._blocks = choose_blocks(network, options.blocks)
        except ValueError as error:
            raise ValueError(f"val.attention: {error}") from error

    def write(self, model: Any, dataloader: Any, current_iter: int, tb_logger: Any) -> None:
        """Restore the first images once more and add one figure for each, ``attention/<data set>/<name of the file>``.

        Args:
            model: A FaceSRModel; it is left without a batch.
            dataloader: Of the validation: one image in a batch.
            current_iter: Iteration that the figures belong to.
            tb_logger: TensorBoard's writer.
        """
        folder = f"attention/{dataloader.dataset.opt['name']}"
        for data in islice(dataloader, self._num):
            model.feed_data(data)
            with capture_attention(model.net_to_test) as maps:
                model.test()
            figure = self._draw(model.get_current_visuals(), maps)
            tb_logger.add_image(f"{folder}/{Path(data['lq_path'][0]).stem}", figure, current_iter, dataformats="HWC")
            model.forget_batch()

    def _draw(self, visuals: dict[str, Tensor], maps: dict[str, Tensor]) -> np.ndarray:
        images = {name: _to_cell(image) for name, image in visuals.items()}
        means = {name: maps[name][0].mean(0, keepdim=True).numpy() for name in self._blocks}
        after = [Cell("ground truth", images["gt"])] if "gt" in images else []
        return attention_figure(images["result"], means, before=[Cell("input", images["lq"])], after=after)


def _to_cell(image: Tensor) -> np.ndarray:
    """Turn ``(1, 3, H, W)`` RGB in [0, 1] to uint8 ``(H', W', 3)`` of limited size."""
    picture = Image.fromarray(tensor2img([image], rgb2bgr=False))
    picture.thumbnail((_LARGEST_CELL_PX, _LARGEST_CELL_PX))
    return np.array(picture)
