"""The report of a run: one HTML file that needs nothing else, in light and in dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llm_gym.files import atomic
from llm_gym.files.style import STYLE
from llm_gym.files.untrusted import as_html, printable

__all__ = ["Chapter", "Comparison", "Figure", "Report", "ShownAnswer", "render", "write_report"]


@dataclass(frozen=True)
class Figure:
    """One number at the head of the page.

    Attributes:
        label: What it is.
        value: The number, formatted, with its unit.
        note: A line of small print, for example an interval.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class ShownAnswer:
    """What one model wrote, its score (None: not scored), and a line about it."""

    text: str
    score: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """The answers of several models to one prompt, in the order of `Report.models`."""

    prompt: str
    answers: tuple[ShownAnswer, ...]


@dataclass(frozen=True)
class Chapter:
    """A part of the page about one thing: a few words, its figures, its charts.

    Attributes:
        title: heading.
        text: What it is about.
        rows: Name -> value, shown as a table.
        charts: As for `Report.charts`.
    """

    title: str
    text: str = ""
    rows: Mapping[str, object] = field(default_factory=dict)
    charts: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """Everything the page shows. All text is taken as untrusted and escaped.

    Attributes:
        title: heading.
        summary: One sentence that says what happened.
        figures: The headline numbers.
        charts: `<figure>` elements made by `line_chart` or `scatter_chart`: they alone are HTML.
        chapters: Parts of the page between these charts and the answers.
        models: Names of the compared models, from first to last stage.
        comparisons: Prompts with an answer of each model.
        score_range: Lowest and highest score a scorer can give; sets the scale of the score bars.
        sections: Heading -> (name -> value), shown as tables: settings, versions, machine.
    """

    title: str
    summary: str
    figures: Sequence[Figure] = ()
    charts: Sequence[str] = ()
    chapters: Sequence[Chapter] = ()
    models: Sequence[str] = ()
    comparisons: Sequence[Comparison] = ()
    score_range: tuple[float, float] = (0.0, 100.0)
    sections: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.comparisons:
            if len(row.answers) != len(self.models):
                raise ValueError(
                    f"the comparison for prompt {printable(row.prompt[:60])!r} has "
                    f"{len(row.answers)} answers, but there are {len(self.models)} models"
                )


def render(report: Report) -> str:
    """The page as a string of HTML.

    Args:
        report: What to show.

    Returns:
        A whole document. It refers to no other file and contains no script.
    """
    parts = [
        f"<header><h1>{as_html(report.title)}</h1><p>{as_html(report.summary)}</p></header>",
        _figures(report.figures),
        _charts(report.charts),
        *(_chapter(one) for one in report.chapters),
        _comparisons(report),
        *(_chapter(Chapter(heading, rows=rows)) for heading, rows in report.sections.items()),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{as_html(report.title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def write_report(report: Report, path: str | Path) -> Path:
    """Renders `report` to a file, atomically, and returns its path."""
    return atomic.write_text(path, render(report))


def _figures(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    tiles = "".join(
        f'<div class="tile"><span class="name">{as_html(one.label)}</span>'
        f'<span class="value">{as_html(one.value)}</span>'
        f'<span class="note">{as_html(one.note)}</span></div>'
        for one in figures
    )
    return f'<section class="tiles">{tiles}</section>'


def _charts(charts: Sequence[str]) -> str:
    return f'<section class="charts">{"".join(charts)}</section>' if charts else ""


def _chapter(chapter: Chapter) -> str:
    text = f'<p class="lead">{as_html(chapter.text)}</p>' if chapter.text else ""
    rows = f"<table>{_rows(chapter.rows)}</table>" if chapter.rows else ""
    heading = f"<h2>{as_html(chapter.title)}</h2>{text}"
    if not chapter.charts:
        return f"<section>{heading}{rows}</section>"
    return f'<section>{heading}<div class="parts">{rows}{"".join(chapter.charts)}</div></section>'


def _comparisons(report: Report) -> str:
    if not report.comparisons:
        return ""
    rows = []
    for row in report.comparisons:
        answers = "".join(
            f'<div class="answer"><div class="who"><b>{as_html(model)}</b>'
            f"{_score(answer.score, report.score_range)}</div>"
            f"<pre>{as_html(answer.text.strip()) or '<em>nothing</em>'}</pre>{_note(answer)}</div>"
            for model, answer in zip(report.models, row.answers, strict=True)
        )
        rows.append(
            f'<article><h3>{as_html(row.prompt)}</h3><div class="answers">{answers}</div></article>'
        )
    return f"<section><h2>The same prompts, before and after</h2>{''.join(rows)}</section>"


def _score(score: float | None, score_range: tuple[float, float]) -> str:
    if score is None:
        return ""
    low, high = score_range
    share = min(max((score - low) / (high - low), 0.0), 1.0)
    return (
        f'<span class="score"><span class="bar"><i style="width:{100 * share:.0f}%"></i></span>'
        f"{score:.1f}</span>"
    )


def _note(answer: ShownAnswer) -> str:
    return f'<p class="small">{as_html(answer.note)}</p>' if answer.note else ""


def _rows(rows: Mapping[str, object]) -> str:
    return "".join(
        f"<tr><th>{as_html(str(name))}</th><td>{as_html(str(value))}</td></tr>"
        for name, value in rows.items()
    )


def duration(seconds: float) -> str:
    """Seconds as people say them: `42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def interval(low: float, high: float, style: str = ".1f") -> str:
    """A 95 % interval as text, its ends formatted as `style` says."""
    return f"{low:{style}} to {high:{style}} (95 %)"


def spread_evenly(number: int, count: int) -> list[int]:
    """Places of at most `number` of `count` examples, all over the list: not picked by result."""
    number = min(number, count)
    return [index * count // number for index in range(number)]
