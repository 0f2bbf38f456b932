"""The commands that are put under faults, each with the smallest run that does everything."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from llm_gym.testing.tiny import save_tiny_model

OUTPUT = "out"
INPUTS = "inputs"


@dataclass(frozen=True)
class Command:
    """A command, and what a person types when it was stopped.

    Attributes:
        name: What it is called in the table.
        first: The run, without `llm-gym`; or a script's path and arguments. It runs in a directory
            beside the inputs.
        again: What goes on with it when it was stopped; the same if empty.
        replaces: A run before, whose model the run replaces.
    """

    name: str
    first: str
    again: str = ""
    replaces: str = ""


_AGENTS = shlex.quote(str(Path(__file__).resolve().parents[2] / "agents"))
_LEARNING = (
    "--model ../inputs/model --prompts ../inputs/prompts.jsonl "
    "--eval-prompts ../inputs/prompts.jsonl --scorer length:6 --max-new-tokens 6 --num-envs 4 "
    "--total-tokens 72 --batch-size 12 --n-epochs 1 --checkpoint-every 1 --device cpu --output out"
)
_RLOO = f"{_AGENTS}/rloo_text.py {_LEARNING} --group-size 2"
_RLHF = (
    "rlhf --quick --start-from ../inputs/model --prompts ../inputs/prompts.jsonl "
    "--pairs ../inputs/pairs.jsonl --sft-batch-size 8 --train-prompts 16 --held-out-prompts 8 "
    "--pairs-per-prompt 1 --max-new-tokens 6 --true-rater length:6 --rater-noise 0.1 "
    "--reward-epochs 1 --total-tokens 144 --num-envs 8 --batch-size 48 --n-epochs 1 "
    "--checkpoint-every 1 --look-every 1 --shown-prompts 2 --output out"
)
_SUPERVISED = {
    "sft": "sft ../inputs/pairs.jsonl --model ../inputs/model --batch-size 4 --output out",
    "dpo": "dpo ../inputs/votes.jsonl --model ../inputs/model --batch-size 4 --epochs 1 "
    "--checkpoint-every 2 --output out",
    "reward-model": "reward-model ../inputs/votes.jsonl --model ../inputs/model --head finetune "
    "--batch-size 8 --output out",
}
_PILOT = (
    f"{_AGENTS}/ppo_autopilot.py --total-steps 384 --num-envs 4 --n-steps 32 --batch-size 64 "
    "--n-epochs 1 --eval-every 192 --eval-episodes 1 --test-episodes 1 --checkpoint-every 128 "
    "--output out"
)

COMMANDS = {
    command.name: command
    for command in (
        Command("train", f"train {_LEARNING}", "train --resume out"),
        Command("agents/rloo_text.py", _RLOO, f"{_RLOO} --resume"),
        Command("rlhf --quick", _RLHF),
        *(Command(name, line) for name, line in _SUPERVISED.items()),
        *(
            Command(f"{name} over an older model", line, replaces=f"{line} --seed 1")
            for name, line in _SUPERVISED.items()
        ),
        Command("agents/ppo_autopilot.py", _PILOT, f"{_PILOT} --resume"),
    )
}


def write_inputs(directory: Path) -> None:
    """Makes what the commands read: a random model of two layers, and rows of its words.

    Args:
        directory: Where the directories are in which commands run.
    """
    inputs = directory / INPUTS
    save_tiny_model(inputs / "model")
    words = [f"w{number}" for number in range(24)]
    rows = [
        {"prompt": f"{words[i]} {words[i // 2]}", "completion": f"{words[-i]} w1 w2"}
        for i in range(24)
    ]
    votes = [
        {"prompt": row["prompt"], "chosen": row["completion"], "rejected": f"w3 {words[i]}"}
        for i, row in enumerate(rows)
    ]
    for name, content in (("prompts", rows), ("pairs", rows), ("votes", votes)):
        lines = "".join(json.dumps(row) + "\n" for row in content)
        (inputs / f"{name}.jsonl").write_text(lines, encoding="utf-8")
