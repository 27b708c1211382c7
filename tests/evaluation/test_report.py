import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from facesr_plugin.evaluation.measures import Measure
from facesr_plugin.evaluation.pairs import Face, Unpaired
from facesr_plugin.evaluation.report import write_report
from facesr_plugin.evaluation.result import Evaluation, Problem, SetValue
from facesr_plugin.evaluation.statistics import compare, summarise
from facesr_plugin.utils.imageio import write_png

PSNR = Measure("psnr_rgb", "all channels", "higher", "dB", 2, True)
NME = Measure("nme_box", "mean error", "lower", "", 4, True)
FID = Measure("fid", "over all faces", "lower", "", 2, False)
HOSTILE = "<script>alert(1)</script>\"'\n|`]({{ 7*7 }}&\udcff"


class Page(HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags, self.images, self.headings, self.text = [], [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        self.images += [dict(attrs)] if tag == "img" else []

    def handle_data(self, data: str) -> None:
        self.text += data

    def alts(self) -> list[str]:
        return [image["alt"] for image in self.images]


def make_face(folder: Path, stem: str, seed: int) -> Face:
    random = np.random.default_rng(seed)
    gt, noise = random.integers(0, 256, (12, 12, 3), np.uint8), random.normal(0, 30, (2, 12, 12, 3))
    paths = {name: folder / f"{name}_{seed}.png" for name in ("gt", "lq", "net", "other")}
    for path, image in zip(paths.values(), [gt, gt[::4, ::4], *(gt + noise).clip(0, 255)], strict=True):
        write_png(path, image.astype(np.uint8))
    return Face(stem, {"net": paths["net"], "other": paths["other"]}, paths["gt"], paths["lq"])


def make_evaluation(folder: Path, psnr: list[float], measures: tuple[Measure, ...] = (PSNR,), **more) -> Evaluation:
    """Faces ``face0``, ... of two results, the second one 1 worse everywhere."""
    faces = tuple(make_face(folder, f"face{row}", row) for row in range(len(psnr)))
    column = np.array(psnr, np.float64)
    values = {one.name: {"net": column, "other": column - 1} for one in measures if one.per_face}
    statistics = {
        name: dict(zip(found, summarise(np.stack([*found.values()], 1)), strict=True)) for name, found in values.items()
    }
    differences = tuple(compare(values, "net", ["other"], dict.fromkeys(values, "higher")))
    empty = {"set_values": {}, "missing": {}, "unpaired": (), "problems": (), "settings": {}}
    given = {"results": ("net", "other"), "faces": faces, "measures": measures, "values": values}
    return Evaluation(**given, statistics=statistics, differences=differences, **{**empty, **more})


def write(evaluation: Evaluation, folder: Path) -> tuple[Page, str]:
    markdown, page = write_report(evaluation, folder / "report")
    assert (markdown.name, page.name) == ("report.md", "report.html")
    return Page(page), markdown.read_text(encoding="utf-8")


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)


def test_report_shows_values_pictures_and_plots(tmp_path: Path) -> None:
    page, markdown = write(make_evaluation(tmp_path, [0.02, 0.03, 0.04], (PSNR, NME)), tmp_path)
    assert any(alt.startswith("Histogram of psnr_rgb (dB): net from 0.02 to 0.04") for alt in page.alts())
    assert any(alt.startswith("Cumulative distribution of nme_box. net: half of the faces") for alt in page.alts())
    for what in (
        "input 3x3 of",
        "input, bicubic of",
        "net of",
        "ground truth of",
        "PSNR map of net,",
        "SSIM map of input, bicubic,",
    ):
        assert any(alt.startswith(what) and alt.endswith("face face2") for alt in page.alts()), what
    assert "colours from 10 dB, bright, to 50 dB, black" in page.alts()
    assert "| `psnr_rgb` | dB | higher is better | `net` | 0.03 | 0.02 to 0.04 | 0.03 | 3 |" in markdown
    assert "| `psnr_rgb (dB)` | `other` | +1.000 | +1.000 to +1.000 | 100 % | better | 3 |" in markdown


@pytest.mark.usefixtures("without_plots")
def test_report_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    page, _ = write(make_evaluation(tmp_path, [20, 30]), tmp_path)
    assert page.images
    assert all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in page.images)
    addresses = [value for tag, attrs in page.tags for key, value in attrs.items() if key in ("href", "src", "srcset")]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    assert "url(" not in page.text
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert {address[1:] for address in addresses if address.startswith("#")} <= set(ids)
    assert len(ids) == len(set(ids))


@pytest.mark.usefixtures("without_plots")
def test_report_without_matplotlib_says_so(tmp_path: Path) -> None:
    page, _ = write(make_evaluation(tmp_path, [20]), tmp_path)
    assert "Not drawn: figures of curves need matplotlib: pip install matplotlib" in page.text


@pytest.mark.usefixtures("without_plots")
def test_report_shows_the_worst_and_the_best_faces_once(tmp_path: Path) -> None:
    values = [25, 20, 29, np.nan, 21, np.inf, 28]
    page, markdown = write(make_evaluation(tmp_path, values), tmp_path)
    order = re.findall(r"(face\d): psnr_rgb ([\d.]+) dB", page.text)
    assert order == [(f"face{row}", f"{values[row]:.2f}") for row in (1, 4, 0, 2, 6)]
    assert re.findall(r"^\| `(face\d)`", markdown, re.M) == [face for face, _ in order]


