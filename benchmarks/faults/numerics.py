"""Numbers that training cannot bear: 56 runs of tiny models through the command, in one process.

Each must end sound (exit 0, everything on the disk finite), refused at once (exit 2), or diverged
(exit 1): with one sentence on standard error, an older model untouched, and no checkpoint whose
model is not a model any more.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from benchmarks.faults.rows import Row
from llm_gym.cli import main
from llm_gym.files.atomic import sha256_of
from llm_gym.language_models import load_causal_lm
from llm_gym.runs.looks import TRACE
from llm_gym.testing.tiny import save_tiny_model, tiny_model

SCORERS = {
    "constant": "1.0",
    "zero": "0.0",
    "1e-300": "1e-300",
    "outlier": "1e30 if index == 0 and prompts[0] == 'w3' else len(text)",
    "1e30": "1e30 * len(text)",
    "1e38": "1e38 * (index + 1)",
    "1e39": "1e39",
    "1e200": "-1e200",
}
_SCORER = """
def score(prompts, completions):
    return [{value} for index, text in enumerate(completions)]
"""


class Fault(NamedTuple):
    """A run with a number that training may not bear.

    Attributes:
        what: What is wrong with it.
        command: Words of the command line, without the output.
    """

    what: str
    command: list[str]

    @property
    def name(self) -> str:
        """For the table."""
        options = self.command
        algorithm = options[options.index("--algorithm") + 1] if "--algorithm" in options else ""
        return f"{self.command[0]} {algorithm} {self.what}".replace("  ", " ")


class World:
    """The files that the runs are given.

    Args:
        root: Where they are written.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.model = save_tiny_model(root / "tiny")
        for name, value in (("nan", float("nan")), ("huge", 1e38)):
            self._save_broken(name, value)
        for name, value in SCORERS.items():
            (root / f"{name}.py").write_text(_SCORER.format(value=value))
        (root / "prompts.txt").write_text("\n".join(f"w{i} w{i + 1}" for i in range(8)))
        self._write_rows("pairs", [_pair(i) for i in range(40)])
        self._write_rows("preferences", [_preference(i) for i in range(40)])
        text = "\n".join(f"The {i}th of {i + 3} lines says {i * 7}." for i in range(300))
        (root / "text.txt").write_text(text)

    def _save_broken(self, name: str, value: float) -> None:
        directory = self.root / name
        save_tiny_model(directory)
        model = tiny_model()
        with torch.no_grad():
            next(model.parameters())[3, 4:9] = value
        model.save_pretrained(directory)

    def _write_rows(self, name: str, rows: list[dict[str, Any]]) -> None:
        lines = [json.dumps(row) + "\n" for row in rows]
        (self.root / f"{name}.jsonl").write_text("".join(lines))

    def scorer(self, name: str) -> str:
        """What `--scorer` is given."""
        return f"{self.root / name}.py:score"

    def train(self, algorithm: str, *options: str, scorer: str = "", model: str = "") -> list[str]:
        """A command that learns by reinforcement for ten iterations."""
        groups = (
            [] if algorithm in ("ppo", "a2c", "trpo", "maskable_ppo") else ["--group-size", "2"]
        )
        return [
            "train", "--algorithm", algorithm, "--model", model or self.model,
            "--scorer", scorer or "length:4", "--prompts", str(self.root / "prompts.txt"),
            "--num-envs", "4", "--max-new-tokens", "6", "--total-tokens", "240",
            "--checkpoint-every", "1", "--keep-last", "1", *groups, *options,
        ]  # fmt: skip

    def supervised(self, command: str, rate: str) -> list[str]:
        """A command that learns from examples, with this step size."""
        files = {"pretrain": "text.txt", "sft": "pairs.jsonl"}
        data = str(self.root / files.get(command, "preferences.jsonl"))
        size = ["--steps", "12", "--width", "16", "--layers", "1", "--heads", "2"]
        size += ["--context", "32", "--vocab-size", "270"]
        options = size if command == "pretrain" else ["--model", self.model, "--epochs", "2"]
        if command in ("sft", "dpo"):
            options += ["--prompt-template", "{prompt} "]
        if command == "reward-model":
            options += ["--head", "finetune"]
        return [command, data, *options, "--batch-size", "4", "--learning-rate", rate]


def _pair(i: int) -> dict[str, str]:
    return {"prompt": f"w{i % 20} w3", "completion": f"w{i % 7} w{i % 5}"}


def _preference(i: int) -> dict[str, str]:
    return {
        "prompt": f"w{i % 20} w3", "chosen": f"w1 w{i % 7}", "rejected": f"w2 w2 w{i % 5}",
    }  # fmt: skip


