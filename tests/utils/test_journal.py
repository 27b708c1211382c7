import pytest

from facesr_plugin.utils.journal import Journal

PLAN = {"inputs": "ab12", "size": (3, 4)}


def test_journal_continues_where_it_was(tmp_path):
    path = tmp_path / "deep/x.part"
    with Journal(path, PLAN) as journal:
        journal.append({"row": 0.1})
    with Journal(path, PLAN) as journal:
        assert list(journal) == [{"row": 0.1}]
        journal.append([1, None])
        assert list(journal) == [{"row": 0.1}, [1, None]]


@pytest.mark.parametrize("cut", range(1, 8))
def test_journal_drops_a_line_that_was_cut_off(tmp_path, cut):
    path = tmp_path / "x.part"
    with Journal(path, PLAN) as journal:
        journal.append("first")
        journal.append("second")
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path, PLAN) as journal:
        journal.append("third")
        assert list(journal) == ["first", "third"]


def test_journal_starts_anew_where_even_the_plan_was_cut_off(tmp_path):
    path = tmp_path / "x.part"
    path.write_bytes(b'{"inputs": "ab')
    with Journal(path, PLAN) as journal:
        assert list(journal) == []


@pytest.mark.parametrize("content", [b'{"inputs": "other"}\n[1]\n', b"a picture\n", b"\xff\n"])
def test_journal_refuses_another_run_unless_told(tmp_path, content):
    path = tmp_path / "x.part"
    path.write_bytes(content)
    with pytest.raises(FileExistsError, match=r"x\.part is of an interrupted run with other inputs or settings"):
        Journal(path, PLAN)
    assert path.read_bytes() == content
    with Journal(path, PLAN, overwrite=True) as journal:
        assert list(journal) == []


def test_journal_keeps_its_lines_when_told_to_overwrite_its_own_run(tmp_path):
    with Journal(tmp_path / "x.part", PLAN) as journal:
        journal.append(1)
    with Journal(tmp_path / "x.part", PLAN, overwrite=True) as journal:
        assert list(journal) == [1]
        journal.discard()
    assert not (tmp_path / "x.part").exists()


def test_journal_has_one_writer(tmp_path):
    pytest.importorskip("fcntl")
    with Journal(tmp_path / "x.part", PLAN), pytest.raises(OSError, match="another process is writing"):
        Journal(tmp_path / "x.part", PLAN)
