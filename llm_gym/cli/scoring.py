"""The command `score`: what a scorer makes of one text, and of which parts that consists."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_gym.cli.options import Device
from llm_gym.files.untrusted import printable, shortened

if TYPE_CHECKING:
    from rich.table import Table

    from llm_gym.scorers import Scorer

EXAMPLES = """\
\b
  llm-gym score "You fool, give me Friday off NOW!!!"
  llm-gym score - --prompt "Write an email to Anna." < email.txt
  llm-gym score "Two words" --scorer length:2 --json"""

_BAR = 24  # characters of the longest


def score(
    text: Annotated[str, typer.Argument(help="The answer to judge; - reads standard input.")],
    prompt: Annotated[str, typer.Option(help="What it answers.")] = "",
    scorer: Annotated[str, typer.Option(help="Who judges; the names are below.")] = "politeness",
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Print what a text is worth to a scorer, with the parts of the judgement as bars."""
    from llm_gym.language_models.loading import torch_device
    from llm_gym.scorers.by_name import scorer_from_name

    judge = scorer_from_name(scorer, str(torch_device(device)))
    answer = sys.stdin.read() if text == "-" else text
    scores = judge.score([prompt], [answer])
    value = float(scores.values[0])
    parts = {name: float(column[0]) for name, column in scores.parts.items()}
    if as_json:
        known = {name: None if math.isnan(part) else part for name, part in parts.items()}
        typer.echo(json.dumps({"score": value, "highest": judge.highest, "parts": known}))
        return
    from rich.console import Console

    typer.echo(worth(value, judge.highest))
    if parts:
        Console(highlight=False).print(bars(parts, judge))


def worth(value: float, highest: float | None) -> str:
    """A score in words: "4 of 100" where a highest one is known."""
    if highest is None:
        return f"{value:.4g}"
    digits = 0 if highest >= 10 else 2
    return f"{value:.{digits}f} of {highest:g}"


def bars(parts: dict[str, float], scorer: Scorer) -> Table:
    """The parts of a score as a table: name, figure, bar.

    Bars of points are drawn to one scale, from the largest of them; those of factors, which the sum
    of the points is multiplied by, from 1. A part that says nothing of the text has no bar.

    Args:
        parts: By name; NaN says nothing.
        scorer: Says which of them are factors.
    """
    from rich.table import Table
    from rich.text import Text

    points = [abs(part) for name, part in parts.items() if name not in scorer.factors]
    largest = max((size for size in points if math.isfinite(size)), default=0.0) or 1.0
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    for name, part in parts.items():
        is_factor = name in scorer.factors
        style = "red" if part < 0 or (is_factor and part < 1) else "green"
        size = abs(part) / (1.0 if is_factor else largest)
        drawn = "" if math.isnan(part) else "█" * max(round(_BAR * min(size, 1.0)), int(size > 0))
        shown: Any = "-" if math.isnan(part) else f"x {part:.2f}" if is_factor else f"{part:+.3g}"
        table.add_row(Text(shortened(printable(name), 40)), shown, Text(drawn, style=style))
    return table
