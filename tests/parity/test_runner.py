"""The runner itself: it finds cases, reads recipes safely, and fails where it must."""

import json
import os

import numpy as np
import pytest

from helpers.fill import uniform
from parity.adapters import find_adapter
from parity.cases import Case, find_cases, load_case
from parity.recipes import assignments, count_rounds, evaluate, numpy_index, take_slice
from parity.tolerances import find_limit
from parity.weights import fill_official


@pytest.fixture
def write_case(tmp_path):
    def write(name, folder="sparnet", arrays=None, **meta):
        path = tmp_path / folder / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"name": name, **meta}))
        np.savez(path.with_suffix(".npz"), **(arrays or {}))
        return path

    return write


def ids(cases):
    return [case.id for case in cases]


def test_find_cases_reads_all_roots_and_their_folders(write_case, tmp_path, monkeypatch):
    write_case("a"), write_case("b", folder="dic")
    monkeypatch.setenv("FACESR_REFERENCES", os.pathsep.join([str(tmp_path), str(tmp_path / "dic")]))
    assert ids(find_cases()) == ["dic/b", "sparnet/a", "dic/b"]


def test_find_cases_refuses_a_folder_without_cases(tmp_path, monkeypatch):
    monkeypatch.setenv("FACESR_REFERENCES", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="has none"):
        find_cases()
    monkeypatch.setenv("FACESR_REFERENCES", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="must name folders, got"):
        find_cases()


def test_case_takes_its_system_from_the_file_before_the_folder(write_case):
    assert load_case(write_case("a")).system == "sparnet"
    assert load_case(write_case("a", folder="copies", system="sparnet")).system == "sparnet"


@pytest.mark.parametrize(("folder", "text"), [("sparnet", "no family of sparnet fits new"), ("gfp", "no adapters")])
def test_case_that_fits_no_family_fails(write_case, folder, text):
    with pytest.raises(ValueError, match=text):
        find_adapter(load_case(write_case("new", folder=folder)))


def test_case_remembers_arrays_that_nobody_compared(write_case):
    case = load_case(write_case("a", arrays={"out": np.ones(2), "forgotten": np.ones(1)}))
    case.check_array("out", np.ones(2), "network")
    assert case.arrays.unread == {"forgotten"}


@pytest.mark.parametrize("actual", [np.ones(3) + 2e-5, np.ones(2), np.array([1, 1, np.nan])])
def test_check_fails_on_value_shape_and_nan(actual):
    with pytest.raises(AssertionError, match="out"):
        Case("sparnet", "a", None, {}).check("out", actual, np.ones(3), "network")


def test_check_takes_a_stated_tolerance():
    Case("sparnet", "a", None, {"tolerance": 1e-3}).check("out", np.ones(3) + 5e-4, np.ones(3), "network")


def test_limits_come_from_the_file_then_the_table():
    assert find_limit("network", {}) == (1e-5, True)
    assert find_limit("network", {"tolerance": "max abs error <= 2e-5 * max(1, max|reference|)"}).value == 2e-5
    assert find_limit("network", {"tolerance": "as on any machine"}).value == 1e-5
    assert find_limit("exact", {"tolerance": 1.0}).value == 0


def test_recipe_ends_where_prose_begins():
    text = "2 * uniform('input', [2, 3], seed) - 1  (computed as uniform * float32(2) + float32(-1))"
    value = evaluate(text, {"seed": 5})
    np.testing.assert_array_equal(value, uniform("input", (2, 3), 5) * np.float32(2) - np.float32(1))
    assert value.dtype == np.float32


def test_recipe_assigns_one_name_after_the_other():
    text = "lr = 2*uniform('lr', [4], 0) - 1; hr = 0.5*lr + 0.5*(2*uniform('hr', same, 0) - 1) (float32); range [-1, 1]"
    values = assignments(text, {})
    np.testing.assert_array_equal(values["hr"], 0.5 * values["lr"] + 0.5 * (2 * uniform("hr", (4,), 0) - 1))


@pytest.mark.parametrize(
    "text",
    ["__import__('os').getcwd()", "uniform.__globals__", "[x for x in (1,)]", "open('x')", "", "seed ** 9", "if 1"],
)
def test_recipe_allows_formulas_only(text):
    with pytest.raises(ValueError, match="no formula at the beginning"):
        evaluate(text, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[:, ::2, ::4]", (slice(None), slice(None, None, 2), slice(None, None, 4))),
        ("full", ()),
        ("[::8, ::8] of the [16, 16] image", (slice(None, None, 8), slice(None, None, 8))),
    ],
)
def test_slice_is_the_first_bracket_with_two_colons(text, expected):
    array = np.arange(2 * 16 * 16).reshape(2, 16, 16)
    np.testing.assert_array_equal(take_slice(array, text), array[expected])


def test_slice_takes_the_channel_mean_first():
    array = np.arange(8.0).reshape(1, 2, 2, 2)
    np.testing.assert_array_equal(take_slice(array, "mean over channels, then [:, :, ::2, ::1]"), [[[[2.0, 3.0]]]])


@pytest.mark.parametrize(
    ("text", "expected"), [(":1", (slice(None, 1),)), (":,2::4", (slice(None), slice(2, None, 4)))]
)
def test_index_is_read_from_slices(text, expected):
    assert numpy_index(text) == expected


@pytest.mark.parametrize(("text", "rounds"), [("repeat 3 times: v := ...", 3), ("prepared with 300 rounds", 300)])
def test_rounds_are_read_from_words(text, rounds):
    assert count_rounds(text) == rounds


def test_fill_converges_the_vectors_of_spectral_norm():
    shapes = [["c.bias", [4]], ["c.weight_orig", [4, 3, 3, 3]], ["c.weight_u", [4]], ["c.weight_v", [27]]]
    state = fill_official(shapes, seed=0, gain=2.0, rounds=300)
    matrix = state["c.weight_orig"].flatten(1)
    sigma = state["c.weight_u"] @ matrix @ state["c.weight_v"]
    assert sigma.item() == pytest.approx(np.linalg.norm(matrix.numpy(), 2), rel=1e-5)
    plain = fill_official(shapes, seed=0, rounds=1)
    np.testing.assert_array_equal(state["c.weight_orig"], 2 * plain["c.weight_orig"])
    np.testing.assert_array_equal(state["c.bias"], plain["c.bias"])


def test_fill_multiplies_by_gains_of_the_last_part():
    shapes = [["a.weight_orig", [2, 4, 3, 3]], ["a.weight", [2, 4]], ["a.bias", [2]]]
    plain = fill_official(shapes, seed=3)
    state = fill_official(shapes, seed=3, gain={"default": 1.5, "weight_orig": "sqrt_fan_in"})
    np.testing.assert_array_equal(state["a.weight_orig"], 6 * plain["a.weight_orig"])
    np.testing.assert_array_equal(state["a.weight"], 1.5 * plain["a.weight"])
    np.testing.assert_array_equal(state["a.bias"], plain["a.bias"])
