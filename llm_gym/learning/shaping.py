"""What a rollout's rewards become before anything is learnt from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from llm_gym.files.ranges import check_choice
from llm_gym.files.schema import Check, list_of, number, record, row_of, whole
from llm_gym.language_models.divergence import DivergenceError
from llm_gym.learning.buffer import EpisodeBuffer, Segment
from llm_gym.learning.kl import ReferenceModel, kl_estimate
from llm_gym.parallel import world
from llm_gym.policy import TransformerActorCriticPolicy

if TYPE_CHECKING:
    from llm_gym.learning.objective import KLPenalty

# Tokens that one pass of the reference or of a recomputation holds at a time.
_TOKENS_PER_PASS = 4096
# A return that differs from another by less than the price of so many nats differs by rounding.
_NATS_OF_NOISE = 1e-4


class RewardShaping:
    """What a rollout's rewards become before anything is learnt from them.

    Each token pays for leaving the reference model, and all rewards are divided by a running
    estimate of the returns' standard deviation. What is known of episodes counts each of them once,
    in the rollout it ends in, whatever rollout it began in.

    Args:
        penalty: The price.
        scale: Whether rewards are divided.
        recompute_log_probs: Take the old log-probabilities from one pass over the finished rollout
            instead of from decoding. `None` does so in mixed precision, where the two differ
            by rounding and the ratio would not start at 1.

    Raises:
        ValueError: If `recompute_log_probs` is none of them.

    Attributes:
        controller: Holds the penalty's coefficient.
        returns: Mean and variance of the returns so far.
        divisor: What the last rollout's rewards were divided by; 1 if they are not scaled.
        unfinished: The beginnings of episodes that the last rollout's end cut in two.
        reference_log_probs: float32 `(T, N)`, the reference's, of the last rollout's tokens.
        statistics: What is known of the last rollout.
    """

    def __init__(
        self, penalty: KLPenalty, *, scale: bool, recompute_log_probs: bool | None
    ) -> None:
        check_choice("recompute_log_probs", recompute_log_probs, (True, False, None))
        self.penalty, self.scale = penalty, scale
        self.recompute_log_probs = recompute_log_probs
        self.controller = penalty.controller()
        self.returns = RunningMoments()
        self.divisor = 1.0
        self.unfinished = UnfinishedEpisodes()
        self.reference_log_probs = np.zeros((0, 0), dtype=np.float32)
        self.statistics: dict[str, float] = {}

    def start(self, policy: TransformerActorCriticPolicy) -> None:
        """Settles what depends on the policy."""
        if self.recompute_log_probs is None:
            self.recompute_log_probs = policy.mixed_precision != "no"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "reference_log_probs": np.zeros((0, 0), dtype=np.float32)}

    def get_state(self) -> dict[str, Any]:
        """What the next rollout depends on: JSON-able."""
        return {
            "kl_coef": self.controller.coef,
            "return_statistics": dict(vars(self.returns)),
            "unfinished": self.unfinished.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a state of `get_state`; `ValueError` if it is none."""
        record(self.state_checks())("the state", state)
        self.controller.coef = state["kl_coef"]
        vars(self.returns).update(state["return_statistics"])
        self.unfinished.set_state(state["unfinished"])

    def state_checks(self) -> dict[str, Check]:
        """What the entries of a state must be."""
        return {
            "kl_coef": number(0),
            "return_statistics": record({"mean": number(), "var": number(0), "count": whole()}),
            "unfinished": list_of(row_of(whole(), number(), number())),
        }

    @property
    def scaled_coef(self) -> float:
        """The last rollout's penalty per nat, in the units of its (scaled) rewards."""
        return self.statistics["kl_coef"] / self.divisor

    @np.errstate(over="ignore", invalid="ignore")  # `_check_finite` says it in its own words
    def shape(
        self,
        buffer: EpisodeBuffer,
        policy: TransformerActorCriticPolicy,
        reference: ReferenceModel | None,
        progress_remaining: float | None = None,
    ) -> None:
        """Subtracts the KL penalty from, and scales, a rollout's rewards; notes statistics.

        Args:
            buffer: The finished rollout.
            policy: The policy that played it.
            reference: The reference model, if there is one.
            progress_remaining: From 1 (the beginning of training) to 0; `None` outside of it.
        """
        self.statistics = {}
        log_ratio = np.zeros_like(buffer.rewards)
        if self.recompute_log_probs or reference is not None:
            log_ratio = self._log_ratio(buffer, policy, reference)
        coef = 0.0
        if reference is not None:
            self.reference_log_probs = buffer.log_probs - log_ratio
            if progress_remaining is not None:
                self.controller.advance(progress_remaining)
            coef = self.controller.coef
            self._penalise(buffer, log_ratio, coef)
        before = self.returns.unit(_NATS_OF_NOISE * coef) if self.returns.count else None
        ended = self.unfinished.end(buffer, log_ratio)
        ended = EpisodeSums(*map(world().union, ended))
        _check_finite(buffer.rewards, log_ratio, ended)
        if len(ended.returns):
            if reference is not None:
                kl_per_sequence = float(ended.log_ratios.mean())
                self.statistics["kl_per_sequence"] = kl_per_sequence
                self.controller.update(kl_per_sequence, len(ended.log_ratios))
            self.statistics["penalised_return_mean"] = float(ended.returns.mean())
            if self.scale:
                self.returns.update(ended.returns)
        if self.scale:
            self.divisor = self.returns.unit(smallest=_NATS_OF_NOISE * coef)
            buffer.rewards /= self.divisor
            if before is not None:  # what the critic has learnt stays (PopArt, arXiv 1602.07714)
                buffer.rescale_values(before / self.divisor)
                policy.rescale_values(before / self.divisor)

    def _log_ratio(
        self,
        buffer: EpisodeBuffer,
        policy: TransformerActorCriticPolicy,
        reference: ReferenceModel | None,
    ) -> NDArray[np.float32]:
        """`log pi - log pi_ref` of every token, float32 `(T, N)`, zero without a reference."""
        log_ratio = np.zeros_like(buffer.rewards)
        for members in _chunks(buffer.segments()):
            batch = buffer.episode_batch(members)
            places = buffer.places(members)
            if self.recompute_log_probs:
                with torch.no_grad():
                    log_prob = policy.evaluate_actions(batch, batch.actions)[1]
                buffer.log_probs[places] = log_prob.cpu().numpy()
            if reference is not None:
                reference_log_prob = reference.log_probs(batch).cpu().numpy()
                log_ratio[places] = buffer.log_probs[places] - reference_log_prob
        return log_ratio

    def _penalise(self, buffer: EpisodeBuffer, log_ratio: NDArray[np.float32], coef: float) -> None:
        if self.penalty.kl_in == "reward":
            assert self.penalty.kl_estimator is not None
            buffer.rewards -= coef * kl_estimate(log_ratio, self.penalty.kl_estimator)
        of_tokens = log_ratio[buffer.places(buffer.segments())]  # (A,)
        self.statistics |= {
            "kl_coef": coef,
            "kl_per_token": float(of_tokens.mean()),
            "kl_k3_per_token": float(kl_estimate(of_tokens, "k3").mean()),
        }


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
        with np.errstate(over="ignore"):
            if not np.isfinite(values.var()):  # squares of large float32 are beyond float32
                values = values.astype(np.float64)
        mean, var, n = float(values.mean()), float(values.var()), len(values)
        delta, total = mean - self.mean, self.count + n
        squares = (self.var * self.count if self.count else 0.0) + var * n
        squares += delta**2 * self.count * n / total
        self.mean += delta * n / total
        self.var, self.count = squares / total, total


def _check_finite(
    rewards: NDArray[np.float32], log_ratio: NDArray[np.float32], ended: EpisodeSums
) -> None:
    if not np.isfinite(log_ratio).all():
        raise DivergenceError("a log-probability under policy or reference is NaN or infinite")
    if not (np.isfinite(rewards).all() and np.isfinite(ended.returns).all()):
        raise DivergenceError("the rewards of an answer, with the KL penalty, are beyond float32")


def _chunks(segments: list[Segment]) -> list[list[Segment]]:
    """Groups of segments, similar in length, of a bounded number of padded tokens."""
    chunks: list[list[Segment]] = []
    for segment in sorted(segments, key=lambda s: s.num_tokens, reverse=True):
        if chunks and (len(chunks[-1]) + 1) * chunks[-1][0].num_tokens <= _TOKENS_PER_PASS:
            chunks[-1].append(segment)
        else:
            chunks.append([segment])
    return chunks
