import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys

import lmdb
import numpy as np
import pytest

from facesr_plugin.data.face_png import encode_face
from facesr_plugin.data.lmdb_store import LmdbReader, LmdbWriter
from facesr_plugin.utils.imageio import decode_rgb
from helpers.faces import make_image, write_lmdb

PLAN = {"size": 32, "crop": "none"}


def content_of(path) -> dict[str, bytes]:
    reader = LmdbReader(path)
    return {key: reader.get(key) for key in reader.keys}


def fill(writer: LmdbWriter, indices) -> None:
    for i in indices:
        writer.put({f"k{i:03d}": encode_face(make_image(i))})


def test_writer_makes_basicsr_meta_info(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 2, 20, 24)
    assert (tmp_path / "x.lmdb/meta_info.txt").read_text() == "face_00.png (20,24,3) 1\nface_01.png (20,24,3) 1\n"


def test_reader_returns_what_was_written(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 3)
    reader = LmdbReader(tmp_path / "x.lmdb")
    assert np.array_equal(decode_rgb(reader.get("face_02"), "face_02"), make_image(2))


def test_writer_grows_when_the_map_is_full(tmp_path):
    with LmdbWriter(tmp_path / "x.lmdb", PLAN, map_size=40_960, batch=7) as writer:
        fill(writer, range(60))
        writer.finish()
    assert (tmp_path / "x.lmdb/data.mdb").stat().st_size > 100_000
    assert len(content_of(tmp_path / "x.lmdb")) == 60


def test_writer_that_was_not_finished_has_no_meta_info(tmp_path):
    with LmdbWriter(tmp_path / "x.lmdb", PLAN, batch=4) as writer:
        fill(writer, range(10))
    with pytest.raises(ValueError, match=r"has no meta_info\.txt: it is not finished\. Run the facesr prepare command"):
        LmdbReader(tmp_path / "x.lmdb")


def test_writer_continues_after_the_last_commit(tmp_path):
    with LmdbWriter(tmp_path / "x.lmdb", PLAN, batch=4) as writer:
        fill(writer, range(10))
    with LmdbWriter(tmp_path / "x.lmdb", PLAN, batch=4) as writer:
        assert sorted(writer.keys) == [f"k{i:03d}" for i in range(8)]
        fill(writer, range(8, 12))
        writer.finish()
    with LmdbWriter(tmp_path / "y.lmdb", PLAN) as writer:
        fill(writer, range(12))
        writer.finish()
    assert content_of(tmp_path / "x.lmdb") == content_of(tmp_path / "y.lmdb")
    metas = [(tmp_path / name / "meta_info.txt").read_bytes() for name in ("x.lmdb", "y.lmdb")]
    assert metas[0] == metas[1]


def test_writer_commits_images_that_were_put_together_at_once(tmp_path):
    together = {f"k{i}": encode_face(make_image(i)) for i in range(3)}
    with LmdbWriter(tmp_path / "x.lmdb", PLAN, batch=2) as writer:
        writer.put(together)
        writer.put({"late": encode_face(make_image(9))})
    with LmdbWriter(tmp_path / "x.lmdb", PLAN, batch=2) as writer:
        assert writer.keys == set(together)


def test_writer_commits_what_takes_long(tmp_path, monkeypatch):
    with LmdbWriter(tmp_path / "x.lmdb", PLAN) as writer:
        fill(writer, range(2))
        monkeypatch.setattr("facesr_plugin.data.lmdb_store._COMMIT_S", 0)
        fill(writer, range(2, 4))
        monkeypatch.undo()
        fill(writer, range(4, 6))
    with LmdbWriter(tmp_path / "x.lmdb", PLAN) as writer:
        assert sorted(writer.keys) == ["k000", "k001", "k002", "k003"]


def test_writer_knows_a_finished_run(tmp_path):
    with LmdbWriter(tmp_path / "x.lmdb", PLAN) as writer:
        fill(writer, range(3))
        writer.finish()
    with LmdbWriter(tmp_path / "x.lmdb", PLAN) as writer:
        assert writer.complete


def test_writer_refuses_a_run_with_another_plan(tmp_path):
    with LmdbWriter(tmp_path / "x.lmdb", PLAN) as writer:
        fill(writer, range(3))
    with pytest.raises(FileExistsError, match=r"holds an interrupted run with other settings \(size 32, now 64\)"):
        LmdbWriter(tmp_path / "x.lmdb", {**PLAN, "size": 64})


