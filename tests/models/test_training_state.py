"""What a checkpoint's record says of the faces of its training, and where a run goes on."""

from typing import Any

import pytest

from facesr_plugin.cards import get_card
from facesr_plugin.models.training_state import restore_position, stated_faces
from facesr_plugin.utils.resume import POSITION


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


@pytest.mark.parametrize(("last", "epoch"), [(None, 5), (7, 5), (2, 2)])
def test_run_goes_on_inside_its_epochs(last: int | None, epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With smaller batches than before it has fewer, and BasicSR's loop would end at once."""
    monkeypatch.setattr(POSITION, "last_epoch", last)
    state = {"epoch": 5, "facesr": {"epoch": 5, "samples": 6}}
    restore_position(state, 2)
    assert state["epoch"] == epoch
    assert (POSITION.resumed, POSITION.epoch, POSITION.samples) == ((epoch, 3), epoch, 3)
    POSITION.reset()
