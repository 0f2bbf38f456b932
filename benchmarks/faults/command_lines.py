"""Bad command lines: each must end with one clear sentence, exit code 1 or 2, and no traceback.

A line is good if its standard error has exactly one sentence (`llm-gym: error: ...`, or the box of
a wrong option), and that names the option, its value or the file. A sentence that calls it a defect
of the program is none.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.faults import bad_files
from benchmarks.faults.forks import Ending, forked
from benchmarks.faults.rows import Row, tally
from llm_gym.cli.command import kind_of
from llm_gym.files.atomic import remove
from llm_gym.files.ranges import RANGES, Range
from llm_gym.testing.tiny import save_tiny_model


class Line(NamedTuple):
    """A bad command line.

    Attributes:
        what: What is wrong with it.
        arguments: Its words, without the program's name.
        names: Of these words, the sentence must have one.
    """

    what: str
    arguments: list[str]
    names: tuple[str, ...]


class World:
    """Inputs that are as they should be, and a place for what lines write.

    Args:
        directory: Where to.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.model = save_tiny_model(directory / "model")
        self.pairs = self._file("pairs.jsonl", '{"prompt": "w1", "completion": "w2"}\n' * 40)
        self.preferences = self._file(
            "preferences.jsonl",
            "".join(
                f'{{"prompt": "w{n}", "chosen": "w{n} w3", "rejected": "w4"}}\n' for n in range(20)
            ),
        )
        self.text = self._file("text.txt", "w1 w2 w3 w4\n" * 100)
        self.prompts = self._file("prompts.txt", "".join(f"w{n}\n" for n in range(20)))

    def _file(self, name: str, content: str) -> str:
        path = self.directory / name
        path.write_text(content, encoding="utf-8")
        return str(path)

    def sound(self, command: str) -> list[str]:
        """A line of the command with which nothing is wrong yet, though it may do much."""
        output = ["--output", str(self.directory / "out")]
        task = ["--prompts", self.prompts, "--scorer", "length:3", "--max-new-tokens", "4"]
        task += ["--env", "llm_gym/TextGeneration-v0"]
        return {
            "demo": ["demo", *output],
            "train": ["train", "--model", self.model, "--total-tokens", "64", *task, *output],
            "evaluate": ["evaluate", self.model, *task],
            "generate": ["generate", "w1", "--model", self.model, "--max-new-tokens", "4"],
            "pretrain": ["pretrain", self.text, "--steps", "1", *output],
            "sft": ["sft", self.pairs, "--model", self.model, *output],
            "compare": ["compare", str(self.directory / "new.db"), "--model", self.model],
            "label": ["label", str(self.directory / "new.db"), "--import", self.preferences],
            "reward-model": ["reward-model", self.preferences, "--model", self.model, *output],
            "dpo": ["dpo", self.preferences, "--model", self.model, *output],
            "rlhf": ["rlhf", "--quick", *output],
        }[command]


COMMANDS = [
    "demo",
    "train",
    "evaluate",
    "generate",
    "pretrain",
    "sft",
    "compare",
    "label",
    "reward-model",
    "dpo",
    "rlhf",
]


def lines(world: World) -> Iterator[Line]:
    """All of them."""
    yield from _numbers(world)
    yield from _words(world)
    yield from _data(world)
    yield from _models(world)
    yield from _scorers(world)
    yield from _settings_files(world)
    yield from _directories(world)
    yield from _misspelt(world)


# ------------------------------------------------------------------ options


def _flags(command: str) -> list[tuple[str, str]]:
    """Name and flag of the command's options that are numbers with a range."""
    import typer

    from llm_gym.cli.app import app

    (function,) = (c.callback for c in app.registered_commands if _name(c.callback) == command)
    kinds = {
        name: parameter.annotation
        for name, parameter in inspect.signature(function).parameters.items()
    }
    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return [
        (each.name, max(each.opts, key=len))
        for each in parameters
        if each.name in RANGES and kind_of(kinds[each.name]) in (int, float)
    ]


def _name(function: Any) -> str:
    return str(function.__name__).replace("_", "-")


def _bad_numbers(range_: Range) -> list[str]:
    bad = ["many"]
    bad += ["2.5"] if range_.whole else ["nan", "inf"]
    if math.isfinite(range_.low):
        bad.append(f"{range_.low - (0 if range_.above else 1):g}")
    if math.isfinite(range_.high):
        bad.append(str(int(range_.high) + (0 if range_.below else 1)))
    return bad


