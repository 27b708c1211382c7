"""Notice of losses that explode."""

from __future__ import annotations

import logging

import pytest

from facesr_plugin.models.divergence import check_losses


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_no_number_is_refused_with_the_remedy(value: float) -> None:
    with pytest.raises(ValueError, match=f"losses must be finite, got b {value}: the training has exploded. Do this."):
        check_losses({"a": 1.0, "b": value}, "Do this.")


@pytest.mark.parametrize(("value", "warned"), [(2e9, True), (-2e9, True), (10.0, False)])
def test_huge_loss_is_warned_of(value: float, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("basicsr").propagate = True
    check_losses({"a": value}, "Do this.")
    assert ("the training is about to explode. Do this." in caplog.text) == warned
