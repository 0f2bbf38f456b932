"""The report of a run: one HTML file that needs nothing else, in light and in dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llm_gym.files import atomic
from llm_gym.files.untrusted import as_html, printable


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
        title: Heading of the page or part.
        text: What it is about.
        rows: Name -> value, shown as a table.
        charts: As for `Report.charts`.
        models: Above the answers of each of its comparisons.
        comparisons: Prompts with their answers, below the charts.
    """

    title: str
    text: str = ""
    rows: Mapping[str, object] = field(default_factory=dict)
    charts: Sequence[str] = ()
    models: Sequence[str] = ()
    comparisons: Sequence[Comparison] = ()


@dataclass(frozen=True)
class Report:
    """Everything the page shows. All text is taken as untrusted and escaped.

    Attributes:
        title: Heading of the page or part.
        summary: One sentence that says what happened.
        figures: The headline numbers.
        charts: `<figure>` elements made by `line_chart` or `scatter_chart`: they alone are HTML.
        chapters: Parts of the page between these charts and the answers.
        models: Names of the compared models, from first to last stage.
        comparisons: Prompts with an answer of each model.
        comparisons_title: Heading of these.
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
    comparisons_title: str = "The same prompts, before and after"
    score_range: tuple[float, float] = (0.0, 100.0)
    sections: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self.comparisons, self.models)
        for chapter in self.chapters:
            _check(chapter.comparisons, chapter.models)


def _check(comparisons: Sequence[Comparison], models: Sequence[str]) -> None:
    for row in comparisons:
        if len(row.answers) != len(models):
            raise ValueError(
                f"the comparison for prompt {printable(row.prompt[:60])!r} has "
                f"{len(row.answers)} answers, but there are {len(models)} models"
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
        *(_chapter(chapter, report.score_range) for chapter in report.chapters),
        _comparisons(report),
        *(
            _chapter(Chapter(heading, rows=rows), report.score_range)
            for heading, rows in report.sections.items()
        ),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{as_html(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def write_report(report: Report, path: str | Path) -> Path:
    """Renders `report` to a file, atomically, and returns its path."""
    return atomic.write_text(path, render(report))


def _figures(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    tiles = "".join(
        f'<div class="tile"><span class="name">{as_html(figure.label)}</span>'
        f'<span class="value">{as_html(figure.value)}</span>'
        f'<span class="note">{as_html(figure.note)}</span></div>'
        for figure in figures
    )
    return f'<section class="tiles">{tiles}</section>'


def _charts(charts: Sequence[str]) -> str:
    return f'<section class="charts">{"".join(charts)}</section>' if charts else ""


def _chapter(chapter: Chapter, score_range: tuple[float, float]) -> str:
    text = f'<p class="lead">{as_html(chapter.text)}</p>' if chapter.text else ""
    rows = f"<table>{_rows(chapter.rows)}</table>" if chapter.rows else ""
    heading = f"<h2>{as_html(chapter.title)}</h2>{text}"
    shown = _articles(chapter.comparisons, chapter.models, score_range)
    if not chapter.charts:
        return f"<section>{heading}{rows}{shown}</section>"
    parts = f'<div class="parts">{rows}{"".join(chapter.charts)}</div>'
    return f"<section>{heading}{parts}{shown}</section>"


def _comparisons(report: Report) -> str:
    if not report.comparisons:
        return ""
    rows = _articles(report.comparisons, report.models, report.score_range)
    return f"<section><h2>{as_html(report.comparisons_title)}</h2>{rows}</section>"


def _articles(
    comparisons: Sequence[Comparison], models: Sequence[str], score_range: tuple[float, float]
) -> str:
    rows = []
    for row in comparisons:
        answers = "".join(
            f'<div class="answer"><div class="who"><b>{as_html(model)}</b>'
            f"{_score(answer.score, score_range)}</div>"
            f"<pre>{as_html(answer.text.strip()) or '<em>nothing</em>'}</pre>{_note(answer)}</div>"
            for model, answer in zip(models, row.answers, strict=True)
        )
        rows.append(
            f'<article><h3>{as_html(row.prompt)}</h3><div class="answers">{answers}</div></article>'
        )
    return "".join(rows)


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
    """A 95 % interval as text, its ends formatted as `style` says; one without width is none."""
    if not low < high:
        return "no interval: too few values, or all alike"
    return f"{low:{style}} to {high:{style}} (95 %)"


def estimate(value: float | None, low: float | None, high: float | None, style: str) -> str:
    """A figure with its 95 % interval as text; what could not be computed is said."""
    if value is None or low is None or high is None:
        return "not defined: too few values, or all alike"
    return f"{value:{style}}, {interval(low, high, style)}"


def spread_evenly(number: int, count: int) -> list[int]:
    """Places of at most `number` of `count` examples, all over the list: not picked by result."""
    number = min(number, count)
    return [index * count // number for index in range(number)]


_STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f6f3; --card: #ffffff; --ink: #1c1d1f; --muted: #62656b; --rule: #e2e2dd;
  --s0: #2563b8; --s1: #c2571a; --s2: #2f855a; --s3: #8b4bb0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #151618; --card: #1e2023; --ink: #e8e8e6; --muted: #9da1a8; --rule: #34373c;
    --s0: #6ea8f2; --s1: #f0955a; --s2: #68c592; --s3: #c493e4;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 1160px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -0.01em; margin: 0 0 8px; }
h2 { font-size: 20px; margin: 44px 0 14px; }
h3 { font-size: 16px; margin: 0 0 12px; white-space: pre-line; overflow-wrap: anywhere; }
header p { color: var(--muted); font-size: 18px; margin: 0; max-width: 48em; }
.lead { color: var(--muted); margin: -6px 0 14px; max-width: 60em; }
.small { color: var(--muted); font-size: 13px; margin: 8px 0 0; }
.tiles, .charts { display: grid; gap: 14px; margin-top: 26px; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); }
.charts { grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); }
.charts:has(> :only-child) { max-width: 760px; }
.parts { display: grid; gap: 14px; align-items: start; }
.parts { grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); }
.tile, .chart, article, table {
  background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
}
.tile { padding: 14px 16px; display: flex; flex-direction: column; }
.tile .name, .tile .note { color: var(--muted); font-size: 13px; }
.tile .value {
  font-size: 25px; font-weight: 650; letter-spacing: -0.02em; white-space: nowrap;
}
.chart { margin: 0; padding: 14px 16px 10px; }
.chart figcaption { font-weight: 600; margin-bottom: 6px; }
.chart svg { display: block; width: 100%; height: auto; }
.chart .empty { color: var(--muted); margin: 30px 0; text-align: center; }
.key { color: var(--muted); font-weight: 400; font-size: 13px; margin-left: 14px; }
.key i {
  display: inline-block; width: 14px; height: 3px; vertical-align: middle; margin-right: 5px;
}
.key .s0 { background: var(--s0); } .key .s1 { background: var(--s1); }
.key .s2 { background: var(--s2); } .key .s3 { background: var(--s3); }
svg text { fill: var(--muted); font-size: 11.5px; font-variant-numeric: tabular-nums; }
svg .halo { paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .reference { stroke: var(--muted); stroke-width: 1.2; stroke-dasharray: 5 4; }
svg polyline { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
svg .s0 { stroke: var(--s0); } svg .s1 { stroke: var(--s1); }
svg .s2 { stroke: var(--s2); } svg .s3 { stroke: var(--s3); }
svg .dot { fill: var(--card); stroke-width: 2.2; }
svg .point { stroke: none; fill-opacity: 0.5; }
svg .point.s0 { fill: var(--s0); } svg .point.s1 { fill: var(--s1); }
svg .point.s2 { fill: var(--s2); } svg .point.s3 { fill: var(--s3); }
svg .diagonal { stroke: var(--muted); stroke-width: 1.2; stroke-dasharray: 5 4; }
svg .hit { fill: transparent; }
svg .hit:hover { fill: var(--muted); fill-opacity: 0.35; }
article { padding: 16px 18px; margin-bottom: 14px; }
table + article, .parts + article { margin-top: 14px; }
.answers { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); }
.answer { border-left: 3px solid var(--rule); padding-left: 12px; min-width: 0; }
.who { display: flex; justify-content: space-between; gap: 10px; font-size: 14px; }
.score { white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar {
  display: inline-block; width: 64px; height: 6px; border-radius: 3px; background: var(--rule);
  margin-right: 8px; vertical-align: middle; overflow: hidden;
}
.bar i { display: block; height: 100%; background: var(--s0); }
pre {
  margin: 8px 0 0; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 13.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
pre em { color: var(--muted); }
table { border-collapse: separate; border-spacing: 0; width: 100%; overflow: hidden; }
th, td {
  padding: 7px 16px; text-align: left; vertical-align: top; font-size: 14px;
  border-top: 1px solid var(--rule); overflow-wrap: anywhere;
}
tr:first-child th, tr:first-child td { border-top: 0; }
th { font-weight: 500; color: var(--muted); width: 34%; }
@media (max-width: 480px) {
  .tiles { grid-template-columns: 1fr 1fr; }
  .tile .value { font-size: 21px; }
  th { width: 42%; }
}
@media print { body { background: none; } .tile, .chart, article { break-inside: avoid; } }
"""