def _numbers(world: World) -> Iterator[Line]:
    """Every number of every command, with a bad value after the other in turn."""
    turn = 0
    for command in COMMANDS:
        for name, flag in _flags(command):
            bad = _bad_numbers(RANGES[name])
            value = bad[turn % len(bad)]
            turn += 1
            yield Line(
                f"{command} {flag} {value}",
                [*world.sound(command), flag, value],
                (flag, name, name.partition("_")[2] or name),
            )


def _words(world: World) -> Iterator[Line]:
    choices = {
        "train": "algorithm advantage loss ratio aggregation critic kl-in kl-estimator labels "
        "mixed-precision dtype attn-implementation prefix-cache shared-prompts on-max-length "
        "too-long bad-rows device reference prompt-template",
        "evaluate": "prefix-cache on-max-length device prompt-template too-long",
        "generate": "prefix-cache device prompt-template",
        "pretrain": "weights device bad-rows",
        "sft": "weights device bad-rows too-long prompt-template",
        "compare": "raters device too-long prompt-template",
        "label": "device",
        "reward-model": "weights device contradictions template bad-rows margin-column",
        "dpo": "weights device contradictions loss too-long prompt-template reference",
        "rlhf": "raters true-rater device too-long bad-rows prompt-template start-from",
    }
    for command, options in choices.items():
        for option in options.split():
            names = (option, option.replace("-", "_"), "nonsense")
            arguments = [*world.sound(command), f"--{option}", "nonsense"]
            yield Line(f"{command} --{option} nonsense", arguments, names)
    for command in ("train", "evaluate", "sft", "rlhf"):
        for device in ("cuda:99", "gpu", ""):
            arguments = [*world.sound(command), "--device", device]
            yield Line(f"{command} --device {device}", arguments, ("device",))
    for what in (
        "--kl-target 6 --kl-coef 0",
        "--algorithm rloo --group-size 3",
        "--algorithm rloo --group-size 1",
        "--algorithm grpo --n-epochs 2 --loss policy_gradient",
        "--algorithm a2c --n-epochs 4",
        "--algorithm reinforce --critic shared",
        "--algorithm raft --top-share 0.5 --threshold 1",
        "--min-new-tokens 9",
        "--eos-token-id 999",
        "--algorithm rloo --on-max-length truncate",
        "--env CartPole-v1",
        "--env nothing/At-v0",
    ):
        arguments = [*world.sound("train"), *what.split()]
        words = [word.lstrip("-") for word in what.split() if word.startswith("--")]
        names = (*words, *(word.replace("-", "_") for word in words), "nothing")
        yield Line(f"train {what}", arguments, names)


# ------------------------------------------------------------------ files


def _data(world: World) -> Iterator[Line]:
    places = {
        "generate --prompts": ["generate", "--model", world.model, "--prompts"],
        "sft": ["sft", "--model", world.model, "--output", str(world.directory / "out")],
        "dpo": ["dpo", "--model", world.model, "--output", str(world.directory / "out")],
    }
    for place, words in places.items():
        suffixes = (".jsonl", ".json", ".csv", ".parquet")
        for what, path in bad_files.rows_files(world.directory / "rows", suffixes):
            if place.startswith("generate") and what == "null .csv":
                continue
            yield Line(f"{place} {what}", [*words, path], (Path(path).name,))
    for what, path in bad_files.rows_files(world.directory / "rows", (".txt",)):
        words = ["pretrain", path, "--output", str(world.directory / "out")]
        yield Line(f"pretrain {what}", words, (Path(path).name,))
    for command in ("label", "reward-model", "dpo", "compare"):
        for what, path in bad_files.stores(world.directory / "stores"):
            yield Line(f"{command} {what}", [command, path], (Path(path).name,))


def _models(world: World) -> Iterator[Line]:
    for what, path in bad_files.models(world.directory / "models"):
        words = ["generate", "w1", "--model", path, "--max-new-tokens", "4"]
        yield Line(f"generate {what}", words, (Path(path).name, "template"))


def _scorers(world: World) -> Iterator[Line]:
    for what, name in bad_files.scorers(world.directory / "scorers"):
        words = [*world.sound("evaluate"), "--scorer", name]
        yield Line(
            f"evaluate {what}", words, ("scor", name.partition(":")[0], name.partition(":")[2])
        )