def test_writer_refuses_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "x.lmdb").mkdir()
    (tmp_path / "x.lmdb/photo.png").write_bytes(b"")
    with pytest.raises(FileExistsError, match="exists and was not made by this command"):
        LmdbWriter(tmp_path / "x.lmdb", PLAN)


def test_writer_overwrites_only_its_files(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 3)
    (tmp_path / "x.lmdb/notes.md").write_text("mine")
    with LmdbWriter(tmp_path / "x.lmdb", PLAN, overwrite=True) as writer:
        assert not writer.complete
        assert not writer.keys
        fill(writer, range(2))
        writer.finish()
    assert len(content_of(tmp_path / "x.lmdb")) == 2
    assert (tmp_path / "x.lmdb/notes.md").read_text() == "mine"


def test_writer_with_overwrite_still_continues_its_own_interrupted_run(tmp_path):
    with LmdbWriter(tmp_path / "x.lmdb", PLAN, batch=2, overwrite=True) as writer:
        fill(writer, range(2))
    with LmdbWriter(tmp_path / "x.lmdb", PLAN, batch=2, overwrite=True) as writer:
        assert len(writer.keys) == 2


def test_writer_says_that_an_interrupted_run_is_damaged(tmp_path):
    with LmdbWriter(tmp_path / "x.lmdb", PLAN, batch=2) as writer:
        fill(writer, range(20))
    os.truncate(tmp_path / "x.lmdb/data.mdb", 20_000)
    with pytest.raises(ValueError, match="data.mdb is cut off: it has 20000 of"):
        LmdbWriter(tmp_path / "x.lmdb", PLAN)
    with LmdbWriter(tmp_path / "x.lmdb", PLAN, overwrite=True) as writer:
        assert not writer.keys


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_writer_refuses_a_second_writer(tmp_path):
    with (
        LmdbWriter(tmp_path / "x.lmdb", PLAN),
        pytest.raises(OSError, match="another process is writing"),
    ):
        LmdbWriter(tmp_path / "x.lmdb", PLAN)


def test_writer_refuses_other_names_and_repeated_keys(tmp_path):
    with pytest.raises(ValueError, match=r"name ends with \.lmdb"):
        LmdbWriter(tmp_path / "x", PLAN)
    with LmdbWriter(tmp_path / "x.lmdb", PLAN) as writer:
        fill(writer, [1])
        with pytest.raises(ValueError, match="has the key 'k001' already"):
            fill(writer, [1])


def test_writer_replaces_what_a_reader_of_this_process_has_open(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 1)
    assert len(LmdbReader(tmp_path / "x.lmdb").keys) == 1
    with LmdbWriter(tmp_path / "x.lmdb", PLAN, overwrite=True) as writer:
        fill(writer, range(3))
        writer.finish()
    assert len(content_of(tmp_path / "x.lmdb")) == 3


def test_reader_opens_a_path_twice(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 2)
    first, second = LmdbReader(tmp_path / "x.lmdb"), LmdbReader(tmp_path / "x.lmdb")
    assert first.get("face_00") == second.get("face_00")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_reader_works_after_a_fork(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 2)
    reader = LmdbReader(tmp_path / "x.lmdb")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(reader.get, ["face_00", "face_01"]) == [reader.get("face_00"), reader.get("face_01")]


def test_reader_pickles(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 1)
    reader = LmdbReader(tmp_path / "x.lmdb")
    assert pickle.loads(pickle.dumps(reader)).get("face_00") == reader.get("face_00")


def test_reader_says_that_the_lmdb_is_missing(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"LMDB .*x\.lmdb does not exist\. Make it with facesr prepare faces IN"
    ):
        LmdbReader(tmp_path / "x.lmdb")


def test_reader_says_that_the_data_is_missing(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 1)
    (tmp_path / "x.lmdb/data.mdb").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no data\.mdb"):
        LmdbReader(tmp_path / "x.lmdb")


@pytest.mark.parametrize("keep", [0.0, 0.05, 0.5, 0.97])
def test_reader_says_that_the_data_is_cut_off(tmp_path, keep):
    write_lmdb(tmp_path / "x.lmdb", 30)
    data = tmp_path / "x.lmdb/data.mdb"
    os.truncate(data, int(data.stat().st_size * keep))
    with pytest.raises(ValueError, match=r"data\.mdb is (cut off|damaged).*Copy the LMDB again"):
        LmdbReader(tmp_path / "x.lmdb")