def faults(world: World) -> Iterator[Fault]:
    """All 56."""
    for scorer in ("constant", "zero", "1e-300", "outlier", "1e30", "1e38", "1e39", "1e200"):
        for algorithm in ("ppo", "rloo"):
            yield Fault(f"scores {scorer}", world.train(algorithm, scorer=world.scorer(scorer)))
    for scorer in ("constant", "zero"):
        yield Fault(f"scores {scorer}", world.train("grpo", scorer=world.scorer(scorer)))
    for rate in ("1", "10", "1e3", "1e6"):
        for algorithm in ("ppo", "rloo", "online_dpo", "raft"):
            yield Fault(f"lr {rate}", world.train(algorithm, "--learning-rate", rate))
    for algorithm in ("trpo", "maskable_ppo"):  # whose loops are sb3-contrib's
        yield Fault("lr 1e6", world.train(algorithm, "--learning-rate", "1e6"))
    yield Fault("ent_coef 1e30", world.train("ppo", "--ent-coef", "1e30"))
    for algorithm in ("ppo", "a2c"):
        yield Fault("vf_coef 1e30", world.train(algorithm, "--vf-coef", "1e30"))
    for temperature in ("1e-30", "1e30"):
        for algorithm in ("ppo", "rloo"):
            options = ("--temperature", temperature)
            yield Fault(f"temperature {temperature}", world.train(algorithm, *options))
    for algorithm in ("ppo", "rloo", "grpo"):
        yield Fault("kl_coef 1e30", world.train(algorithm, "--kl-coef", "1e30"))
    for model in ("nan", "huge"):
        yield Fault(f"{model} weights", world.train("ppo", model=str(world.root / model)))
    for command in ("pretrain", "sft", "dpo", "reward-model"):
        for rate in ("1e3", "1e30"):
            yield Fault(f"lr {rate}", world.supervised(command, rate))


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        code: Exit code; None for a traceback.
        sentence: What it said on standard error at its end.
        problems: What is not as it should be.
    """

    code: int | None
    sentence: str
    problems: list[str]


def tried(fault: Fault, output: Path) -> Outcome:
    """Runs a fault's command, with an older model in the way if it would replace one."""
    older: dict[str, str] = {}
    if fault.command[0] != "train":
        save_old = [*fault.command[:-1], "1e-3", "--output", str(output)]
        _called(save_old)
        older = _digests(output / "model")
    code, errors = _called([*fault.command, "--output", str(output)])
    lines = [line for line in errors.splitlines() if line.startswith("llm-gym: error: ")]
    sentence = lines[-1].removeprefix("llm-gym: error: ") if lines else ""
    found = list(problems(code, sentence, output))
    if code and older and _digests(output / "model") != older:
        found.append("the older model was changed")
    if code is None:
        found.append(errors.strip().splitlines()[-1])
    return Outcome(code, sentence, found)


def problems(code: int | None, sentence: str, output: Path) -> Iterator[str]:
    """What is not as it should be of a run that has ended.

    Args:
        code: Exit code; None for a traceback.
        sentence: What it said at its end.
        output: Directory of the run.
    """
    if code not in (0, 1, 2):
        yield f"exit code {code}"
    if code == 1 and not sentence.startswith("training diverged: "):
        yield f"exit 1 without the sentence: {sentence!r}"
    if code == 2 and (not sentence or "JSON" in sentence):
        yield f"exit 2 without a sentence: {sentence!r}"
    for path in sorted(output.rglob("*.safetensors")):
        if path.parent.name == TRACE:  # a log: it shows what was no number
            continue
        names = [n for n, t in load_file(path).items() if not t.float().isfinite().all()]
        if names:
            yield f"{path.relative_to(output)}: {names[0]} is not finite"
    for path in sorted(output.rglob("generation_config.json")):
        if not _is_model(path.parent):
            yield f"{path.parent.relative_to(output)}: is no model to load"
    for path in sorted(output.rglob("metrics.json*")):
        for line in path.read_text().splitlines():
            if "NaN" in line or "Infinity" in line:
                yield f"{path.name}: a number that JSON does not have"


def _is_model(directory: Path) -> bool:
    """Whether a model can be loaded, and says something of the next token."""
    try:
        with torch.no_grad():
            logits = load_causal_lm(directory)(input_ids=torch.arange(3, 9)[None]).logits
    except ValueError:
        return False
    return bool(logits.isfinite().all())


def _called(words: list[str]) -> tuple[int | None, str]:
    errors = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(errors), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            main(words)
        except SystemExit as stop:
            return int(stop.code or 0), errors.getvalue()
        except Exception as error:  # a defect: the report names it
            return None, f"{type(error).__name__}: {error}"
    return 0, errors.getvalue()


def _digests(directory: Path) -> dict[str, str]:
    return {p.name: sha256_of(p) for p in sorted(directory.rglob("*")) if p.is_file()}


def measure(output: Path, quick: bool) -> list[Row]:
    """Runs all of them, or a sample.

    Args:
        output: Directory for their outputs; `numbers.json` has how each ended.
        quick: Every eighth only.

    Returns:
        One row.
    """
    world = World(output / "world")
    chosen = list(faults(world))[:: 8 if quick else 1]
    failures, told = [], []
    for index, fault in enumerate(chosen):
        outcome = tried(fault, output / f"run-{index:02d}")
        told.append({"run": fault.name, "exit": outcome.code, "said": outcome.sentence})
        failures += [f"{fault.name}: {problem}" for problem in outcome.problems[:1]]
    (output / "numbers.json").write_text(json.dumps(told, indent=1) + "\n")
    what = (
        "runs with numbers that training cannot bear: sound, or one sentence and nothing bad kept"
    )
    return [Row(what, len(chosen) - len(failures), len(chosen), failures)]