def _settings_files(world: World) -> Iterator[Line]:
    contents = {
        "empty list": b"[]\n",
        "text": b"hello\n",
        "deep": bad_files.CONTENTS["deep"],
        "latin-1": "device: caf\xe9\n".encode("latin-1"),
        "zeros": bad_files.CONTENTS["zeros"],
        "unknown": b"colour: red\n",
        "number": b"batch_size: 0\n",
        "switch": b"model: yes\n",
        "twice": b"seed: 1\nseed: 2\n",
        "tag": b"seed: !!python/object/apply:os.system ['true']\n",
        "reference": b"a: &a [*a]\n",
        "nan": b"learning_rate: .nan\n",
    }
    for what, content in contents.items():
        path = world.directory / f"{what.replace(' ', '_')}.yaml"
        path.write_bytes(content)
        words = [*world.sound("train"), "--config", str(path)]
        yield Line(f"train --config {what}", words, (path.name, "batch_size", "learning_rate"))


def _directories(world: World) -> Iterator[Line]:
    file = world.directory / "a_file"
    file.write_text("")
    foreign = world.directory / "foreign"
    foreign.mkdir(exist_ok=True)
    (foreign / "thesis.tex").write_text("mine")
    for command in ("train", "rlhf", "demo", "sft", "pretrain", "dpo", "reward-model"):
        for what, path in (("a file", file), ("foreign", foreign / "thesis.tex")):
            words = [*world.sound(command), "--output", str(path)]
            yield Line(f"{command} --output {what}", words, (path.name,))
    for command in ("train", "rlhf", "demo"):
        words = [*world.sound(command), "--output", str(foreign)]
        yield Line(f"{command} --output foreign directory", words, ("foreign",))
    for what, path in (("missing", world.directory / "gone"), ("foreign", foreign)):
        yield Line(f"train --resume {what}", ["train", "--resume", str(path)], (path.name,))
    for name, content in bad_files.CONTENTS.items():
        run = world.directory / f"run-{name.replace(' ', '_')}"
        run.mkdir(exist_ok=True)
        (run / "settings.json").write_bytes(content)
        yield Line(f"train --resume settings {name}", ["train", "--resume", str(run)], (run.name,))


def _misspelt(world: World) -> Iterator[Line]:
    for words in (
        ["trian"],
        ["train", "--modle", "x"],
        ["generate", "--temperatur", "1"],
        ["evaluate"],
        ["sft"],
        ["label"],
        ["rlhf", "--quick", "--class"],
        ["rlhf", "--text", world.text, "--start-from", world.model],
        ["generate", "w1 \udce9", "--model", world.model],
        ["generate", "w1", "--model", "caf\udce9"],
        ["generate", "w1", "--model", ""],
        ["generate", "w1", "--model", "../../etc"],
        ["evaluate", "--", "-1"],
        ["chat", "--port", "3"],
        ["label", "x.db", "--terminal", "--port", "3"],
        ["compare", "x.db", "--rater-noise", "2"],
        ["rlhf", "--prompt-column", "zz"],
        ["train", "--processes", "100000"],
        ["label", str(world.directory), "--export", "x.jsonl"],
        ["label", "new.db", "--export", "x.doc"],
    ):
        names = tuple(word.encode(errors="backslashreplace").decode() for word in words)
        extra = ("missing", "argument", "model", "prompt", "there is no", "{")
        yield Line(" ".join(names), words, (*names, *extra))


# ------------------------------------------------------------------ how they end


def problem(line: Line, ending: Ending) -> str:
    """What is wrong with the end of a line; empty if nothing is."""
    last = (ending.err.strip().splitlines() or [""])[-1][:200]
    if ending.code is None:
        return "hangs"
    if "Traceback (most recent call last)" in ending.err:
        return f"traceback: {last}"
    if "is a defect of llm-gym" in ending.err:
        return f"defect: {last}"
    if ending.code == 0:
        return "accepted"
    if ending.code not in (1, 2):
        return f"exit code {ending.code}: {last}"
    sentences = [each for each in ending.err.splitlines() if each.startswith("llm-gym: error:")]
    boxes = ending.err.count("─ Error ─")
    if len(sentences) + boxes != 1:
        return f"{len(sentences)} sentences and {boxes} boxes: {last}"
    text = (sentences[0] if sentences else ending.err).lower()
    if not any(name and name.lower() in text for name in line.names):
        return f"names none of {line.names}: {last}"
    return ""


def tried(line: Line, world: World) -> str:
    """Runs a line; what is wrong with its end."""
    from llm_gym.cli import main

    directory = world.directory
    for left in (directory / "out", directory / "new.db"):
        remove(left)
    return problem(line, forked(lambda: main(line.arguments), directory))


def measure(output: Path, quick: bool) -> list[Row]:
    """Runs all lines, or every tenth."""
    import llm_gym.learning.presets
    import llm_gym.stages.train  # noqa: F401 -- before the copies are made

    world = World(output / "world")
    chosen = list(lines(world))[:: 10 if quick else 1]
    return [tally("bad command lines", chosen, lambda line: tried(line, world))]
