"""TRL's GRPO and ours learn one conversation: do they come to the same reward?

The world says one of four words, four times, and pays for the same word. Both learners get the same
model of 20,000 random weights, the same number of conversations in groups of eight, the same
learning rate and one update a batch, and are otherwise as they come. TRL plays by
`llm_gym.turns.hosts.trl.trl_rollout`. What they come to is measured on fresh conversations by
`llm_gym.evaluate`.

    python benchmarks/worlds/against_trl.py --quick --output runs/worlds-trl-quick
    python benchmarks/worlds/against_trl.py --output runs/worlds-trl
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import gymnasium as gym
import torch
from transformers.utils.logging import disable_progress_bar

import llm_gym
from benchmarks.common import columns, of_seeds, record, told
from benchmarks.run_log import RunLog
from llm_gym.files.atomic import write_json
from llm_gym.testing.tiny import save_tiny_model, tiny_tokenizer
from llm_gym.turns.hosts.trl import trl_reward, trl_rollout

TURNS = 4


@dataclass(frozen=True)
class Settings:
    """What both learners are given."""

    seeds: int = 5
    updates: int = 48
    conversations: int = 64  # of an update
    group_size: int = 8
    learning_rate: float = 3e-3
    evaluated: int = 256  # conversations


class Echo:
    """Says one of four words, four times; the agent should say it, too."""

    def reset(self, *, seed: int) -> str:
        self.random, self.turns = random.Random(seed), 0  # noqa: S311 -- a game
        return self.say()

    def say(self) -> str:
        self.word = f"w{self.random.randrange(4)}"
        return self.word

    def step(self, text: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.turns += 1
        reward = float(text == self.word)
        return self.say(), reward, self.turns == TURNS, False, {}


WORLD: dict[str, Any] = {
    "tokenizer": tiny_tokenizer(5),
    "world": Echo,
    "max_turn_tokens": 1,
    "context_length": 4 * TURNS,
    "on_max_length": "terminate",
}


def ours(model: str, seed: int, settings: Settings, folder: Path) -> Any:
    """The algorithm after training."""
    env = gym.make_vec(
        "llm_gym/Turns-v0",
        num_envs=settings.conversations,
        autoreset_mode="SameStep",
        group_size=settings.group_size,
        **WORLD,
    )
    tokens = settings.conversations * TURNS
    grpo = llm_gym.GRPO(
        "TransformerPolicy",
        env,
        learning_rate=settings.learning_rate,
        batch_size=tokens,
        n_epochs=1,
        kl_coef=0.0,
        seed=seed,
        policy_kwargs={"model": model},
    )
    return grpo.learn(tokens * settings.updates)


def trls(model: str, seed: int, settings: Settings, folder: Path) -> str:
    """The folder of the model after training."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    env = gym.make_vec(
        "llm_gym/Turns-v0", num_envs=settings.conversations, autoreset_mode="Disabled", **WORLD
    )
    starts = settings.updates * settings.conversations // settings.group_size
    trainer = GRPOTrainer(
        model=model,
        processing_class=tiny_tokenizer(5),
        rollout_func=trl_rollout(env.unwrapped),
        reward_funcs=trl_reward,
        # Not the starts that are evaluated on.
        train_dataset=Dataset.from_list([{"prompt": str(10_000 + n)} for n in range(starts)]),
        args=GRPOConfig(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            seed=seed,
            per_device_train_batch_size=settings.conversations,
            num_generations=settings.group_size,
            max_steps=settings.updates,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="constant",
            beta=0.0,
            gradient_checkpointing=False,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
    )
    trainer.train()
    trainer.save_model(str(folder))
    return str(folder)


LEARNERS = {"untrained": None, "llm_gym.GRPO": ours, "TRL's GRPOTrainer": trls}


def run(learner: str, seed: int, settings: Settings, output: Path) -> dict[str, float]:
    """Mean reward of a conversation after training, and CPU seconds of that."""
    model = save_tiny_model(output / f"model-{seed}", "llama", 8, seed=seed, initializer_range=0.02)
    started, train = time.process_time(), LEARNERS[learner]
    trained = model if train is None else train(model, seed, settings, output / f"trl-{seed}")
    seconds = time.process_time() - started
    found = llm_gym.evaluate(
        trained, "llm_gym/Turns-v0", env_kwargs=WORLD, max_prompts=settings.evaluated, seed=seed
    )
    return {"reward": found.mean_score, "cpu_seconds": seconds}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Trains, prints the table, writes `results.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="one seed, two updates")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    disable_progress_bar()
    settings = Settings()
    if options.quick:
        settings = replace(settings, seeds=1, updates=2, evaluated=16)
    log = RunLog(options.output / "log.jsonl", ("learner", "seed"), asdict(settings))
    keys = [(learner, seed) for seed in range(settings.seeds) for learner in LEARNERS]
    for key in keys:
        if key not in log.done:
            log.add(key, run(*key, settings, options.output))
    runs = {name: [log.done[name, n] for n in range(settings.seeds)] for name in LEARNERS}
    rewards = {name: [found["reward"] for found in listed] for name, listed in runs.items()}
    less = [
        a - b for a, b in zip(rewards["TRL's GRPOTrainer"], rewards["llm_gym.GRPO"], strict=True)
    ]
    figures = {name: of_seeds(listed) for name, listed in rewards.items()}
    figures["TRL's less ours"] = of_seeds(less)
    rows = [["", f"reward of {TURNS} [95 %]", "CPU s of training"]]
    for name, figure in figures.items():
        seconds = [found["cpu_seconds"] for found in runs.get(name, [])]
        mean = f"{sum(seconds) / len(seconds):.1f}" if seconds else ""
        rows.append([name, told(figure, 2), mean])
    print(columns(rows))
    results = record(asdict(settings)) | {"figures": figures, "runs": runs}
    write_json(options.output / "results.json", results)
    return results


if __name__ == "__main__":
    main()
