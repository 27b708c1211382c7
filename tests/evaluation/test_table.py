from pathlib import Path

import numpy as np
import pytest

from facesr_plugin.evaluation.table import PLAN, STATE, TABLE, Line, Table

FACES, RESULTS, METRICS = ["a", 'b,"<i>', "=c"], ["net", "bicubic"], ["psnr", "ssim"]
LINES = [
    [Line({"psnr": 30.123456789012345, "ssim": float("inf")}), Line({"psnr": 1e-17})],
    [Line({}, "damaged: \n\udcff"), Line({"ssim": -0.5}, 'says "no"')],
    [Line({"psnr": 1.0}), Line({})],
]


def open_table(folder: Path, plan: object = 1, **more: bool) -> Table:
    return Table(folder, {"plan": plan}, FACES, RESULTS, METRICS, **more)


def fill(folder: Path, count: int = 3) -> bytes:
    with open_table(folder) as table:
        table.add(LINES[:count])
    return (folder / TABLE).read_bytes()


def test_table_reads_back_what_was_added(tmp_path: Path) -> None:
    fill(tmp_path)
    with open_table(tmp_path) as table:
        assert table.done == 3
        lines = list(table)
    assert [line.values for line in lines] == [line.values for face in LINES for line in face]
    assert [line.problem for line in lines] == ["", "", r"damaged: \n\udcff", 'says "no"', "", ""]


def test_table_is_plain_csv_that_no_spreadsheet_runs(tmp_path: Path) -> None:
    assert fill(tmp_path).decode().splitlines() == [
        "face,result,psnr,ssim,problem",
        "a,net,30.123456789012344,inf,",
        "a,bicubic,1e-17,,",
        r'"b,""<i>",net,,,damaged: \n\udcff',
        '"b,""<i>",bicubic,,-0.5,"says ""no"""',
        "'=c,net,1.0,,",
        "'=c,bicubic,,,",
    ]


def test_table_goes_on_after_the_last_whole_face_wherever_it_was_cut(tmp_path: Path) -> None:
    whole, two = fill(tmp_path / "whole"), len(fill(tmp_path / "two", 2))
    for length in range(two, len(whole)):
        folder = tmp_path / str(length)
        fill(folder, 0)
        (folder / TABLE).write_bytes(whole[:length])
        with open_table(folder) as table:
            assert table.done == 2
            table.add(LINES[2:])
        assert (folder / TABLE).read_bytes() == whole


def test_table_refuses_another_plan_unless_told_to_overwrite(tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(FileExistsError, match=r"holds an evaluation of other inputs.*--out, or replace.*--overwrite"):
        open_table(tmp_path, plan=2)
    assert len((tmp_path / TABLE).read_text().splitlines()) == 7
    with open_table(tmp_path, plan=2, overwrite=True) as table:
        assert (table.done, table.outcome) == (0, None)


def test_table_refuses_lines_that_it_did_not_write(tmp_path: Path) -> None:
    content = fill(tmp_path)
    (tmp_path / TABLE).write_bytes(content.replace(b"a,bicubic", b"x,bicubic"))
    with pytest.raises(ValueError, match=r"per_image\.csv was changed by something else. Replace it with --overwrite."):
        open_table(tmp_path)


@pytest.mark.parametrize("line", [b"a,net,abc,,\n", b"a,net,1.0\n"])
def test_table_refuses_values_that_it_did_not_write(tmp_path: Path, line: bytes) -> None:
    head, first, rest = fill(tmp_path).split(b"\n", 2)
    assert first.startswith(b"a,net,")
    (tmp_path / TABLE).write_bytes(head + b"\n" + line + rest)
    with (
        open_table(tmp_path) as table,
        pytest.raises(ValueError, match=r"per_image\.csv was changed by something else. Replace it with --overwrite."),
    ):
        list(table)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"something else"])
def test_table_goes_on_without_a_damaged_state(tmp_path: Path, content: bytes) -> None:
    fill(tmp_path)
    (tmp_path / STATE).write_bytes(content)
    with open_table(tmp_path) as table:
        assert table.load_state() == {}


def test_table_refuses_a_table_without_plan(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / PLAN).unlink()
    with pytest.raises(FileExistsError, match="other inputs"):
        open_table(tmp_path)


def test_table_keeps_the_state_until_the_end(tmp_path: Path) -> None:
    with open_table(tmp_path) as table:
        assert table.load_state() == {}
        table.save_state({"0/sum": np.arange(3)})
    with open_table(tmp_path) as table:
        assert table.load_state()["0/sum"].tolist() == [0, 1, 2]
        table.finish([["fid", "net", 3, 1.5, ""]])
        assert (table.load_state(), table.outcome) == ({}, [["fid", "net", 3, 1.5, ""]])
    assert not (tmp_path / STATE).exists()


def test_table_is_locked_against_a_second_run(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with open_table(tmp_path), pytest.raises(OSError, match="another process is writing"):
        open_table(tmp_path)
    open_table(tmp_path).__exit__(None, None, None)