def test_reader_says_that_the_data_is_no_lmdb(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 1)
    (tmp_path / "x.lmdb/data.mdb").write_bytes(b"no database" * 5000)
    with pytest.raises(ValueError, match=r"data\.mdb is damaged"):
        LmdbReader(tmp_path / "x.lmdb")


def test_reader_says_that_the_list_claims_more_than_there_is(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 2)
    with (tmp_path / "x.lmdb/meta_info.txt").open("a") as meta:
        meta.write("more.png (32,32,3) 1\n")
    with pytest.raises(ValueError, match=r"lists 3 images, the data has 2\. They do not belong together"):
        LmdbReader(tmp_path / "x.lmdb")


@pytest.mark.parametrize(("content", "text"), [("", "got an empty file"), ("face_00.png\n", "must have lines")])
def test_reader_rejects_a_wrong_list(tmp_path, content, text):
    write_lmdb(tmp_path / "x.lmdb", 1)
    (tmp_path / "x.lmdb/meta_info.txt").write_text(content)
    with pytest.raises(ValueError, match=text):
        LmdbReader(tmp_path / "x.lmdb")


def test_reader_names_a_missing_key(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 1)
    with pytest.raises(KeyError, match="has no key 'other'"):
        LmdbReader(tmp_path / "x.lmdb").get("other")


def test_reader_takes_keys_with_dots_that_other_tools_wrote(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 1)
    shutil.rmtree(tmp_path / "x.lmdb")
    (tmp_path / "x.lmdb").mkdir()
    with lmdb.open(str(tmp_path / "x.lmdb"), map_size=2**20) as environment, environment.begin(write=True) as writing:
        writing.put(b"a.b c", b"value")
    (tmp_path / "x.lmdb/meta_info.txt").write_text("a.b c.png (1,1,3) 1\n")
    assert LmdbReader(tmp_path / "x.lmdb").get("a.b c") == b"value"


PAIRED = """
import sys, numpy as np
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils.file_client import LmdbBackend
assert "lmdb" in LmdbBackend.__init__.__code__.co_varnames, "BasicSR's own reader is meant"
gt, lq = sys.argv[1:]
dataset = PairedImageDataset(
    {"dataroot_gt": gt, "dataroot_lq": lq, "io_backend": {"type": "lmdb"}, "scale": 2, "phase": "val"}
)
for sample in (dataset[i] for i in range(len(dataset))):
    print(sample["gt_path"], *sample["lq"].shape, int((sample["gt"].double() * 255).round().sum()))
"""


@pytest.mark.process
def test_unpatched_basicsr_reads_it(tmp_path):
    pytest.importorskip("basicsr")
    write_lmdb(tmp_path / "gt.lmdb", 3, 32)
    write_lmdb(tmp_path / "lq.lmdb", 3, 16)
    command = [sys.executable, "-c", f"import facesr_plugin\n{PAIRED}", tmp_path / "gt.lmdb", tmp_path / "lq.lmdb"]
    environment = {**os.environ, "FACESR_COMPAT": "-lmdb-reopen,-lmdb-writer"}
    lines = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()
    assert lines == [f"face_{i:02d} 3 16 16 {make_image(i, 32).sum(dtype=int)}" for i in range(3)]


@pytest.mark.parametrize(
    "line",
    [
        "a.png (-1,4,3) 1",
        "a.png (4,0,3) 1",
        "a.png (99999999999999999999,4,3) 1",
        "a\0.png (4,4,3) 1",
        "x" * 600 + ".png (4,4,3) 1",
    ],
)
def test_reader_refuses_impossible_lines(tmp_path, line):
    write_lmdb(tmp_path / "x.lmdb", 1)
    (tmp_path / "x.lmdb" / "meta_info.txt").write_text(line)
    with pytest.raises(ValueError, match=r"meta_info\.txt must have lines 'key\.png \(h,w,c\) 1', got '") as caught:
        LmdbReader(tmp_path / "x.lmdb")
    assert len(str(caught.value)) < 600


def test_reader_refuses_a_list_that_is_no_text(tmp_path):
    write_lmdb(tmp_path / "x.lmdb", 1)
    (tmp_path / "x.lmdb" / "meta_info.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"meta_info\.txt must be UTF-8 text, got binary data"):
        LmdbReader(tmp_path / "x.lmdb")
