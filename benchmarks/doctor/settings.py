"""The runs as data: healthy ones over tasks, seeds and algorithms, and faults planted in such runs.

A fault is a healthy run with one argument changed, or with one function of it replaced while it
runs (`benchmarks.doctor.patches`). Half of the faults and half of the healthy runs, chosen by a
hash of their names, are held out: no rule of the doctor was written with a look at them. How strong
a fault has to be to show was tried with another seed, before there were rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

SPLIT_SEED = "doctor 1"
EMAIL = "email"
"""`llm_gym/PoliteEmail-v0`; all other tasks are families of `llm_gym/KnownOptimum-v0`."""


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: Of its directory.
        task: `EMAIL`, or a family of problems whose optimum is known.
        algorithm: A name of `llm-gym train --algorithm`, or "stock PPO" or "stock A2C", which are
            Stable-Baselines3's and write its CSV.
        seed: Of everything random.
        settings: Of the algorithm, where they are not those of `usual_settings`.
        environment: Arguments of the environment; `prompts` as a number takes so many of the
            task's. A scorer is named as in `benchmarks.doctor.scorers`.
        policy: Arguments of the policy.
        patch: What is replaced while it runs, a function of `benchmarks.doctor.patches`.
        expected: Findings that name the fault; nothing of a healthy run. Several, where each is the
            same thing in other words.
        what: What is wrong, for people.
    """

    name: str
    task: str
    algorithm: str
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    patch: str | None = None
    expected: tuple[str, ...] = ()
    what: str = ""

    @property
    def is_stock(self) -> bool:
        """Whether the algorithm is Stable-Baselines3's."""
        return self.algorithm.startswith("stock")


def usual_settings(task: str, algorithm: str) -> dict[str, Any]:
    """Settings of an algorithm that learns a task in seconds."""
    if task == EMAIL:
        passes = {"n_epochs": 2} if algorithm in ("ppo", "nlpo") else {}
        return {"learning_rate": 2e-4, **passes}
    price = {} if algorithm == "dapo" else {"kl_coef": 0.1}
    return {"learning_rate": 0.03, **price}


def _healthy() -> Iterable[Run]:
    seeds = {"ppo": 3, "reinforce": 1, "remax": 1, "dapo": 1, "nlpo": 1}
    algorithms = ("ppo", "a2c", "rloo", "grpo", "dr_grpo", "reinforce++", "reinforce", "remax")
    for algorithm in (*algorithms, "dapo", "nlpo"):
        for seed in range(seeds.get(algorithm, 2)):
            yield Run(f"{EMAIL}-{algorithm}-{seed}", EMAIL, algorithm, seed)
    yield Run("email-ppo-separate", EMAIL, "ppo", 3, policy={"separate_critic": True})
    yield Run("email-ppo-target", EMAIL, "ppo", 4, settings={"kl_target": 6.0})
    for family, n_seeds in (("additive", 2), ("interaction", 2), ("unique", 1)):
        for algorithm in ("ppo", "a2c", "rloo", "grpo", "dr_grpo", "reinforce++"):
            for seed in range(n_seeds):
                yield Run(f"{family}-{algorithm}-{seed}", family, algorithm, seed)
    for algorithm, seed in (("stock PPO", 0), ("stock PPO", 1), ("stock A2C", 0)):
        name = f"additive-{algorithm}-{seed}".replace(" ", "-")
        yield Run(name, "additive", algorithm, seed)
    yield Run("additive-reinforce-0", "additive", "reinforce")


def _fault(
    name: str, what: str, task: str, algorithm: str, *also: str, seed: int = 100, **changes: Any
) -> Run:
    """A fault; its name is "finding" or "finding/variant", `also` says the same in other words."""
    expected = (name.partition("/")[0], *also)
    return Run(name, task, algorithm, seed, what=what, expected=expected, **changes)


