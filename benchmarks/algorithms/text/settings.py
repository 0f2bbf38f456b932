"""Tasks of text that have no known optimum, and the algorithms' settings on them, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from benchmarks.algorithms.settings import ENTRIES, Entry

_MODELS = "benchmarks.algorithms.text.models"


@dataclass(frozen=True)
class TextTask:
    """A task on which a language model is trained and answers held-out prompts.

    Attributes:
        env: Id of the environment.
        model: Name of the model to train, or `""` if `maker` makes it.
        maker: Function `"module:name"` of a folder, the file of `--data` (or None) and a
            number of steps (or None), that makes `folder/model`, and `folder/prompts.json`
            (`training` and `measuring`) if the task has no prompts of its own.
        maker_steps: For the maker; None is its own choice.
        scorer: Function `"module:name"` of the folder (or None) that makes the scorer; None is
            the task's own.
        environment: Further arguments of the environment.
        tokens: Sampled in a run, by every algorithm alike.
        rows: Answers sampled at a time.
        beta: Price of a nat, where a score is between 0 and 1.
        needs: Packages that are not llm_gym's own.
        needs_data: Whether there must be a file of text.
    """

    env: str
    model: str = ""
    maker: str = ""
    maker_steps: int | None = None
    scorer: str | None = None
    environment: tuple[tuple[str, Any], ...] = ()
    tokens: int = 100_000
    rows: int = 64
    beta: float = 0.01
    needs: tuple[str, ...] = ()
    needs_data: bool = False


@dataclass(frozen=True)
class TextBudget:
    """How much of everything; the same for every algorithm.

    Attributes:
        seeds: Runs of each algorithm on each task.
        first_seed: First seed of them.
        evaluations: Times that the held-out prompts are answered, the first before training.
        measured_prompts: Held-out prompts that are answered, at most.
        tuning_seeds: Runs of each algorithm with each learning rate that is tried.
        tuning_share: Tokens of such a run, as a share of the task's.
    """

    seeds: int = 10
    first_seed: int = 0
    evaluations: int = 4
    measured_prompts: int = 128
    tuning_seeds: int = 1
    tuning_share: float = 0.5

    def quick(self) -> TextBudget:
        """A look at whether everything works."""
        return replace(self, seeds=1, evaluations=2, measured_prompts=64)


TEXT_TASKS: dict[str, TextTask] = {
    "polite-email": TextTask(
        "llm_gym/PoliteEmail-v0",
        "llm_gym/email-sft",
        scorer=f"{_MODELS}:politeness_share",
        tokens=15_000,
        rows=32,
    ),
    "reasoning": TextTask(
        "llm_gym/ReasoningSpellBackward-v0",
        maker=f"{_MODELS}:make_reasoning_model",
        tokens=30_000,
        rows=128,
        needs=("llm_gym_reasoning", "reasoning_gym"),
    ),
    "real-text": TextTask(
        "llm_gym/TextGeneration-v0",
        maker=f"{_MODELS}:make_real_text_model",
        maker_steps=1000,
        scorer=f"{_MODELS}:real_text_scorer",
        tokens=20_000,
        environment=(
            ("max_prompt_tokens", 48),
            ("too_long", "truncate"),
            ("max_new_tokens", 40),
        ),
        needs_data=True,
    ),
}
"""The tasks, by the name that `--only` takes."""

QUICK_TOKENS = {"polite-email": 5_000, "reasoning": 5_000, "real-text": 5_000}
QUICK_MAKER_STEPS = {"real-text": 60}
QUICK_ALGORITHMS = ("ppo", "rloo_4", "grpo", "dr_grpo", "raft")
"""What `--quick` runs on text where `--algorithms` is not given."""


def quick_task(name: str) -> TextTask:
    """A task with few tokens."""
    task = TEXT_TASKS[name]
    return replace(
        task, tokens=QUICK_TOKENS[name], maker_steps=QUICK_MAKER_STEPS.get(name, task.maker_steps)
    )


def of_a_text_run(budget: TextBudget) -> dict[str, Any]:
    """The part of a budget that a single run depends on."""
    whole = asdict(budget)
    return {name: whole[name] for name in ("evaluations", "measured_prompts")}


# ---------------------------------------------------------------------- the algorithms on text

TEXT_LEARNING_RATES = {
    "polite-email": (1e-4, 3e-4, 1e-3),
    "reasoning": (1e-3, 3e-3, 1e-2),  # a smaller model, of 0.1 million weights
    "real-text": (1e-4, 3e-4, 1e-3),
}
"""What tuning tries on a task, for every algorithm alike; rates are constant over a run."""

_RATE = 3e-4
"""Of AdamW for transformers of 0.1 to 3 million weights, one pass over each rollout."""

_RATE_OF_FOUR = 1e-4
"""The same for algorithms that go over a rollout four times."""

_TOKENS_A_STEP = {"batch_size": 512}  # of the gradient, as in agents/*_text.py

# What differs from the settings on problems whose reference model is a table.
_ON_TEXT: dict[str, dict[str, Any]] = {
    "trpo": {"policy_class": "llm_gym.policy:TwiceDifferentiablePolicy", "learning_rate": 1e-3},
    "remax": {"group_size": 4},
    "rloo": {"group_size": 16},
    "rloo_4": {"group_size": 4},
    "rloo_2": {"group_size": 2},
    # Advantages are in standard deviations of a group, which are about a quarter.
    "grpo": {"group_size": 4, "arguments": {"kl_coef": 0.04}},
    "dr_grpo": {"group_size": 4},
    "dapo": {"group_size": 4},
    "raft": {"group_size": 4},
    "sft_on_best": {"group_size": 4},
    # beta * label_scale is the price of a nat that the others pay.
    "dpo": {"group_size": 2, "arguments": {"beta": 0.1, "label_scale": 0.1, "n_epochs": 3}},
    "dpo_online": {"group_size": 2, "arguments": {"beta": 0.1, "label_scale": 0.1}},
}


@dataclass(frozen=True)
class TextEntry(Entry):
    """An algorithm on text.

    Attributes:
        critic_start: Whether its critic, if it has one, starts at the level of the first returns
            instead of at zero (`llm_gym.runs.callbacks.CriticStart`).
    """

    critic_start: bool = True


def _on_text(name: str, entry: Entry) -> TextEntry:
    rate = _RATE_OF_FOUR if entry.arguments.get("n_epochs") == 4 else _RATE
    # The penalty is constant for all.
    changes = {"learning_rate": rate, "kl_start": 1.0, "group_size": 1, **_ON_TEXT.get(name, {})}
    arguments = {**entry.arguments, **_TOKENS_A_STEP, **changes.pop("arguments", {})}
    known = {field.name: getattr(entry, field.name) for field in fields(entry)}
    return TextEntry(**{**known, "arguments": arguments, **changes})


TEXT_ENTRIES: dict[str, TextEntry] = {
    name: _on_text(name, entry)
    for name, entry in ENTRIES.items()
    if not name.endswith("_constant_beta")
}
"""Every algorithm with the settings it has on text."""

TEXT_ENTRIES["ppo_zero_start"] = replace(
    TEXT_ENTRIES["ppo"],
    label="PPO, critic from zero",
    arguments={**TEXT_ENTRIES["ppo"].arguments, "critic_start": False},
    critic_start=False,
)

assert all(task.beta == 0.01 for task in TEXT_TASKS.values()), "DPO's label_scale is for 0.01"
