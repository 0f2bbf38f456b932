"""Losses that the library has, and the ones they are compared with."""

from benchmarks.claims.losses import Loss, clipped
from llm_gym.learning.advantages import dr_grpo, grpo

LOSSES = [
    Loss("RLOO", "2402.14740"),
    Loss("GRPO", "2402.03300", clipped, grpo, "sequence_mean"),
    Loss("Dr. GRPO", "2503.20783", clipped, dr_grpo),
]
