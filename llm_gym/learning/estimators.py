"""Advantages of rollouts of whole episodes, by name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm_gym.learning import advantages
from llm_gym.learning.advantages import monte_carlo_returns
from llm_gym.learning.buffer import EpisodeBuffer, Segment


class Rollout(NamedTuple):
    """What an estimator sees of a rollout of `n` whole episodes with `A` tokens.

    Attributes:
        to_go: float `(A,)`, rewards to go of each token, episode after episode.
        scores: float `(n,)`, returns of the episodes.
        lengths: int `(n,)`, their tokens.
        groups: int `(n,)`, which prompt of the rollout each answers.
        greedy: float `(n_groups,)`, scores of greedy answers, if there are any.
        average: Mean return of the rollouts before, exponentially weighted.
    """

    to_go: NDArray[np.floating]
    scores: NDArray[np.floating]
    lengths: NDArray[np.int64]
    groups: NDArray[np.int64]
    greedy: NDArray[np.floating] | None
    average: float

    @classmethod
    def of(
        cls,
        buffer: EpisodeBuffer,
        starts: list[int],
        *,
        group_size: int,
        gamma: float,
        one_action: bool,
        greedy: NDArray[np.floating] | None,
        average: float,
    ) -> Rollout:
        """Reads a finished rollout, in the order of `buffer.segments()`.

        Args:
            buffer: Buffer of whole episodes, penalties already in its rewards.
            starts: First step of each round.
            group_size: Rows `k*G .. k*G + G - 1` answer the same prompt.
            gamma: Discount.
            one_action: Whether an answer is one action, so that all of its tokens have its return
                to go.
            greedy: See above, as `(rounds, prompts of a round)`.
            average: See above.
        """
        segments = buffer.segments()
        played = slice(0, buffer.pos)
        to_go = np.zeros_like(buffer.rewards)
        to_go[played] = monte_carlo_returns(
            buffer.rewards[played], buffer.episode_starts[played], gamma=gamma
        )
        scores = np.array([to_go[s.start, s.env] for s in segments], dtype=np.float64)
        lengths = np.array([s.stop - s.start for s in segments])
        rounds = np.searchsorted(starts, [s.start for s in segments])
        blocks = np.array([s.env // group_size for s in segments], dtype=np.int64)
        return cls(
            to_go=scores.repeat(lengths) if one_action else to_go[buffer.places(segments)],
            scores=scores,
            lengths=lengths,
            groups=rounds * (buffer.n_envs // group_size) + blocks,
            greedy=None if greedy is None else greedy.reshape(-1),
            average=average,
        )


def _reinforce(rollout: Rollout) -> NDArray[np.floating]:
    return rollout.to_go


def _batch_mean(rollout: Rollout) -> NDArray[np.floating]:
    return rollout.to_go - rollout.scores.mean()


def _moving_average(rollout: Rollout) -> NDArray[np.floating]:
    return rollout.to_go - rollout.average


def _rloo(rollout: Rollout) -> NDArray[np.floating]:
    return advantages.rloo(rollout.scores, rollout.groups).repeat(rollout.lengths)


def _grpo(rollout: Rollout) -> NDArray[np.floating]:
    return advantages.grpo(rollout.scores, rollout.groups).repeat(rollout.lengths)


def _dr_grpo(rollout: Rollout) -> NDArray[np.floating]:
    return advantages.dr_grpo(rollout.scores, rollout.groups).repeat(rollout.lengths)


def _reinforce_plus_plus(rollout: Rollout) -> NDArray[np.floating]:
    return advantages.reinforce_plus_plus(rollout.to_go)


def _remax(rollout: Rollout) -> NDArray[np.floating]:
    assert rollout.greedy is not None
    return rollout.to_go - rollout.greedy[rollout.groups].repeat(rollout.lengths)


#: Advantages of whole episodes by name: float `(A,)` of a `Rollout`. "gae" is the other.
ESTIMATORS = {
    "reinforce": _reinforce,
    "batch_mean": _batch_mean,
    "moving_average": _moving_average,
    "rloo": _rloo,
    "grpo": _grpo,
    "dr_grpo": _dr_grpo,
    "reinforce_plus_plus": _reinforce_plus_plus,
    "remax": _remax,
}
NEED_GROUPS = frozenset({"rloo", "grpo", "dr_grpo", "remax"})
#: Advantages that are the tokens' own by definition: no answer has one of them.
OF_TOKENS = frozenset({"gae", "reinforce_plus_plus"})


def assert_same_prompts(segments: list[Segment], groups: NDArray[np.int64]) -> None:
    """Our own invariant: what is compared answers the same prompt."""
    first: dict[int, Segment] = {}
    for segment, group in zip(segments, groups.tolist(), strict=True):
        prompt = first.setdefault(group, segment).prefix
        assert np.array_equal(prompt, segment.prefix), f"group {group} has different prompts"
