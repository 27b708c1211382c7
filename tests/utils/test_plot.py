import sys

import numpy as np
import pytest

from facesr_plugin.utils.plot import ced_figure, histogram_figure

THRESHOLDS = np.linspace(0, 0.1, 50)


def test_ced_figure_draws_each_curve() -> None:
    low, high = THRESHOLDS, np.ones(50)
    one, both = ced_figure(THRESHOLDS, {"a": low}), ced_figure(THRESHOLDS, {"a": low, "b": high})
    assert one.shape == both.shape == (504, 720, 3)
    assert one.dtype == np.uint8
    coloured = [int((np.ptp(picture.astype(int), axis=-1) > 60).sum()) for picture in (one, both)]
    assert 500 < coloured[0] < coloured[1]


@pytest.mark.parametrize("curves", [{}, {"a": np.zeros(3)}])
def test_ced_figure_needs_curves_of_one_length(curves: dict) -> None:
    with pytest.raises(ValueError, match=r"curves must have the shape \(50,\) of the thresholds, at least one, got"):
        ced_figure(THRESHOLDS, curves)


def test_ced_figure_names_the_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ImportError, match="figures of curves need matplotlib: pip install matplotlib"):
        ced_figure(THRESHOLDS, {"a": THRESHOLDS})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["_a", r"$\unknown$", "$", "<b>"])
def test_figures_take_any_name_as_it_is(name: str) -> None:
    plain = ced_figure(THRESHOLDS, {"": THRESHOLDS})
    assert (ced_figure(THRESHOLDS, {name: THRESHOLDS}) != plain).any()
    assert histogram_figure({name: np.arange(9.0)}, "PSNR").shape == plain.shape


def test_histogram_figure_draws_each_column() -> None:
    one = histogram_figure({"a": np.arange(9.0)}, "PSNR (dB)")
    both = histogram_figure({"a": np.arange(9.0), "b": np.arange(20.0)}, "PSNR (dB)")
    assert one.shape == both.shape == (504, 720, 3)
    assert one.dtype == np.uint8
    assert (one != both).any()


@pytest.mark.parametrize("values", [{}, {"a": np.empty(0)}, {"a": np.array([1, np.inf])}, {"a": np.array([np.nan])}])
def test_histogram_figure_refuses_what_it_cannot_draw(values: dict) -> None:
    with pytest.raises(ValueError, match="values must be finite numbers, at least one, got"):
        histogram_figure(values, "PSNR")
