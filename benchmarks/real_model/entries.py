"""The systems that train a real model, and the figures that the table wants of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from benchmarks.driver import Entry

# GRPO, 16 answers of up to 32 tokens in groups of 4, minibatches of 4 answers, one epoch.
WORKLOAD: dict[str, Any] = {
    "task": "real_model",
    "new_tokens": 32,
    "episodes": 16,
    "group_size": 4,
    "minibatch_episodes": 4,
    "epochs": 1,
    "kl_coef": 0.04,
    "learning_rate": 1e-5,
}

LORA: dict[str, Any] = {"r": 1, "lora_alpha": 32, "target_modules": "all-linear"}


def _ours(label: str, reference_weights: str = "memory", **policy: Any) -> Entry:
    """Ours as a user has it: minibatches of whole groups, whose prompts are read once."""
    settings = {
        "rollout_buffer_class": "llm_gym.EpisodeBuffer",
        "keep_groups": True,
        "reference_weights": reference_weights,
    }
    options = {"algorithm": "grpo", "settings": settings, "policy": policy}
    return Entry(f"llm_gym, {label}", "ours_groups", options)


ENTRIES: dict[str, Entry] = {
    "ours": _ours("all weights"),
    "ours_disk": _ours("all weights, reference on disk", "disk"),
    "ours_bfloat16": _ours("all weights, reference in bfloat16", "bfloat16"),
    "ours_checkpointing": _ours("all weights, gradient checkpointing", gradient_checkpointing=True),
    "trl": Entry("TRL, all weights", "trl_group", {"algorithm": "grpo"}),
    "trl_checkpointing": Entry(
        "TRL, all weights, gradient checkpointing",
        "trl_group",
        {"algorithm": "grpo", "gradient_checkpointing": True},
    ),
    "ours_lora": _ours("LoRA", lora=LORA),
    "ours_lora_checkpointing": _ours(
        "LoRA, gradient checkpointing", lora=LORA, gradient_checkpointing=True
    ),
    "ours_lora_micro": _ours("LoRA, an answer at a time", lora=LORA, micro_batch_size=1),
    "trl_lora": Entry("TRL, LoRA", "trl_group", {"algorithm": "grpo", "lora": LORA}),
    "trl_lora_checkpointing": Entry(
        "TRL, LoRA, gradient checkpointing",
        "trl_group",
        {"algorithm": "grpo", "lora": LORA, "gradient_checkpointing": True},
    ),
    "generate": Entry("inference alone", "generate_real", measures=("rollout",)),
}

# glibc gives large blocks back to the system as soon as they are free, and takes them anew.
ENTRIES["ours_lora_mmap"] = replace(
    ENTRIES["ours_lora"],
    label="llm_gym, LoRA, MALLOC_MMAP_THRESHOLD_=262144",
    environment={"MALLOC_MMAP_THRESHOLD_": "262144"},
)


class Ratio(NamedTuple):
    """CPU seconds of a batch, or the peak of memory, of one entry over those of another.

    Attributes:
        of: Entry in the numerator.
        over: Entry in the denominator.
        what: "seconds" or "peak".
        wanted: At most so much; None is for information.
    """

    of: str
    over: str
    what: str
    wanted: float | None = None


RATIOS: dict[str, Ratio] = {
    "CPU seconds, all weights, against TRL": Ratio("ours", "trl", "seconds", 0.5),
    "peak, all weights, against TRL": Ratio("ours", "trl", "peak"),
    "CPU seconds, all weights, reference on disk, against TRL": Ratio(
        "ours_disk", "trl", "seconds", 0.5
    ),
    "peak, all weights, reference on disk, against TRL": Ratio("ours_disk", "trl", "peak", 0.85),
    "peak, all weights, reference in bfloat16, against TRL": Ratio(
        "ours_bfloat16", "trl", "peak", 0.85
    ),
    "CPU seconds, LoRA, against TRL's": Ratio("ours_lora", "trl_lora", "seconds", 0.5),
    "peak, LoRA, against TRL's": Ratio("ours_lora", "trl_lora", "peak", 0.9),
    "peak, LoRA, against inference alone": Ratio("ours_lora", "generate", "peak", 1.3),
    "CPU seconds, all weights, both with checkpointing": Ratio(
        "ours_checkpointing", "trl_checkpointing", "seconds"
    ),
    "peak, all weights, both with checkpointing": Ratio(
        "ours_checkpointing", "trl_checkpointing", "peak"
    ),
    "CPU seconds, LoRA, both with checkpointing": Ratio(
        "ours_lora_checkpointing", "trl_lora_checkpointing", "seconds"
    ),
    "peak, LoRA, both with checkpointing": Ratio(
        "ours_lora_checkpointing", "trl_lora_checkpointing", "peak"
    ),
    "peak, LoRA with checkpointing, against inference alone": Ratio(
        "ours_lora_checkpointing", "generate", "peak"
    ),
    "peak, LoRA an answer at a time, against inference alone": Ratio(
        "ours_lora_micro", "generate", "peak"
    ),
    "peak, LoRA with MALLOC_MMAP_THRESHOLD_, against inference alone": Ratio(
        "ours_lora_mmap", "generate", "peak"
    ),
    "CPU seconds, LoRA with MALLOC_MMAP_THRESHOLD_, against without": Ratio(
        "ours_lora_mmap", "ours_lora", "seconds"
    ),
}
