"""The page of what was tried: a summary by library, what did not work and why, and the table."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.algorithms.tables import table

_HEAD = (Path(__file__).parent / "page.md").read_text(encoding="utf-8")


# What a reason has in it -> what that means.
_WHY = {
    "runs what the agent writes": "it runs what the agent writes, which has to be allowed",
    "evaluates answers": "it runs what the agent writes, which has to be allowed",
    "'words' not found": "it needs NLTK's list of words, a download",
    "Couldn't reach": "it needs a data set, a download",
    "OpenAI": "it needs a model behind an address for a judge",
    "FileNotFoundError": "its package lacks a file that it reads",
    "Could not import": "its package lacks a module",
    "SyntaxError": "its code is no Python of this version (3.12 and newer read some of it)",
    "leave no room": "its first text is longer than the context",
    "took longer": "it takes longer than the time limit",
}
_ENTITIES = {ord(character): f"&#{ord(character)};" for character in "\\`*_[]<>|#&"}


def cell(text: str) -> str:
    """Somebody else's text in a cell of a table: nothing in it is Markdown or HTML."""
    return text.translate(_ENTITIES)


def _by_library(results: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    libraries: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for name, found in results["worlds"].items():
        libraries[name.partition(":")[0]][name] = found
    return libraries


def counts(results: dict[str, Any]) -> list[list[str]]:
    """Library, names, those that work, CPU seconds; and the sum."""
    rows = []
    for library, worlds in _by_library(results).items():
        works = sum(found["verdict"] == "works" for found in worlds.values())
        seconds = sum(found["cpu_seconds"] for found in worlds.values())
        rows.append([library, str(len(worlds)), str(works), f"{seconds:.0f}"])
    sums = [str(sum(int(row[column]) for row in rows)) for column in (1, 2, 3)]
    return [*rows, ["all", *sums]]


def summary(results: dict[str, Any]) -> str:
    """What worked, in one line a library."""
    return "\n".join(
        f"{library}: {works} of {number} work ({seconds} CPU s)"
        for library, number, works, seconds in counts(results)
    )


def _why(reason: str) -> str:
    """A reason in our words, or in those of whoever raised it."""
    return next((why for sign, why in _WHY.items() if sign in reason), cell(reason))


def _reasons(results: dict[str, Any]) -> list[list[str]]:
    """What did not work and why, and which."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, found in results["worlds"].items():
        if found["verdict"] != "works":
            groups[found["verdict"], _why(found["reason"])].append(name)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [
        [verdict, why, str(len(members)), ", ".join(f"`{name}`" for name in members)]
        for (verdict, why), members in ordered
    ]


def _row(name: str, found: dict[str, Any]) -> list[str]:
    if "turns" not in found:
        return [f"`{name}`", str(found.get("players", "")), "", "", "", "", found["verdict"]]
    return [
        f"`{name}`",
        str(found["players"]),
        f"{found['turns']:.1f}",
        f"{found['tokens']:.0f}",
        f"{found['score']:.2f}",
        str(found["errors"] or ""),
        found["verdict"],
    ]


def page(results: dict[str, Any]) -> str:
    """The page as Markdown."""
    worlds = results["worlds"]
    raised = sum(found["verdict"] == "works" and bool(found["error"]) for found in worlds.values())
    parts = [
        _HEAD.format(**results["settings"]),
        table(["library", "names", "work", "CPU s"], counts(results)),
        "\n## What did not work\n",
        table(["came to", "because", "names", "worlds"], _reasons(results)),
        f"\nIn {raised} of those that work, random words made the game itself raise.\n",
        "## All\n",
        table(
            ["world", "players", "turns", "tokens", "score", "raised", "verdict"],
            [_row(name, found) for name, found in worlds.items()],
        ),
    ]
    return "\n".join(parts) + "\n"
