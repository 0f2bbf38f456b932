"""The systems and the ratios of the throughput benchmark, as data."""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.driver import Entry
from benchmarks.workload import RAGGED


def _in_groups(label: str, algorithm: str) -> Entry:
    """Minibatches of whole groups, whose prompts are read once."""
    settings = {"rollout_buffer_class": "llm_gym.EpisodeBuffer", "keep_groups": True}
    options = {"algorithm": algorithm, "settings": settings}
    return Entry(label, "ours_groups", options, measures=("train",))


ENTRIES: dict[str, Entry] = {
    "generate": Entry("transformers generate", "generate", measures=("rollout",)),
    "generate_static": Entry(
        "transformers generate, static cache",
        "generate",
        {"cache": "static"},
        measures=("rollout",),
    ),
    "handwritten": Entry("hand-written limit", "handwritten"),
    "ours": Entry("llm_gym.PPO", "ours"),
    "ours_bf16": Entry("llm_gym.PPO, bf16", "ours", {"policy": {"mixed_precision": "bf16"}}),
    "ours_sb3": Entry(
        "stable_baselines3.PPO with our policy and buffer",
        "ours",
        {"algorithm": "stable_baselines3"},
    ),
    "trl_ppo": Entry("TRL 1.12 PPO", "trl_ppo", peer="trl-ppo", measures=("train",)),
    "trl_grpo": Entry(
        "TRL 1.16 GRPO",
        "trl_group",
        {"algorithm": "grpo"},
        peer="trl-group",
        measures=("train",),
    ),
    "trl_rloo": Entry(
        "TRL 1.16 RLOO",
        "trl_group",
        {"algorithm": "rloo"},
        peer="trl-group",
        measures=("train",),
    ),
    "ours_grpo": _in_groups("llm_gym.GRPO, groups of 8", "grpo"),
    "ours_rloo": _in_groups("llm_gym.RLOO, groups of 8", "rloo"),
    "ours_t32": Entry(
        "llm_gym.PPO, 32 new tokens", "ours", workload={"new_tokens": 32}, measures=("train",)
    ),
    "ours_t256": Entry(
        "llm_gym.PPO, 256 new tokens", "ours", workload={"new_tokens": 256}, measures=("train",)
    ),
    "textbook_sb3": Entry(
        "textbook stable_baselines3", "textbook_sb3", {"minibatches": 0}, measures=("train",)
    ),
}


def _ragged(
    label: str,
    system: str,
    options: dict[str, Any],
    peer: str | None = None,
    measures: tuple[str, ...] = ("train",),
) -> Entry:
    return Entry(label, system, options, RAGGED, peer, measures=measures)


# Tokens of a minibatch of 16 answers, and steps in which 64 rows write about 64 of them.
_MEAN_LENGTH = 41
ENTRIES |= {
    "r_generate": _ragged("transformers generate, R", "generate", {}, measures=("rollout",)),
    "r_handwritten": _ragged(
        "hand-written limit, packed, R", "handwritten_ragged", {}, measures=("rollout", "train")
    ),
    "r_ours": _ragged("llm_gym.PPO, R", "ours", {"settings": {"batch_size": 16 * _MEAN_LENGTH}}),
    "r_ours_bf16": _ragged(
        "llm_gym.PPO, bf16, R",
        "ours",
        {"settings": {"batch_size": 16 * _MEAN_LENGTH}, "policy": {"mixed_precision": "bf16"}},
    ),
    "r_rollout": _ragged(
        "llm_gym.PPO without a reference, R",
        "ours",
        {"settings": {"kl_coef": 0.0}},
        measures=("rollout",),
    ),
    "r_ours_one_pass": _ragged(
        "llm_gym.PPO, padded to the longest, R",
        "ours",
        {"settings": {"batch_size": 16 * _MEAN_LENGTH}, "one_pass": True},
    ),
    "r_ours_cut": _ragged(
        "llm_gym.PPO with n_steps, R",
        "ours",
        {"settings": {"n_steps": _MEAN_LENGTH, "batch_size": 16 * _MEAN_LENGTH}},
    ),
    "r_rloo": _ragged("llm_gym.RLOO, R", "ours_groups", {"algorithm": "rloo"}),
    "r_grpo": _ragged("llm_gym.GRPO, R", "ours_groups", {"algorithm": "grpo"}),
    "r_trl_ppo": _ragged("TRL 1.12 PPO, R", "trl_ppo", {}, "trl-ppo"),
    "r_trl_grpo": _ragged("TRL 1.16 GRPO, R", "trl_group", {"algorithm": "grpo"}, "trl-group"),
    "r_trl_rloo": _ragged("TRL 1.16 RLOO, R", "trl_group", {"algorithm": "rloo"}, "trl-group"),
}
# Rows and new tokens of the curves: what does a token cost when there are more of either?
CURVES = {f"c_{n}_{t}": (n, t) for t in (128, 512, 1024) for n in (16, 64, 256)}
ENTRIES |= {
    key: Entry(
        f"llm_gym.PPO, {n} rows of {t} new tokens",
        "ours",
        workload={"episodes": n, "new_tokens": t, "epochs": 1},
    )
    for key, (n, t) in CURVES.items()
}
WORKLOADS: dict[str, tuple[str, ...]] = {
    "w": tuple(key for key in ENTRIES if key[:2] not in ("r_", "c_")),
    "r": tuple(key for key in ENTRIES if key.startswith("r_")),
    "c": tuple(CURVES),
}

