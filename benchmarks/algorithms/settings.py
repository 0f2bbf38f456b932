"""The algorithms that are compared where an answer is made of tokens, as data."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

BETA = "$beta"
"""Stands for the task's price of a nat of divergence in the arguments of an algorithm."""


@dataclass(frozen=True)
class Entry:
    """An algorithm and its arguments; a row of the table.

    Attributes:
        label: Its name in tables and pictures.
        algorithm: Where its class is, `"module:Class"`.
        arguments: Arguments of the class. `"$beta"` is the task's price of a nat.
        learning_rate: The one that tuning chose.
        kl_start: How many times as much a nat costs at first; its price falls to the task's beta
            over the first half of a run.
        group_size: Answers to one prompt that are sampled together.
        penalise: Subtract the KL penalty from the rollout's rewards from outside, for algorithms
            that know of none.
        policy: Arguments of the policy beside the model.
        policy_class: Where the class of the policy is, if it is not the usual one.
        one_step: Arguments that make an update one step on the whole rollout, for measuring the
            gradient estimator; None where there is no such thing.
        needs: Packages that must be installed beside llm_gym.
    """

    label: str
    algorithm: str
    arguments: dict[str, Any] = field(default_factory=dict)
    learning_rate: float = 0.2
    kl_start: float = 1.0
    group_size: int = 16
    penalise: bool = False
    policy: dict[str, Any] = field(default_factory=dict)
    policy_class: str | None = None
    one_step: dict[str, Any] | None = None
    needs: tuple[str, ...] = ()


_KL_START = 5.0
_CLIPPED = {"n_epochs": 1, "batch_size": 10**9}
_CRITIC = {"n_epochs": 4, "batch_size": 2048, "kl_coef": BETA}


def _ppo(label: str, **changes: Any) -> Entry:
    arguments = {**_CRITIC, **changes.pop("arguments", {})}
    settings: dict[str, Any] = {
        "one_step": _CLIPPED,
        "learning_rate": 0.05,
        "kl_start": _KL_START,
        **changes,
    }
    return Entry(label, "llm_gym:PPO", arguments, **settings)


def _preset(label: str, name: str, **changes: Any) -> Entry:
    arguments = {"kl_coef": BETA, **changes.pop("arguments", {})}
    settings: dict[str, Any] = {"one_step": {}, "kl_start": _KL_START, **changes}
    return Entry(label, f"llm_gym:{name}", arguments, **settings)


ENTRIES: dict[str, Entry] = {
    "ppo": _ppo("PPO"),
    "ppo_separate": _ppo("PPO, separate critic", policy={"separate_critic": True}),
    "ppo_detached": _ppo("PPO, detached critic", policy={"detach_value": True}),
    "ppo_constant_beta": _ppo("PPO, beta constant", kl_start=1.0),
    "ppo_lambda_1": _ppo("PPO, lambda = 1", arguments={"gae_lambda": 1.0}),
    "ppo_lambda_05": _ppo("PPO, lambda = 0.5", arguments={"gae_lambda": 0.5}),
    "ppo_lambda_0": _ppo("PPO, lambda = 0", arguments={"gae_lambda": 0.0}),
    "a2c": _preset("A2C", "A2C"),
    "reinforce": _preset("REINFORCE", "REINFORCE", arguments={"advantage": "reinforce"}),
    "reinforce_baseline": _preset(
        "REINFORCE, baseline", "REINFORCE", arguments={"advantage": "moving_average"}
    ),
    "reinforce_plus_plus": _preset("REINFORCE++", "ReinforcePlusPlus"),
    "remax": _preset("ReMax", "ReMax"),
    "rloo": _preset("RLOO(16)", "RLOO"),
    "rloo_constant_beta": _preset("RLOO(16), beta constant", "RLOO", kl_start=1.0),
    "rloo_4": _preset("RLOO(4)", "RLOO", group_size=4),
    "rloo_2": _preset("RLOO(2)", "RLOO", group_size=2),
    "grpo": _preset("GRPO", "GRPO"),
    "dr_grpo": _preset("Dr. GRPO", "DrGRPO"),
    "dapo": _preset("DAPO, KL in the reward", "DAPO"),
    "nlpo": _preset("NLPO", "NLPO", one_step=_CLIPPED, learning_rate=0.05),
    "maskable_ppo": Entry(
        "MaskablePPO (sb3-contrib)",
        "sb3_contrib:MaskablePPO",
        {
            "n_epochs": 4,
            "batch_size": 2048,
            "gamma": 1.0,
            "rollout_buffer_class": "llm_gym.learning.buffer:MaskableEpisodeBuffer",
        },
        learning_rate=0.05,
        kl_start=_KL_START,
        penalise=True,
        policy_class="llm_gym.policy:MaskableTransformerPolicy",
        one_step=_CLIPPED,
        needs=("sb3_contrib",),
    ),
    "trpo": Entry(
        "TRPO (sb3-contrib)",
        "sb3_contrib:TRPO",
        {
            "batch_size": 2048,
            "gamma": 1.0,
            "rollout_buffer_class": "llm_gym:EpisodeBuffer",
        },
        learning_rate=0.03,  # of the critic
        kl_start=_KL_START,
        penalise=True,
        needs=("sb3_contrib",),
    ),
    "raft": Entry(
        "RAFT(4)",
        "llm_gym.learning.expert_iteration:ExpertIteration",
        {"kl_coef": BETA},
        group_size=4,
        one_step=_CLIPPED,
    ),
    "sft_on_best": Entry(
        "SFT on the best", "llm_gym.learning.expert_iteration:SFTOnBest", {"n_epochs": 4}
    ),
    "dpo": Entry("DPO", "llm_gym.learning.dpo:DPO", {"beta": BETA, "n_epochs": 4}, group_size=2),
    "dpo_online": Entry(
        "DPO, online", "llm_gym.learning.dpo:DPO", {"beta": BETA, "online": True}, group_size=2
    ),
}
"""The algorithms, by the name that `--algorithms` takes."""


def fingerprint(*parts: Any) -> str:
    """Sixteen digits that tell settings apart, given as dataclasses or JSON-able values."""
    plain = [asdict(part) if hasattr(part, "__dataclass_fields__") else part for part in parts]
    text = json.dumps(plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
