"""Write an evaluation as ``report.md`` for pull requests, and as ``report.html``: one file with its pictures inside.

Names of files come from anywhere. They are escaped in both; the HTML holds no script and refuses to load anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from facesr_plugin.evaluation.figures import LARGEST_PX, Picture, draw_ced_curves, draw_histograms
from facesr_plugin.evaluation.measures import Measure
from facesr_plugin.evaluation.pairs import printable
from facesr_plugin.evaluation.result import Evaluation
from facesr_plugin.evaluation.shown import Choice, choose_faces, show_face
from facesr_plugin.evaluation.statistics import CONFIDENCE, RESAMPLES, Difference
from facesr_plugin.evaluation.words import NOTHING, counted, interval, md_code, md_table, md_text, number
from facesr_plugin.utils.files import atomic_write_text

_MD_LISTED, _HTML_LISTED = 20, 1000
_VERDICTS = {"better": "better", "worse": "worse", "open": "no difference shown", "unknown": "no interval"}
_INTERVAL = f"{100 * CONFIDENCE:.0f} % interval"


class ValueLine(NamedTuple):
    """A metric of a result, in words."""

    result: str
    mean: str
    interval: str
    median: str
    count: str


class MetricLines(NamedTuple):
    """A metric of all results, in words."""

    name: str
    unit: str
    better: str
    summary: str
    lines: tuple[ValueLine, ...]


class DifferenceLine(NamedTuple):
    """A paired difference, in words."""

    metric: str
    other: str
    mean: str
    interval: str
    wins: str
    verdict: str
    count: str


def write_report(evaluation: Evaluation, folder: str | os.PathLike) -> list[Path]:
    """Write ``report.md`` and ``report.html``, each whole or not at all.

    Without matplotlib the histograms and curves are left out, which the report says.

    Args:
        evaluation: What was found.
        folder: Of the files; it is created.

    Returns:
        The files.

    Raises:
        OSError: If they cannot be written.
    """
    texts = {"report.md": _markdown(evaluation), "report.html": _html(evaluation)}
    written = [Path(folder) / name for name in texts]
    for path, text in zip(written, texts.values(), strict=True):
        atomic_write_text(path, text)
    return written


def _html(evaluation: Evaluation) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("facesr_plugin.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(_context(evaluation))


def _context(evaluation: Evaluation) -> dict[str, Any]:
    histograms, curves, note = _plots(evaluation)
    choice = choose_faces(evaluation)
    return {
        "judged": printable(evaluation.results[0]),
        "state": _state(evaluation),
        "complete": evaluation.complete and not evaluation.missing,
        "interval": _INTERVAL,
        "resamples": RESAMPLES,
        "metrics": _metric_lines(evaluation),
        "missing": _missing(evaluation),
        "differences": [_difference_line(difference, evaluation) for difference in evaluation.differences],
        "histograms": histograms,
        "curves": curves,
        "plots_note": note,
        "chosen_by": choice and choice.measure.name,
        "sections": _shown_sections(evaluation, choice),
        "unpaired": [(printable(str(path)), printable(lacks)) for path, lacks in evaluation.unpaired[:_HTML_LISTED]],
        "unpaired_more": max(0, len(evaluation.unpaired) - _HTML_LISTED),
        "problems": [tuple(map(printable, problem)) for problem in evaluation.problems[:_HTML_LISTED]],
        "problems_more": max(0, len(evaluation.problems) - _HTML_LISTED),
        "largest": LARGEST_PX,
        "settings": [(printable(name), printable(value)) for name, value in evaluation.settings.items()],
    }


def _plots(evaluation: Evaluation) -> tuple[list[Picture], list[Picture], str]:
    try:
        return draw_histograms(evaluation), draw_ced_curves(evaluation), ""
    except ImportError as error:
        return [], [], f"Not drawn: {error}"


def _shown_sections(evaluation: Evaluation, choice: Choice | None) -> list[dict[str, Any]]:
    if choice is None:
        return []
    return [
        {
            "title": title,
            "id": title.split()[0].lower(),
            "faces": (show_face(evaluation, row, choice.measure) for row in rows),
        }
        for title, rows in (("Worst faces", choice.worst), ("Best faces", choice.best))
        if rows
    ]


def _state(evaluation: Evaluation) -> str:
    parts = [
        counted(len(evaluation.missing), "metric missing", "metrics missing") if evaluation.missing else "",
        counted(len(evaluation.unpaired), "file without partner", "files without partner")
        if evaluation.unpaired
        else "",
        counted(len(evaluation.problems), "problem with a face", "problems with faces") if evaluation.problems else "",
    ]
    faces = counted(len(evaluation.faces), "face", "faces")
    told = [part for part in parts if part]
    if told or not evaluation.complete:
        return f"{faces}. Not complete: {', '.join(told) or 'a metric has no value'}."
    return f"{faces}, all of them measured."


def _metric_lines(evaluation: Evaluation) -> list[MetricLines]:
    return [
        MetricLines(
            measure.name,
            measure.unit,
            measure.better,
            printable(measure.summary),
            tuple(_value_line(evaluation, measure, result) for result in evaluation.results),
        )
        for measure in evaluation.measures
    ]


def _value_line(evaluation: Evaluation, measure: Measure, result: str) -> ValueLine:
    name, digits = printable(result), measure.digits
    if not measure.per_face:
        found = evaluation.set_values[measure.name][result]
        note = printable(found.problem) if found.value is None and found.problem else "of the whole set"
        return ValueLine(name, number(found.value, digits), note, NOTHING, f"{found.count:,}")
    found = evaluation.statistics[measure.name][result]
    ends = interval(found.low, found.high, digits)
    return ValueLine(name, number(found.mean, digits), ends, number(found.median, digits), f"{found.count:,}")


def _difference_line(difference: Difference, evaluation: Evaluation) -> DifferenceLine:
    measure = next(measure for measure in evaluation.measures if measure.name == difference.metric)
    found, digits = difference.statistics, measure.digits + 1
    return DifferenceLine(
        f"{measure.name} ({measure.unit})" if measure.unit else measure.name,
        printable(difference.other),
        number(found.mean, digits, signed=True),
        interval(found.low, found.high, digits, signed=True),
        NOTHING if found.count == 0 else f"{100 * difference.wins:.0f} %",
        _VERDICTS[difference.verdict],
        f"{found.count:,}",
    )


def _missing(evaluation: Evaluation) -> list[tuple[str, str]]:
    return [(name, printable(" ".join(reason.splitlines()))) for name, reason in evaluation.missing.items()]


def _markdown(evaluation: Evaluation) -> str:
    lines = [
        f"# Evaluation of {md_code(evaluation.results[0])}",
        "",
        _state(evaluation),
        "",
        *_md_metrics(evaluation),
        *_md_missing(evaluation),
        *_md_differences(evaluation),
        *_md_faces(evaluation),
        *_md_lists(evaluation),
        "## Settings",
        "",
        *md_table(("setting", "value"), ((md_text(key), md_code(text)) for key, text in evaluation.settings.items())),
        "Pictures of faces, error maps, histograms and curves are in `report.html`, the values of all faces in "
        "`per_image.csv`.",
    ]
    return "\n".join(lines) + "\n"


def _md_metrics(evaluation: Evaluation) -> Iterator[str]:
    metrics = _metric_lines(evaluation)
    rows = [
        (f"`{metric.name}`", metric.unit, f"{metric.better} is better", md_code(line.result), *map(md_text, line[1:]))
        for metric in metrics
        for line in metric.lines
    ]
    rows += [(f"`{name}`", "", "", "", "missing", NOTHING, NOTHING, NOTHING) for name in evaluation.missing]
    header = ("metric", "unit", "", "result", "mean", _INTERVAL, "median", "faces")
    yield from ("## Metrics", "", *md_table(header, rows, numbers=4))
    yield f"Interval: of the mean, by the percentile bootstrap over faces ({RESAMPLES} draws, fixed seed). Protocols:"
    yield ""
    yield from (f"- `{metric.name}`: {md_text(metric.summary)}" for metric in metrics)
    yield ""


def _md_missing(evaluation: Evaluation) -> Iterator[str]:
    if evaluation.missing:
        yield from ("## Missing metrics", "")
        yield from (f"- `{name}`: {md_code(reason)}" for name, reason in _missing(evaluation))
        yield ""


def _md_differences(evaluation: Evaluation) -> Iterator[str]:
    if evaluation.differences:
        lines = [_difference_line(difference, evaluation) for difference in evaluation.differences]
        rows = [(f"`{line.metric}`", md_code(line.other), *map(md_text, line[2:])) for line in lines]
        header = ("metric", "minus", "mean difference", _INTERVAL, "faces won", "verdict", "faces")
        yield from (f"## {md_code(evaluation.results[0])} minus the others, face by face", "")
        yield from md_table(header, rows, numbers=5)


def _md_faces(evaluation: Evaluation) -> Iterator[str]:
    choice = choose_faces(evaluation)
    if choice is None:
        return
    measure, values = choice.measure, evaluation.values[choice.measure.name]
    for title, rows in (("Worst", choice.worst), ("Best", choice.best)):
        if rows:
            faces = (
                (md_code(evaluation.faces[row].name), *(number(values[name][row], measure.digits) for name in values))
                for row in rows
            )
            yield from (f"## {title} faces by `{measure.name}`", "")
            yield from md_table(("face", *map(md_code, values)), faces, numbers=len(values))


def _md_lists(evaluation: Evaluation) -> Iterator[str]:
    unpaired = ((md_code(str(path)), md_text(f"lacks {lacks}")) for path, lacks in evaluation.unpaired)
    problems = ((md_code(face), md_code(result), md_code(reason)) for face, result, reason in evaluation.problems)
    lists = (
        ("Files without partner", "unpaired.txt", unpaired, len(evaluation.unpaired)),
        ("Faces that were not measured by everything", "per_image.csv", problems, len(evaluation.problems)),
    )
    for title, file, rows, count in lists:
        if count:
            yield from (f"## {title} ({count:,})", "", *(f"- {': '.join(row)}" for row in islice(rows, _MD_LISTED)), "")
            if count > _MD_LISTED:
                yield from (f"And {count - _MD_LISTED:,} more: `{file}` lists all of them.", "")