FAULTS = (
    _fault(
        "ratio-not-one/dropout",
        "dropout is on while the policy learns, and off while it plays",
        EMAIL,
        "ppo",
        patch="dropout_in_updates",
    ),
    _fault(
        "ratio-not-one/temperature",
        "updates compute log-probabilities at another temperature than sampling",
        "additive",
        "grpo",
        patch="other_temperature_in_updates",
    ),
    _fault(
        "samples-foreign",
        "tokens are drawn at temperature 0.6, and said to be drawn at 1",
        EMAIL,
        "rloo",
        patch="sharpened_sampling",
    ),
    _fault(
        "reference-wrong",
        "the reference is the pre-trained model, not the one that training begins from",
        EMAIL,
        "ppo",
        settings={"reference": "llm_gym/email-base"},
    ),
    _fault(
        "reference-moves",
        "the reference is the policy itself, which learns",
        "additive",
        "rloo",
        patch="reference_is_the_policy",
    ),
    _fault(
        "kl-negative",
        "the log-ratio has its sides swapped: log pi_ref - log pi",
        "additive",
        "ppo",
        "kl-paid",
        patch="swapped_log_ratio",
    ),
    _fault(
        "kl-paid",
        "the penalty for leaving the reference is added to the reward",
        "interaction",
        "a2c",
        patch="penalty_added",
    ),
    _fault(
        "kl-explodes",
        "next to nothing keeps the policy near the reference, and the scorer pays for one word",
        EMAIL,
        "rloo",
        "kl-coef-scale",
        settings={"kl_coef": 1e-5, "learning_rate": 1e-3},
        environment={"scorer": "thanks"},
    ),
    _fault(
        "kl-coef-scale/too-dear",
        "a nat costs 20 times what the best answer pays",
        "additive",
        "rloo",
        settings={"kl_coef": 20.0},
    ),
    _fault(
        "kl-coef-scale/too-cheap",
        "scores are in thousands, and the price of a nat was made for scores of 0 to 100",
        EMAIL,
        "ppo",
        "kl-explodes",
        settings={"kl_coef": 0.05},
        environment={"scorer": "thousands"},
    ),
    _fault(
        "rewards-equal",
        "the scorer gives every answer 50",
        EMAIL,
        "ppo",
        environment={"scorer": "constant"},
    ),
    _fault(
        "dead-groups",
        "the scorer pays for one answer in sixty: of nearly all groups every answer scores 0",
        EMAIL,
        "grpo",
        environment={"scorer": "nearly_impossible"},
    ),
    _fault(
        "no-exploration",
        "the temperature is 0.02: all answers to a prompt are one answer",
        EMAIL,
        "rloo",
        policy={"temperature": 0.02},
    ),
    _fault(
        "scores-unrelated",
        "answers get one another's scores",
        "additive",
        "rloo",
        environment={"scorer": "shuffled"},
    ),
    _fault(
        "reward-falls",
        "advantages have the wrong sign",
        "additive",
        "ppo",
        patch="negated_advantages",
    ),
    _fault(
        "critic-blind",
        "the critic's targets are those of other tokens",
        EMAIL,
        "ppo",
        patch="shuffled_returns",
    ),
    _fault(
        "value-head-frozen/no-gradient",
        "the value head takes no gradients",
        "additive",
        "ppo",
        patch="frozen_value_head",
    ),
    _fault(
        "value-head-frozen/no-weight",
        "the value loss has no weight",
        EMAIL,
        "a2c",
        "critic-blind",
        settings={"vf_coef": 0.0},
    ),
    _fault(
        "entropy-collapses",
        "the entropy bonus has the wrong sign",
        "additive",
        "ppo",
        settings={"kl_coef": 0.01},
        patch="negated_entropy_bonus",
    ),
    _fault(
        "entropy-explodes",
        "the entropy bonus outweighs the reward",
        EMAIL,
        "ppo",
        settings={"ent_coef": 1.0, "learning_rate": 5e-4},
    ),
    _fault(
        "answers-cut",
        "the budget is half of what an email takes",
        EMAIL,
        "grpo",
        environment={"max_new_tokens": 32},
    ),
    _fault(
        "no-eos",
        "answers end at a token that the model does not write",
        EMAIL,
        "rloo",
        environment={"eos_token_id": 1},
    ),
    _fault(
        "length-drifts",
        "the scorer pays for words",
        EMAIL,
        "ppo",
        settings={"learning_rate": 5e-4},
        environment={"scorer": "words", "max_new_tokens": 128},
    ),
    _fault(
        "proxy-beats-gold",
        "the scorer that is trained on pays for urgency, which the gold scorer dislikes",
        EMAIL,
        "ppo",
        settings={"learning_rate": 5e-4, "kl_coef": 0.1},
        environment={"scorer": "urgency_with_gold"},
    ),
    _fault(
        "learning-rate-high/email",
        "the learning rate is 50 times too high",
        EMAIL,
        "ppo",
        settings={"learning_rate": 1e-2},
    ),
    _fault(
        "learning-rate-high/one-step",
        "the learning rate is 100 times too high, of an algorithm with one step a rollout",
        "additive",
        "rloo",
        settings={"learning_rate": 3.0},
    ),
    _fault(
        "learning-rate-low/email",
        "the learning rate is 20,000 times too low",
        EMAIL,
        "grpo",
        settings={"learning_rate": 1e-8},
    ),
    _fault(
        "learning-rate-low/known",
        "the learning rate is 30,000 times too low",
        "interaction",
        "ppo",
        settings={"learning_rate": 1e-6},
    ),
    _fault(
        "gradient-clipped",
        "gradients are clipped to a ten-thousandth of what is usual",
        EMAIL,
        "ppo",
        settings={"max_grad_norm": 1e-4},
    ),
    _fault(
        "template-mismatch",
        "prompts are shown bare to a model that was fine-tuned on a chat template",
        EMAIL,
        "rloo",
        environment={"prompt_template": "{prompt}"},
    ),
    _fault(
        "prompt-starved",
        "there is one prompt",
        EMAIL,
        "rloo",
        environment={"prompts": 1},
    ),
    _fault(
        "repeated-text",
        "the scorer pays for every time the answer says its last word again",
        EMAIL,
        "rloo",
        settings={"learning_rate": 1e-3, "kl_coef": 0.01},
        environment={"scorer": "repetition"},
    ),
    _fault(
        "reward-discounted",
        "gamma is 0.9: a reward after 40 tokens is worth a hundredth at the first",
        EMAIL,
        "ppo",
        settings={"gamma": 0.9},
    ),
)

HEALTHY = tuple(_healthy())


def _drawn_anew(name: str, seeds_on: int) -> tuple[Run, ...]:
    return tuple(
        replace(run, name=f"{name}-{run.name}", seed=run.seed + seeds_on) for run in HEALTHY
    )


DRAWS = {
    name: _drawn_anew(name, 1000 * number)
    for number, name in enumerate(("fresh", "afresh", "third"), 1)
}
"""The same with other seeds and other problems: for rules that were changed after a look at the
half that had been kept from them, for a definition of "healthy" that was made after "fresh", and
for a rule that was changed after "afresh"."""


def held_out(runs: Iterable[Run]) -> set[str]:
    """Names of the half of some runs that is kept for the verdict.

    Args:
        runs: All faults, or all healthy runs.
    """

    def place(name: str) -> str:
        return hashlib.sha256(f"{SPLIT_SEED}: {name}".encode()).hexdigest()

    names = sorted((run.name for run in runs), key=place)
    return set(names[: len(names) // 2])
