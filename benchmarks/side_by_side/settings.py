"""Tasks, systems and comparisons, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from benchmarks.driver import Entry
from benchmarks.learning.entries import ENTRIES as LEARNING
from benchmarks.workload import LEARNING_VARIANT, Workload

# Two systems count as equal if the 90 % interval of the difference of their mean rewards lies
# within this distance of zero. All rewards are from 0 to 1.
MARGIN = 0.05


@dataclass(frozen=True)
class Task:
    """One task at one size.

    Attributes:
        label: Its name in tables and pictures.
        workload: What differs from workload W.
        batches: How many each system learns from.
        seeds: Number of seeds, counted from 0; a seed decides weights, prompts and samples.
    """

    label: str
    workload: dict[str, Any]
    batches: int
    seeds: int

    def of_seed(self, seed: int, entry: Entry) -> Workload:
        """What an entry learns with one seed."""
        return Workload(**{**self.workload, **entry.workload}, seed=seed)


TASKS: dict[str, Task] = {
    # So small that many seeds are cheap: this is where equality is decided.
    "small": Task(
        "favoured words, 0.1 million parameters",
        {
            "layers": 2,
            "width": 64,
            "heads": 2,
            "prompt_tokens": 8,
            "new_tokens": 16,
            "learning_rate": 1e-3,
            **LEARNING_VARIANT,
        },
        batches=24,
        seeds=12,
    ),
    "words": Task("favoured words, workload W", dict(LEARNING_VARIANT), batches=14, seeds=3),
    "emails": Task(
        "polite emails",
        {"task": "polite_email", "new_tokens": 80, "kl_coef": 0.01},
        batches=14,
        seeds=3,
    ),
}

QUICK = {name: replace(task, batches=3, seeds=2) for name, task in TASKS.items()}

# What TRL's PPO does otherwise than ours by default: a critic of its own whose loss weighs little
# (0.1 times half the squared error) and is clipped, rewards as they are, gradients of any size.
PPO_AS_TRL: dict[str, Any] = {
    "settings": {
        "vf_coef": 0.05,
        "clip_range_vf": 0.2,
        "reward_scaling": False,
        "max_grad_norm": 1e9,
    },
    "policy": {"separate_critic": True, "value_scale": 1.0},
}

# 32 whole answers, as TRL's, and about as many tokens a minibatch as 8 of its emails have.
OF_EMAILS: dict[str, Any] = {"n_steps": None, "batch_size": 8 * 44}

# Of the settings tried on the small task (1, 2 or 4 epochs, step sizes up to five times the
# workload's), the cheapest that learn at least as much from a batch.
FEWER_EPOCHS = {"epochs": 1, "learning_rate": 5e-4}

SYSTEMS: dict[str, Entry] = {
    **{name: LEARNING[name] for name in ("ours_rloo", "ours_grpo", "ours")},
    **{name: LEARNING[name] for name in ("trl_rloo", "trl_grpo", "trl_ppo")},
    "ours_ppo_as_trl": Entry("llm_gym.PPO, TRL's settings", "ours", PPO_AS_TRL),
    "ours_ppo_emails": Entry("llm_gym.PPO", "ours", {"settings": OF_EMAILS, "critic_start": True}),
    "ours_ppo_emails_as_trl": Entry(
        "llm_gym.PPO, TRL's settings",
        "ours",
        {**PPO_AS_TRL, "settings": {**PPO_AS_TRL["settings"], **OF_EMAILS}},
    ),
    "ours_ppo_emails_own": Entry(
        "llm_gym.PPO, critic of its own",
        "ours",
        {"settings": OF_EMAILS, "policy": {"separate_critic": True}, "critic_start": True},
    ),
    "ours_rloo_bf16": Entry(
        "llm_gym.RLOO, bf16",
        "ours_groups",
        {"algorithm": "rloo", "policy": {"mixed_precision": "bf16"}},
    ),
    "ours_rloo_tokens": Entry(
        "llm_gym.RLOO, clip of each token", "ours_groups", {"algorithm": "rloo_tokens"}
    ),
    "ours_rloo_fast": Entry(
        "llm_gym.RLOO, bf16, 1 epoch, larger steps",
        "ours_groups",
        {"algorithm": "rloo", "policy": {"mixed_precision": "bf16"}},
        workload=FEWER_EPOCHS,
    ),
    "trl_rloo_bf16": Entry(
        "TRL 1.16 RLOO, bf16", "trl_group", {"algorithm": "rloo", "bf16": True}, peer="trl-group"
    ),
    "trl_rloo_fast_bf16": Entry(
        "TRL 1.16 RLOO, bf16, 1 epoch, larger steps",
        "trl_group",
        {"algorithm": "rloo", "bf16": True},
        workload=FEWER_EPOCHS,
        peer="trl-group",
    ),
    "trl_rloo_positions": Entry(
        "TRL 1.16 RLOO, positions mended",
        "trl_group",
        {"algorithm": "rloo", "true_positions": True},
        peer="trl-group",
    ),
    "trl_grpo_positions": Entry(
        "TRL 1.16 GRPO, positions mended",
        "trl_group",
        {"algorithm": "grpo", "true_positions": True},
        peer="trl-group",
    ),
}


class Comparison(NamedTuple):
    """Two systems on one task.

    Attributes:
        task: A key of `TASKS`.
        ours: A key of `SYSTEMS`.
        theirs: Another key of `SYSTEMS`, the system it is compared with.
        same: Whether the two are meant to be the same algorithm.
    """

    task: str
    ours: str
    theirs: str
    same: bool = True


COMPARISONS = (
    Comparison("small", "ours_rloo", "trl_rloo"),
    Comparison("small", "ours_grpo", "trl_grpo"),
    Comparison("small", "ours_rloo_tokens", "trl_rloo", same=False),
    Comparison("small", "ours_ppo_as_trl", "trl_ppo"),
    Comparison("small", "ours", "trl_ppo", same=False),
    Comparison("emails", "ours_rloo", "trl_rloo_positions"),
    Comparison("emails", "ours_rloo", "trl_rloo", same=False),
    Comparison("emails", "ours_grpo", "trl_grpo_positions"),
    Comparison("emails", "ours_grpo", "trl_grpo", same=False),
    Comparison("emails", "ours_ppo_emails_as_trl", "trl_ppo", same=False),
    Comparison("emails", "ours_ppo_emails", "trl_ppo", same=False),
    Comparison("emails", "ours_ppo_emails_own", "trl_ppo", same=False),
    Comparison("words", "ours_rloo", "trl_rloo"),
    Comparison("words", "ours_rloo_bf16", "trl_rloo_bf16"),
    Comparison("words", "ours_rloo_bf16", "trl_rloo", same=False),
    Comparison("words", "ours_grpo", "trl_grpo"),
    Comparison("words", "ours_rloo_fast", "trl_rloo_fast_bf16"),
    Comparison("words", "ours_rloo_fast", "trl_rloo", same=False),
)


def systems_of(task: str) -> list[str]:
    """Systems that a comparison on the task needs, each once, in order."""
    needed = [
        key
        for comparison in COMPARISONS
        if comparison.task == task
        for key in (comparison.ours, comparison.theirs)
    ]
    return list(dict.fromkeys(needed))
