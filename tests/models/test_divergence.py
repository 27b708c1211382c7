"""Notice of losses that explode."""

from __future__ import annotations

import logging

import pytest

from facesr_plugin.models.divergence import warn_of_huge


@pytest.mark.parametrize(("value", "warned"), [(2e9, True), (-2e9, True), (10.0, False)])
def test_huge_loss_is_warned_of(value: float, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("basicsr").propagate = True
    warn_of_huge({"a": value}, "Do this.")
    assert ("the training is about to explode. Do this." in caplog.text) == warned