@pytest.mark.usefixtures("without_plots")
def test_report_chooses_the_worst_by_what_is_better(tmp_path: Path) -> None:
    page, _ = write(make_evaluation(tmp_path, [0.1, 0.3], (NME,)), tmp_path)
    assert re.findall(r"(face\d): nme_box", page.text) == ["face1", "face0"]


@pytest.mark.usefixtures("without_plots")
@pytest.mark.parametrize("values", [[np.inf, np.inf], [np.nan, np.nan]])
def test_report_without_finite_values_shows_no_face(tmp_path: Path, values: list) -> None:
    page, markdown = write(make_evaluation(tmp_path, values), tmp_path)
    assert page.images == []
    assert (
        "| `net` | \u221e | \u2013 | \u221e | 2 |" in markdown or "| `net` | \u2013 | \u2013 | \u2013 | 0 |" in markdown
    )


@pytest.mark.usefixtures("without_plots")
def test_report_lists_what_was_not_measured(tmp_path: Path) -> None:
    evaluation = make_evaluation(
        tmp_path,
        [20, 30],
        (PSNR, FID),
        set_values={"fid": {"net": SetValue(2, 3.456), "other": SetValue(1, None, "two faces or more")}},
        missing={"lpips_vgg": "no weights.\nFetch them: facesr weights fetch lpips_vgg"},
        unpaired=tuple(Unpaired(Path(f"/sr/u{index}.png"), "ground truth") for index in range(25)),
        problems=(Problem("face1", "other", "sizes differ"),),
    )
    page, markdown = write(evaluation, tmp_path)
    for text in (page.text, markdown):
        assert "2 faces. Not complete: 1 metric missing, 25 files without partner, 1 problem with a face." in text
        assert "no weights. Fetch them: facesr weights fetch lpips_vgg" in text
        assert "3.46" in text
        assert "two faces or more" in text
        assert "sizes differ" in text
    assert "/sr/u24.png" in page.text
    assert "And 5 more: `unpaired.txt` lists all of them." in markdown


@pytest.mark.usefixtures("without_plots")
def test_report_escapes_hostile_names(tmp_path: Path) -> None:
    evaluation = make_evaluation(tmp_path, [20, 30])
    first = replace_results(evaluation.faces[0]._replace(stem=HOSTILE))
    evaluation = replace(
        evaluation,
        results=(HOSTILE,),
        faces=(first, replace_results(evaluation.faces[1])),
        values={"psnr_rgb": {HOSTILE: evaluation.values["psnr_rgb"]["net"]}},
        statistics={"psnr_rgb": {HOSTILE: evaluation.statistics["psnr_rgb"]["net"]}},
        differences=(),
        missing={"fid": HOSTILE},
        unpaired=(Unpaired(Path(HOSTILE.replace("/", "")), HOSTILE),),
        problems=(Problem(HOSTILE, HOSTILE, HOSTILE),),
        settings={HOSTILE: HOSTILE},
    )
    page, markdown = write(evaluation, tmp_path)
    assert "script" not in {tag for tag, _ in page.tags}
    assert all(set(image) == {"class", "src", "alt"} for image in page.images)
    shown = r"""<script>alert(1)</script>"'\n|`]({{ 7*7 }}&\udcff"""
    assert page.text.count(shown) >= 8
    assert f"net of face {shown}".replace("net", shown) in page.alts()
    assert "<script" not in markdown
    cells = [len(line.split(" | ")) for line in markdown.splitlines() if line.startswith("| `psnr_rgb`")]
    assert cells == [8]


def replace_results(face: Face) -> Face:
    return face._replace(results={HOSTILE: face.results["net"]})


@pytest.mark.usefixtures("without_plots")
def test_report_tells_images_that_are_gone_or_of_another_size(tmp_path: Path) -> None:
    evaluation = make_evaluation(tmp_path, [20])
    face = evaluation.faces[0]
    write_png(face.results["net"], np.zeros((6, 6, 3), np.uint8))
    face.results["other"].unlink()
    page, _ = write(evaluation, tmp_path)
    assert page.text.count("another size") == 2
    assert page.text.count("no image") == 1
    assert "PSNR map of input, bicubic, face face0" in page.alts()


@pytest.mark.usefixtures("without_plots")
def test_report_needs_neither_ground_truth_nor_input(tmp_path: Path) -> None:
    evaluation = make_evaluation(tmp_path, [20])
    evaluation = replace(evaluation, faces=(evaluation.faces[0]._replace(gt=None, lq=None),))
    page, _ = write(evaluation, tmp_path)
    assert page.alts() == ["net of face face0", "other of face face0"]


@pytest.mark.usefixtures("without_plots")
def test_report_is_written_again_the_same(tmp_path: Path) -> None:
    evaluation = make_evaluation(tmp_path, [20, 21])
    first, second = ([path.read_bytes() for path in write_report(evaluation, tmp_path / name)] for name in "ab")
    assert first == second
