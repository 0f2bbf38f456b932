"""The command `doctor`: what is wrong with a run, in words, with the evidence and the mend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm_gym.files.untrusted import printable

if TYPE_CHECKING:
    from rich.panel import Panel

    from llm_gym.runs.doctor import Diagnosis, Finding

EXAMPLES = """\
\b
  llm-gym doctor runs/polite
  llm-gym doctor runs/polite --json

Exit code 0: nothing was found, but notes. 1: something was. 2: there is
no run to examine, or its log is damaged."""

_COLOURS = {"error": "red", "warning": "yellow", "note": "blue"}


def doctor(
    directory: Annotated[
        Path, typer.Argument(help="Of a run of demo, train, rlhf, an agent or Stable-Baselines3.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Name what is wrong with a run, with the evidence and what mends it.

    It reads figures, looks at tokens and samples that the run has
    written, finished or not, and writes nothing.
    """
    from llm_gym.runs.doctor import examine, read_run

    found = examine(read_run(directory))
    if as_json:
        findings = [finding.to_dict() for finding in found.findings]
        typer.echo(json.dumps({**found._asdict(), "findings": findings}))
    else:
        _show(found)
    if any(finding.is_wrong for finding in found.findings):
        raise typer.Exit(1)


def _show(found: Diagnosis) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for finding in found.findings:
        console.print(panel(finding))
    seen = f"{found.iterations} iterations"
    number = sum(finding.is_wrong for finding in found.findings)
    console.print(
        f"{number} {'thing is' if number == 1 else 'things are'} wrong ({seen})."
        if number
        else f"Nothing wrong was found in {seen}.",
        markup=False,
    )
    if found.not_judged:
        console.print("Not judged:", markup=False)
    for name, reason in found.not_judged.items():
        console.print(f"  {name}: {reason}", markup=False, soft_wrap=True)


def panel(finding: Finding) -> Panel:
    """A finding as people read it.

    Args:
        finding: Its evidence may hold texts of the run's settings.
    """
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    evidence = [Text(f"  {printable(str(figure), multiline=False)}") for figure in finding.evidence]
    lines = [Text(finding.what, style="bold"), *evidence, Text(f"Mend: {finding.mend}")]
    colour = _COLOURS[finding.severity]
    title = Text(f"{finding.severity}: {finding.id}", style=colour)
    more = Text(finding.page, style="dim")
    return Panel(Group(*lines), title=title, title_align="left", subtitle=more, border_style=colour)
