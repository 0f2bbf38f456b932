"""Rewards of a chosen mean and scale on reference samples, folded into the model's head.

PPO's settings (the KL coefficient, the value loss) are in units of the reward, so Ziegler et al.
2019 (arXiv:1909.08593, section 2.1) normalise a reward model to mean 0 and variance 1 on samples of
the model that will be trained, before and after the reward model's own training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llm_gym.feedback.reward_model.backbone import scale_rewards, shift_rewards
from llm_gym.feedback.reward_model.batches import rewards_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from llm_gym.feedback.reward_model.scorer import RewardModelScorer

__all__ = ["gain_and_bias", "normalise_rewards"]


def gain_and_bias(
    rewards: ArrayLike, *, mean: float = 0.0, std: float = 1.0
) -> tuple[float, float]:
    """The straight line `gain * reward + bias` that gives rewards a mean and standard deviation.

    `gain = std / std(rewards)` and `bias = mean - gain * mean(rewards)`; the deviation is that of
    the samples themselves (divided by N).

    Args:
        rewards: float `(N,)`.
        mean: Wanted mean.
        std: Wanted standard deviation, positive.

    Raises:
        ValueError: Rewards that are all the same, or a deviation that is not positive.
    """
    values = np.asarray(rewards, dtype=np.float64)
    if not std > 0:
        raise ValueError(f"std must be positive, got {std!r}")
    if not values.size or not values.std() > 0:
        raise ValueError(
            f"the {values.size} rewards do not differ, so no gain gives them a standard deviation "
            f"of {std:g}; take other samples"
        )
    gain = std / float(values.std())
    return gain, mean - gain * float(values.mean())


def normalise_rewards(
    scorer: RewardModelScorer,
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    mean: float = 0.0,
    std: float = 1.0,
) -> tuple[float, float]:
    """Changes a reward model in place, so that its rewards of these answers have mean and scale.

    Rankings stay as they are; the scale is then no longer that of log-odds.

    Args:
        scorer: Scorer of the reward model.
        prompts: N prompts, as the model in training will see them.
        completions: N answers to them, of the model that will be trained.
        mean: Wanted mean of the rewards.
        std: Wanted standard deviation, positive.

    Returns:
        The gain and the bias that were folded in.

    Raises:
        ValueError: The rewards do not differ, or the architecture cannot express a bias (an RMS
            norm and a head without bias: LLaMA, Qwen); use `llm_gym.scorers.Scale` around the
            scorer there.
    """
    import torch

    rows = scorer.encode(prompts, completions)
    gain, bias = gain_and_bias(rewards_of(scorer.model, rows), mean=mean, std=std)
    scale_rewards(scorer.model, gain)
    probe = rows[:16]
    shifted = shift_rewards(
        scorer.model, bias, lambda: torch.tensor(rewards_of(scorer.model, probe))
    )
    if not shifted:
        scale_rewards(scorer.model, 1 / gain)
        raise ValueError(
            f"{type(scorer.model).__name__} has no bias that could take the shift of {bias:.4g}; "
            f"wrap the scorer instead: Scale(scorer, factor={gain:.6g}, offset={bias:.6g})"
        )
    return gain, bias
