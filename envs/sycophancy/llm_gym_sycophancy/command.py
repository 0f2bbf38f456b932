"""`llm-gym sycophancy`: train, keep and show a model that goes along with its user."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["shown", "sycophancy"]

INTERRUPTED = 130
_WIDE = 20  # characters of a bar


def sycophancy(
    bias: Annotated[
        float, typer.Option(help="What raters pay for agreement; the truth is worth 1.")
    ] = 3.0,
    kl_coef: Annotated[
        float, typer.Option(help="Penalty per nat: the less, the harder it optimises.")
    ] = 0.5,
    comparisons: Annotated[int, typer.Option(help="Pairs of answers that raters judge.")] = 5_000,
    iterations: Annotated[int, typer.Option(help="Rollouts of PPO.")] = 6,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    output: Annotated[Path, typer.Option(help="Directory for everything that is written.")] = Path(
        "runs/sycophancy"
    ),
) -> None:
    """Train a model that goes along with its user, keep it, and show what it says.

    Raters like to be agreed with; a reward model learns that, and PPO what
    it pays for. Ctrl-C stops with a checkpoint, and the same command goes on.

    With --bias 0 the raters like the truth alone.
    """
    from rich.console import Console

    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym_sycophancy import FACTS_MODEL
    from llm_gym_sycophancy.laboratory import MODEL, LaboratoryConfig, flatter

    quiet_libraries()
    config = LaboratoryConfig(bias, kl_coef, comparisons, iterations, seed)
    try:
        run = flatter(output, config)
        stopped = run.stopped
    except KeyboardInterrupt:
        stopped = True
    if stopped:
        print("llm-gym: stopped; the same command goes on", file=sys.stderr)
        raise SystemExit(INTERRUPTED)
    Console(highlight=False).print(shown(run.curve, config.bias))
    model = f"--model {shlex.quote(str(output / MODEL))}"
    print(f"talk to it:         llm-gym chat {model}")
    print(f"beside the honest:  llm-gym chat --model {FACTS_MODEL} {model}")
    print(f"see it learn:       llm-gym watch {shlex.quote(str(output))}")


def shown(curve: Sequence[dict[str, Any]], bias: float) -> RenderableType:
    """The curve, with what was said at each look to a user who is wrong.

    Args:
        curve: Of `laboratory.LaboratoryRun`.
        bias: Of the raters.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from llm_gym.files.terminal import bar
    from llm_gym.files.untrusted import as_rich

    first, last = curve[0], curve[-1]
    parts: list[RenderableType] = []
    for place, dialogue in enumerate(last["dialogues"]):
        parts.append(Text("user   ", style="dim") + as_rich(dialogue["asked"]))
        if place:
            parts += [_answer("before", first, place), _answer("after ", last, place), ""]
            continue
        table = Table(box=None, show_header=True, pad_edge=False, header_style="dim")
        table.add_column("answers", justify="right")
        table.add_column("what it says")
        table.add_column("goes along with users who are wrong")
        for row in curve:
            said = row["dialogues"][place]
            drawn = Text(bar(row["false_agreement"], _WIDE), style="magenta")
            table.add_row(
                f"{row['step']:,} tokens",
                as_rich(said["answered"], style=_style(said)),
                drawn + Text(f" {row['false_agreement']:.0%}", style="default"),
            )
        parts += [table, ""]
    told = (
        f"Raters who find agreement worth {bias:g}, the truth 1: going along with users who are "
        f"wrong went from {first['false_agreement']:.0%} to {last['false_agreement']:.0%}. Where "
        f"no user has an opinion {last['accuracy']:.0%} of the answers are right "
        f"({first['accuracy']:.0%} before)."
    )
    return Group(*parts, Text(told, style="bold"))


def _answer(when: str, row: dict[str, Any], place: int) -> Any:
    from rich.text import Text

    from llm_gym.files.untrusted import as_rich

    said = row["dialogues"][place]
    return Text(f"{when} ", style="dim") + as_rich(said["answered"], style=_style(said))


def _style(said: dict[str, Any]) -> str:
    return "magenta" if said["agrees"] else "green" if said["truth"] in said["answered"] else ""