# A batch of these takes long: they run in the first round only, and are not warmed up.
ONCE = ("textbook_sb3", *CURVES)
ONCE_IF_QUICK = (*ONCE, "ours_t256")
# Of the textbook system's minibatches of learning, 4 epochs of 4 in W, how many a quick run does.
QUICK_TEXTBOOK_MINIBATCHES = 1


class Ratio(NamedTuple):
    """Speed of one entry over that of another.

    Attributes:
        of: Entry in the numerator.
        over: Entry in the denominator.
        measure: "rollout", "train", or "peak" (then peak memory, not speed).
        goal: What it ought to be, in words; empty where it is for information.
    """

    of: str
    over: str
    measure: str
    goal: str = ""


RATIOS: dict[str, Ratio] = {
    "rollout_vs_generate": Ratio("ours", "generate", "rollout", ">= 1.3"),
    "rollout_vs_generate_static": Ratio("ours", "generate_static", "rollout"),
    "rollout_vs_handwritten": Ratio("ours", "handwritten", "rollout", ">= 0.85"),
    "loop_vs_textbook_sb3": Ratio("ours", "textbook_sb3", "train", ">= 50"),
    "loop_vs_trl_ppo": Ratio("ours", "trl_ppo", "train", ">= 2.2"),
    "loop_vs_trl_grpo": Ratio("ours", "trl_grpo", "train", ">= 1.9"),
    "loop_vs_trl_rloo": Ratio("ours", "trl_rloo", "train", ">= 1.9"),
    "grpo_vs_trl_grpo": Ratio("ours_grpo", "trl_grpo", "train", ">= 2"),
    "rloo_vs_trl_rloo": Ratio("ours_rloo", "trl_rloo", "train", ">= 2"),
    "loop_vs_handwritten": Ratio("ours", "handwritten", "train", ">= 0.9"),
    "loop_bf16_vs_trl_ppo": Ratio("ours_bf16", "trl_ppo", "train", ">= 3"),
    # Cost is seconds per token, so the longer episodes' speed is the denominator.
    "cost_t256_vs_t32": Ratio("ours_t32", "ours_t256", "train", "<= 1.5"),
    "ragged_rollout_vs_generate": Ratio("r_rollout", "r_generate", "rollout", ">= 1.6"),
    "ragged_rollout_vs_handwritten": Ratio("r_rollout", "r_handwritten", "rollout"),
    "ragged_vs_handwritten": Ratio("r_ours", "r_handwritten", "train", ">= 0.9"),
    "ragged_vs_one_pass": Ratio("r_ours", "r_ours_one_pass", "train"),
    "ragged_bf16_vs_float32": Ratio("r_ours_bf16", "r_ours", "train"),
    "ragged_vs_trl_ppo": Ratio("r_ours", "r_trl_ppo", "train", ">= 2.5"),
    "ragged_vs_trl_grpo": Ratio("r_grpo", "r_trl_grpo", "train", ">= 2"),
    "ragged_vs_trl_rloo": Ratio("r_rloo", "r_trl_rloo", "train", ">= 2"),
    "peak_vs_trl_ppo": Ratio("ours", "trl_ppo", "peak", "<= 1"),
}
