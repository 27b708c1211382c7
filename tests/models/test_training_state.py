"""What a checkpoint's record says of the faces of its training."""

from typing import Any

import pytest

from facesr_plugin.cards import get_card
from facesr_plugin.models.training_state import stated_faces


@pytest.mark.parametrize(
    ("system", "train", "expected"),
    [
        ("jasrnet", {"type": "FaceCropDataset"}, {"scale": 8, "framing": "box"}),
        ("jasrnet", {"type": "FaceSRDataset", "gt_size": 64}, {"gt_size": 64, "scale": 8, "framing": "loose"}),
        ("sparnet", {"type": "FaceCropDataset"}, {"scale": 8, "framing": "box"}),
        ("progressive", {"type": "FaceSRDataset"}, {"scale": 8}),
        ("jasrnet", None, {"scale": 8}),
    ],
)
def test_stated_faces_are_framed_as_their_data_set_does(
    system: str, train: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    datasets = {} if train is None else {"train": train}
    assert stated_faces({"datasets": datasets, "scale": 8}, get_card(system)) == expected
