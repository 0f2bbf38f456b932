"""What is known of episodes and returns from one rollout to the next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm_gym.learning.buffer import EpisodeBuffer


class EpisodeSums(NamedTuple):
    """Sums over the tokens of whole episodes, whatever rollouts these lie in.

    Attributes:
        returns: float32 `(n,)`, rewards.
        log_ratios: float32 `(n,)`, `log pi - log pi_ref`.
    """

    returns: NDArray[np.float32]
    log_ratios: NDArray[np.float32]


class UnfinishedEpisodes:
    """Sums of the episodes that a rollout's end cut in two, until they end.

    Every episode counts once, in the rollout it ends in. Counting those alone that lie in one
    rollout would count short ones too often: with as many steps as the longest answer has tokens,
    `T`, one of length L lies in one rollout with a probability of about `(T - L + 1) / T`.
    """

    def __init__(self) -> None:
        self._sums: dict[int, tuple[np.float32, np.float32]] = {}

    def end(self, buffer: EpisodeBuffer, log_ratio: NDArray[np.float32]) -> EpisodeSums:
        """Sums of the episodes that ended in a rollout; those that go on are kept.

        An episode whose beginning is not known, because the rollout it began in was given up, is
        left out.

        Args:
            buffer: The finished rollout, its rewards shaped but not scaled.
            log_ratio: float32 `(T, N)`.
        """
        ended, goes_on = [], {}
        for segment in buffer.segments():
            tokens = slice(segment.start, segment.stop), segment.env
            sums = buffer.rewards[tokens].sum(), log_ratio[tokens].sum()
            if not segment.is_start:
                if segment.env not in self._sums:
                    continue
                before = self._sums[segment.env]
                sums = before[0] + sums[0], before[1] + sums[1]
            if buffer.ends(segment):
                ended.append(sums)
            else:
                goes_on[segment.env] = sums
        self._sums = goes_on
        return EpisodeSums(*np.array(ended, dtype=np.float32).reshape(-1, 2).T.copy())

    def clear(self) -> None:
        """Forgets all of them: some of their tokens will be in no rollout."""
        self._sums = {}

    def get_state(self) -> list[list[float]]:
        """Environment, return and log-ratio of each: JSON-able."""
        return [[env, *map(float, sums)] for env, sums in self._sums.items()]

    def set_state(self, state: list[list[float]]) -> None:
        """Continues from a state of `get_state`."""
        self._sums = {int(env): (np.float32(a), np.float32(b)) for env, a, b in state}


class RunningMoments:
    """Mean and variance of everything seen (Chan et al., 1979, parallel form)."""

    def __init__(self) -> None:
        self.mean, self.var, self.count = 0.0, 1.0, 0

    @property
    def std(self) -> float:
        """Standard deviation; 1 while nothing was seen."""
        return float(np.sqrt(self.var))

    def unit(self, smallest: float) -> float:
        """What to divide values by: proportional to them, whatever they are measured in.

        It is the standard deviation; while nothing but equal values was seen, their size; and 1 if
        they are nothing.

        Args:
            smallest: What is noise, in the values' units.
        """
        if not self.count:
            return 1.0
        size = abs(self.mean)
        if self.std > max(smallest, 1e-6 * size):  # float32 rounds equal values by less
            return self.std
        return size if size > smallest else 1.0

    def update(self, values: np.ndarray) -> None:
        """Takes in a batch of values."""
        mean, var, n = float(values.mean()), float(values.var()), len(values)
        delta, total = mean - self.mean, self.count + n
        squares = (self.var * self.count if self.count else 0.0) + var * n
        squares += delta**2 * self.count * n / total
        self.mean += delta * n / total
        self.var, self.count = squares / total, total
