"""The systems of the learning benchmark, as data. Settings of ours to try go into `OURS`."""

from __future__ import annotations

from typing import Any

from benchmarks.driver import Entry

# Arguments of llm_gym.PPO ("settings") and of its policy ("policy") beyond the workload's own; an
# empty dictionary is the library's defaults. `--variant` adds rows from the command line.
OURS: dict[str, Any] = {}

ENTRIES: dict[str, Entry] = {
    "ours": Entry("llm_gym.PPO", "ours", OURS),
    # RLOO and GRPO with the settings under which they are TRL's.
    "ours_rloo": Entry("llm_gym.RLOO", "ours_groups", {"algorithm": "rloo"}),
    "ours_grpo": Entry("llm_gym.GRPO", "ours_groups", {"algorithm": "grpo"}),
    "handwritten": Entry("hand-written limit", "handwritten"),
    "trl_ppo": Entry("TRL 1.12 PPO", "trl_ppo", peer="trl-ppo"),
    "trl_grpo": Entry("TRL 1.16 GRPO", "trl_group", {"algorithm": "grpo"}, peer="trl-group"),
    "trl_rloo": Entry("TRL 1.16 RLOO", "trl_group", {"algorithm": "rloo"}, peer="trl-group"),
}

# These do so many times the batches, to see where they stand after the CPU seconds of the others;
# what is compared per batch is the same batch for all.
STRETCH = {"ours": 2, "handwritten": 2}

# The system whose final reward the others are timed to.
TARGET = "trl_ppo"
