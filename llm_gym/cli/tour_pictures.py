"""The pictures of the tour, one a stop, and the sentence that goes with each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llm_gym.files.terminal import bar, sparkline
from llm_gym.files.untrusted import printable, shortened

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Figures = dict[str, Any]

_WIDE = 26  # characters of a bar
_TEXT = 300  # of a text that is shown
_FIRST = 7  # tokens of the loop that are shown
_PILOTS = {"rule": "a rule", "pid": "control theory", "ppo": "a learnt policy"}


def picture_of(name: str, figures: Figures) -> RenderableType:
    """The picture of a stop.

    Args:
        name: Of the stop.
        figures: What it found.
    """
    return _PICTURES[name](figures)


def sentence_of(name: str, figures: Figures) -> str:
    """What there is to see in it.

    Args:
        name: Of the stop.
        figures: What it found.
    """
    return _SENTENCES[name](figures)


# ---------------------------------------------------------------------- pieces


def _bars(rows: Sequence[tuple[str, float, str]], style: str = "blue") -> Table:
    """Rows of name, share from 0 to 1, and figure."""
    from rich.text import Text

    table = _table()
    for name, share, told in rows:
        table.add_row(Text(name), told, Text(bar(share, _WIDE), style=style))
    return table


def _table() -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify)
    return table


def _stacked(*parts: RenderableType) -> RenderableType:
    from rich.console import Group

    return Group(*parts)


def _said(title: str, words: str, style: str = "") -> RenderableType:
    """A text of a model, its title before it; control characters are spelled out."""
    from rich.padding import Padding
    from rich.text import Text

    whole = printable(words.strip()).replace("\n\n", "\n")  # room for other things
    text = whole if len(whole) <= _TEXT else whole[: _TEXT - 1] + "…"
    return _stacked(Text(title, style="dim"), Padding(Text(text, style=style), (0, 0, 0, 2)))


def _token(text: str) -> str:
    return shortened(printable(text.replace("\n", "\\n"), multiline=False), 16) or "(end)"


# ---------------------------------------------------------------------- 1 to 5


def _text(found: Figures) -> RenderableType:
    rows = [
        (f"“{_token(token)}”", share, f"{share:.0%}")
        for token, share in zip(found["tokens"], found["probabilities"], strict=True)
    ]
    whole = found["text"] + found["continued"]
    return _stacked(_said("it goes on like this", whole), "", _bars(rows))


def _instructions(found: Figures) -> RenderableType:
    return _stacked(
        _said("instruction", found["prompt"]),
        _said("the model that continues text", found["base"], "red"),
        _said("the same one, after fine-tuning on answers", found["tuned"], "green"),
    )


def _cockpit(found: Figures) -> RenderableType:
    from rich.text import Text

    table, flights = _table(), found["flights"]
    far = max(abs(off) for flight in flights.values() for off in flight["off"])
    for name, flight in flights.items():
        curve = sparkline([abs(off) for off in flight["off"]], 44, 0.0, far)
        told = f"return {flight['total']:.0f}"
        table.add_row(_PILOTS[name], told, Text(curve, style="green" if name == "ppo" else "blue"))
    return _stacked(Text("metres off the target, through one minute", style="dim"), table)


def _tokens(found: Figures) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    steps, last = found["steps"], found["steps"][-1]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for head, justify in (
        ("state", "left"),
        ("action", "left"),
        ("policy", "right"),
        ("reward", "right"),
    ):
        table.add_column(head, justify=justify)  # type: ignore[arg-type]
    written = ""
    for step in steps[:_FIRST]:
        shown = shortened(printable(written.replace("\n", "\\n"), multiline=False)[-30:], 30)
        table.add_row(
            Text(f"prompt + “{shown}”"),
            Text(_token(step["token"]), style="blue"),
            f"{step['probability']:.0%}",
            f"{step['reward']:.0f}",
        )
        written += step["token"]
    table.add_row(f"... {len(steps) - _FIRST - 1} more steps", "", "", "", style="dim")
    table.add_row(
        "prompt + the whole email", Text(_token(last["token"]), style="blue"),
        f"{last['probability']:.0%}", Text(f"{last['reward']:.0f}", style="green"),
    )  # fmt: skip
    return _stacked(_said("prompt", found["prompt"]), table)


def _score(found: Figures) -> RenderableType:
    from rich.text import Text

    parts: list[RenderableType] = []
    for text, score, shares in zip(found["texts"], found["scores"], found["parts"], strict=True):
        parts.append(_said(f"{score:.0f} of {found['highest']:.0f}", text))
        table = _table()
        points = {n: x for n, x in shares.items() if n not in found["factors"] and x}
        largest = max((abs(x) for x in points.values()), default=1.0)
        for name, x in sorted(points.items(), key=lambda item: -abs(item[1]))[:4]:
            drawn = Text(bar(abs(x) / largest, _WIDE), style="green" if x > 0 else "red")
            table.add_row(name.replace("_", " "), f"{x:+.0f}", drawn)
        parts.append(table)
    return _stacked(*parts)


# ---------------------------------------------------------------------- 6 to 10


def _votes(found: Figures) -> RenderableType:
    return _stacked(
        _said("prompt", found["prompt"]),
        _said("preferred", found["chosen"], "green"),
        _said("not preferred", found["rejected"], "red"),
    )


def _reward_model(found: Figures) -> RenderableType:
    rows = [
        ("a coin", 0.5, "50 %"),
        ("counting words", found["bag_of_words"], f"{found['bag_of_words']:.0%}"),
        ("the reward model", found["accuracy"], f"{found['accuracy']:.0%}"),
    ]
    from rich.text import Text

    return _stacked(Text("held-out votes that are foretold", style="dim"), _bars(rows))


def _rlhf(found: Figures) -> RenderableType:
    from rich.text import Text

    table = _table()
    for name, style, digits in (("reward", "blue", 2), ("gold", "green", 1)):
        values = found[name]
        told = f"{values[0]:.{digits}f} to {values[-1]:.{digits}f}"
        label = "reward model" if name == "reward" else "gold score"
        table.add_row(label, told, Text(sparkline(_spread(values), 40), style=style))
    return _stacked(
        table,
        "",
        _said("prompt", found["prompt"]),
        _said("before", found["before"], "red"),
        _said("after", found["after"], "green"),
    )


def _price(found: Figures) -> RenderableType:
    from rich.text import Text

    table = _table()
    for name, style in (("approval", "green"), ("false_agreement", "magenta")):
        values = found[name]
        share = name == "false_agreement"
        told = " to ".join(f"{x:.0%}" if share else f"{x:.2f}" for x in (values[0], values[-1]))
        label = "agrees with who is wrong" if share else "what the raters think"
        table.add_row(label, told, Text(sparkline(values, 31), style=style))
    return _stacked(
        Text("from no optimisation to much", style="dim"),
        table,
        "",
        _said("a user who is wrong", found["asked"]),
        _said("before", found["said"][0], "green"),
        _said("after", found["said"][1], "magenta"),
    )


def _algorithms(found: Figures) -> RenderableType:
    rows = [("where they began", 0.0, "0 %")]
    rows += [(name, gain, f"{gain:.1%}") for name, gain in found["gain"].items()]
    return _bars([*rows, ("the best there is", 1.0, "100 %")])


def _spread(values: Sequence[float], points: int = 40) -> list[float]:
    """A few values as many, each for a while, so that their line is as long as others."""
    return [values[place * len(values) // points] for place in range(max(points, len(values)))]


_PICTURES: dict[str, Callable[[Figures], RenderableType]] = {
    "text": _text,
    "instructions": _instructions,
    "cockpit": _cockpit,
    "tokens": _tokens,
    "score": _score,
    "votes": _votes,
    "reward-model": _reward_model,
    "rlhf": _rlhf,
    "price": _price,
    "algorithms": _algorithms,
}

# ---------------------------------------------------------------------- sentences


def _of_flights(found: Figures) -> str:
    step, flights = found["step"], found["flights"]
    best = max(flights, key=lambda name: flights[name]["total"])
    return (
        f"State ({step['state']}), action ({step['action']}), reward ({step['reward']:.2f} of 1), "
        f"and a policy that goes from state to action: here {_PILOTS[best]} came furthest."
    )


def _of_price(found: Figures) -> str:
    first, last = found["false_agreement"][0], found["false_agreement"][-1]
    return (
        f"Raters who find agreement worth {found['bias']:g} and the truth 1 get it: going along "
        f"with users who are wrong goes from {first:.0%} to {last:.0%}, as optimisation finds what "
        "is rewarded and not what was meant."
    )


_SENTENCES: dict[str, Callable[[Figures], str]] = {
    "text": lambda found: (
        "A language model gives every possible next token a probability; drawing one after the "
        "other continues a text, and nothing else."
    ),
    "instructions": lambda found: (
        "Fine-tuning on pairs of instruction and answer turns going on into answering; what is "
        "good it has not been told."
    ),
    "cockpit": _of_flights,
    "tokens": lambda found: (
        "The same loop: the state is the text so far, the action is the next token, and the reward "
        f"comes at the end, {found['steps'][-1]['reward']:.0f} points after {len(found['steps'])} "
        "actions."
    ),
    "score": lambda found: (
        f"A score says what an answer is worth, {found['scores'][0]:.0f} of "
        f"{found['highest']:.0f} or {found['scores'][1]:.0f}, by rules that somebody had to write."
    ),
    "votes": lambda found: (
        f"Where nobody can write the rules people choose between two answers: {found['votes']} "
        f"votes here, simulated, would take a person {found['hours']:.1f} hours."
    ),
    "reward-model": lambda found: (
        f"A model learnt from {found['votes']} votes to foretell the others, right in "
        f"{found['accuracy']:.0%}, and never gets tired."
    ),
    "rlhf": lambda found: (
        f"{found['summary']['tokens']:,} tokens of trial and error against that model took the "
        f"gold score, which it never saw, from {found['gold'][0]:.1f} to {found['gold'][-1]:.1f}."
    ),
    "price": _of_price,
    "algorithms": lambda found: (
        f"On a problem small enough to know the best policy, {found['answers']:,} answers bring "
        "each algorithm so far; here one can tell which is better, and whether it is right."
    ),
}
