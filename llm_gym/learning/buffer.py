"""A rollout buffer that stores episodes, and yields whole ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from llm_gym.files.ranges import check_arguments
from llm_gym.language_models.packing import pad
from llm_gym.learning.advantages import gae, length_adaptive_lambda
from llm_gym.learning.minibatches import token_batches
from llm_gym.policy.sampling import EpisodeBatch, widened
from llm_gym.policy.variants import register_with_contrib

RewardHook = Callable[["EpisodeBuffer"], None]


class Segment(NamedTuple):
    """The part of one episode that lies in one rollout.

    Attributes:
        env: The environment it was played in.
        start: Its first step in the rollout.
        stop: One past its last step.
        prefix: int64 `(p,)`: the tokens before the first action of the segment, which are the
            prompt, and earlier actions where the episode began in the rollout before.
        is_start: Whether the episode begins with the segment.
        answers: What a world has written between the segment's actions: the step of the action that
            follows, and int64 `(k,)` tokens.
    """

    env: int
    start: int
    stop: int
    prefix: NDArray[np.int64]
    is_start: bool
    answers: tuple[tuple[int, NDArray[np.int64]], ...] = ()

    @property
    def num_tokens(self) -> int:
        """All of its tokens, whoever wrote them."""
        others = sum(len(ids) for _, ids in self.answers)
        return len(self.prefix) + self.stop - self.start + others


class EpisodeBuffer(RolloutBuffer):
    """Drop-in for Stable-Baselines3's rollout buffers on text environments.

    Where those store one padded observation a transition, this one stores the tokens of each
    episode once, and `get` yields minibatches of whole episodes
    (`llm_gym.policy.EpisodeBatch`), for which
    `llm_gym.TransformerActorCriticPolicy` needs one forward pass an episode instead of one
    a token. `PPO(TransformerActorCriticPolicy, env, rollout_buffer_class=EpisodeBuffer)` is all
    it takes, with Stable-Baselines3's own PPO or A2C.

    An episode that the rollout's end cuts in two goes on in the next rollout: its earlier tokens
    are context there, its later ones actions. What a world writes into a conversation
    (`llm_gym.TurnEnv`) is context, and never an action. Where an episode's context begins anew, so
    does a segment, and returns and advantages go on across.

    Args:
        buffer_size: Steps per environment, `T`.
        observation_space: The text environment's `Dict` space.
        action_space: `Discrete(V)`.
        device: Where minibatches go.
        gae_lambda: See `llm_gym.learning.advantages.gae`.
        gamma: Discount factor. Language wants 1.0: at 0.99 a reward is worth 0.37 of itself
            100 tokens earlier.
        n_envs: Number of environments, `N`.
        before_returns: Called with the buffer once a rollout is complete and before advantages are
            computed, e.g. to subtract a KL penalty from `rewards` in place.
        seed: Seed of the order of minibatches; `None` draws one from NumPy's global generator,
            which Stable-Baselines3's own `seed` fixes.
        group_size: Rows `k*G .. k*G + G-1` answer the same prompts; their answers to one stay
            together in a minibatch, so that it is read once. 1 parts them as chance has it.

    Attributes:
        turn_gamma: Discount of a step that ends a turn; None is `gamma`, that of all others.
        critic_gae_lambda: That of the returns which the critic learns; None is `gae_lambda`.
        length_adaptive_alpha: Has each answer's lambda follow from its length, in place of
            `gae_lambda`, for the actor alone; None does not.
        turn_ends: bool `(T, N)`, whether a step ended a turn, as the environment said.
        bootstraps: float32 `(T, N)`, what the rest of an episode that a step truncated would have
            been worth, beside the step's reward and in the units of `values`. Stable-Baselines3's
            own algorithms have it in `rewards`, and nothing here.
        truncated: Bool `(T, N)`, steps that truncated an episode, where `bootstraps` are.

    Raises:
        ValueError: If the spaces are not a text environment's.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        gae_lambda: float = 1.0,
        gamma: float = 0.99,
        n_envs: int = 1,
        before_returns: RewardHook | None = None,
        seed: int | None = None,
        group_size: int = 1,
    ) -> None:
        if not isinstance(observation_space, spaces.Dict) or "input_ids" not in (
            observation_space.spaces
        ):
            raise ValueError(
                f"EpisodeBuffer needs a text environment's Dict observations with 'input_ids', "
                f"got {observation_space}"
            )
        if not isinstance(action_space, spaces.Discrete):
            raise ValueError(f"EpisodeBuffer needs Discrete actions (tokens), got {action_space}")
        check_arguments(
            buffer_size=buffer_size,
            device=device,
            gae_lambda=gae_lambda,
            gamma=gamma,
            n_envs=n_envs,
            seed=seed,
            group_size=group_size,
        )
        self.group_size = group_size
        self.turn_gamma: float | None = None
        self.critic_gae_lambda: float | None = None
        self.length_adaptive_alpha: float | None = None
        self.before_returns = before_returns
        if seed is None:
            # SB3 makes the run's seed the global one before it makes its buffer.
            seed = int(np.random.randint(2**31))  # noqa: NPY002
        self.rng = np.random.default_rng(seed)
        super().__init__(
            buffer_size, observation_space, action_space, device, gae_lambda, gamma, n_envs
        )

    def reset(self) -> None:
        """Empties the buffer."""
        shape = (self.buffer_size, self.n_envs)
        self.actions = np.zeros(shape, dtype=np.int64)
        self.rewards = np.zeros(shape, dtype=np.float32)
        self.values = np.zeros(shape, dtype=np.float32)
        self.log_probs = np.zeros(shape, dtype=np.float32)
        self.advantages = np.zeros(shape, dtype=np.float32)
        self.returns = np.zeros(shape, dtype=np.float32)
        self.bootstraps = np.zeros(shape, dtype=np.float32)
        self.truncated = np.zeros(shape, dtype=bool)
        self._value_factor = 1.0
        self.episode_starts = np.zeros(shape, dtype=bool)
        self.turn_ends = np.zeros(shape, dtype=bool)
        self._prefixes: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._answers: dict[int, list[tuple[int, NDArray[np.int64]]]] = {}
        self._lengths = np.zeros(self.n_envs, dtype=np.int64)  # tokens of each observation
        self._support: list[torch.Tensor] = []
        self._segments: list[Segment] | None = None
        self._last_dones = np.zeros(self.n_envs, dtype=bool)
        self.pos, self.full = 0, False

    def add(  # type: ignore[override]
        self,
        obs: Mapping[str, NDArray[Any]],
        action: NDArray[Any],
        reward: NDArray[Any],
        episode_start: NDArray[Any],
        value: torch.Tensor,
        log_prob: torch.Tensor,
    ) -> None:
        """Adds one step of all environments.

        Only the observations of an episode's first step in the rollout are read; later ones are
        these and the actions since, and what a world has written behind those.

        Args:
            obs: Arrays `(N, L)` by name.
            action: Tokens `(N,)` or `(N, 1)`.
            reward: float `(N,)`.
            episode_start: `(N,)`, true where `obs` begins an episode.
            value: float `(N, 1)` or `(N,)`.
            log_prob: float `(N,)`, with the attribute `support` where the policy truncates.
        """
        t = self.pos
        starts = np.asarray(episode_start, dtype=bool)
        # A text to which nothing has been added is an episode's first, or a context begun anew.
        begins = starts | (t == 0) | ~obs["completion_mask"].any(axis=1)
        self._lengths += 1  # by the last action
        for env in np.flatnonzero(begins | self._has_more(obs["attention_mask"])):
            length = int(obs["attention_mask"][env].sum())
            ids = np.array(obs["input_ids"][env, :length], dtype=np.int64)
            if begins[env]:
                self._prefixes[t, int(env)] = ids
            else:
                said = ids[self._lengths[env] :]
                self._answers.setdefault(int(env), []).append((t, said))
            self._lengths[env] = length
        self.actions[t] = np.asarray(action).reshape(-1)
        self.rewards[t] = reward
        self.episode_starts[t] = starts
        self.values[t] = widened(value.detach()).cpu().numpy().reshape(-1)
        self.log_probs[t] = widened(log_prob.detach()).cpu().numpy().reshape(-1)
        support = getattr(log_prob, "support", None)
        if support is not None:
            self._support.append(support.cpu())
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def _has_more(self, attention_mask: NDArray[Any]) -> NDArray[np.bool_]:
        """Which rows of a mask `(N, L)` have more tokens than their actions have made."""
        columns = np.minimum(self._lengths, attention_mask.shape[1] - 1)
        more = attention_mask[np.arange(self.n_envs), columns].astype(bool)
        return more & (self._lengths < attention_mask.shape[1])

    def end_rollout(
        self, dones: NDArray[Any], keep: Callable[[Segment], bool] | None = None
    ) -> None:
        """Says that nothing more will be added, and lets `before_returns` have its say.

        Args:
            dones: `(N,)`, whether the last step ended an episode.
            keep: Which segments count; the others will not be in `segments`, and so in no
                minibatch. `None` keeps all.
        """
        self._last_dones = np.asarray(dones, dtype=bool)
        self.full = True
        if keep is not None:
            self._segments = [segment for segment in self.segments() if keep(segment)]
        if self.before_returns is not None:
            self.before_returns(self)

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: NDArray[Any]) -> None:
        """Fills `advantages` and `returns`, after `before_returns` has had its say.

        Args:
            last_values: float `(N, 1)` or `(N,)`, values after the last step.
            dones: `(N,)`, whether the last step ended an episode.
        """
        self.end_rollout(dones)
        rest = widened(last_values.detach()).cpu().numpy().reshape(-1)
        self.fill_advantages(rest * self._value_factor)

    def rescale_values(self, factor: float) -> None:
        """Has all values of the rollout be in other units, those still to come included.

        Args:
            factor: What a value is multiplied by.
        """
        self.values *= factor
        self.bootstraps *= factor
        self._value_factor = factor

    def fill_advantages(self, last_values: NDArray[np.floating]) -> None:
        """Fills `advantages` and `returns` of a finished rollout.

        Args:
            last_values: float `(N,)`, values after the last step; they count where it ended no
                episode.
        """
        of_critic = self.gae_lambda if self.critic_gae_lambda is None else self.critic_gae_lambda
        of_actor = self._actor_lambda()
        self.advantages = self._gae(of_actor, last_values)
        same = of_actor is self.gae_lambda and of_critic == self.gae_lambda
        self.returns = self.values + (
            self.advantages if same else self._gae(of_critic, last_values)
        )

    def _gae(
        self, gae_lambda: float | NDArray[np.float32], last_values: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        return gae(
            self.rewards + self.bootstraps,
            self.values,
            self.episode_starts,
            last_values,
            self._last_dones,
            gamma=self.discounts(),
            gae_lambda=gae_lambda,
        ).astype(np.float32)

    def _actor_lambda(self) -> float | NDArray[np.float32]:
        """One for all steps, or float32 `(T, N)` where it follows from an answer's length."""
        if self.length_adaptive_alpha is None:
            return self.gae_lambda
        lengths = np.ones_like(self.rewards)
        for segment in self.segments():
            lengths[segment.start : segment.stop, segment.env] = segment.stop - segment.start
        return length_adaptive_lambda(lengths, self.length_adaptive_alpha)

    def discounts(self) -> float | NDArray[np.float32]:
        """The discount: one for all steps, or float32 `(T, N)` where turns have their own."""
        if self.turn_gamma is None:
            return self.gamma
        return np.where(self.turn_ends, self.turn_gamma, self.gamma).astype(np.float32)

    # ------------------------------------------------------------------ episodes

    def segments(self) -> list[Segment]:
        """The rollout's episodes, and parts of episodes, in order of environment and time."""
        if self._segments is None:
            starts = sorted(self._prefixes, key=lambda key: (key[1], key[0]))
            stops = [
                step if env == before else self.pos for (_, before), (step, env) in pairwise(starts)
            ] + [self.pos]
            self._segments = [
                self._segment(env, step, stop)
                for (step, env), stop in zip(starts, stops, strict=True)
            ]
        return self._segments

    def _segment(self, env: int, start: int, stop: int) -> Segment:
        answers = tuple(said for said in self._answers.get(env, ()) if start < said[0] < stop)
        prefix, is_start = self._prefixes[start, env], self.episode_starts[start, env]
        return Segment(env, start, stop, prefix, is_start, answers)

    def ends(self, segment: Segment) -> bool:
        """Whether the last step of the segment's episode is in the rollout."""
        if segment.stop < self.pos:
            return bool(self.episode_starts[segment.stop, segment.env])
        return bool(self._last_dones[segment.env])

    def complete(self, segment: Segment) -> bool:
        """Whether both the first and the last step of the segment's episode are in the rollout."""
        return bool(segment.is_start) and self.ends(segment)

    def episode_batch(self, segments: list[Segment]) -> EpisodeBatch:
        """Segments as one right-padded batch on the buffer's device; actions in their order."""
        written = [self._written(segment) for segment in segments]
        lengths = [len(slots) for _, slots in written]
        batch = EpisodeBatch(
            pad([ids for ids, _ in written], device=self.device),
            self.to_torch(np.repeat(np.arange(len(segments)), lengths)),
            self.to_torch(np.concatenate([slots for _, slots in written])),
        )
        if not self._support:
            return batch
        steps, envs = self.places(segments)
        support = torch.stack(self._support)[steps, envs].to(self.device)
        return dataclasses.replace(batch, support=support)

    def _written(self, segment: Segment) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A segment's tokens, int64 `(S,)`, and where among them its actions stand, `(T,)`."""
        start, stop = segment.start, segment.stop
        actions = self.actions[start:stop, segment.env]
        slots = len(segment.prefix) + np.arange(stop - start)
        if not segment.answers:
            return np.concatenate([segment.prefix, actions]), slots
        ids = np.insert(
            actions,
            np.concatenate([np.full(len(said), step - start) for step, said in segment.answers]),
            np.concatenate([said for _, said in segment.answers]),
        )
        for step, said in segment.answers:
            slots[step - start :] += len(said)
        return np.concatenate([segment.prefix, ids]), slots

    def places(self, segments: list[Segment]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices (step, environment) of the segments' actions into arrays `(T, N)`."""
        steps = np.concatenate([np.arange(s.start, s.stop) for s in segments])
        envs = np.repeat([s.env for s in segments], [s.stop - s.start for s in segments])
        return steps, envs

    def minibatches(self, batch_size: int | None) -> list[list[Segment]]:
        """Splits the segments, in random order, into groups of about `batch_size` actions.

        Args:
            batch_size: See `llm_gym.learning.minibatches.token_batches`; actions are its tokens.
        """
        if batch_size is not None:
            check_arguments(batch_size=batch_size)
        units = self._units()
        lengths = [sum(s.stop - s.start for s in unit) for unit in units]
        batches = token_batches(lengths, batch_size, self.rng)
        return [[segment for index in batch for segment in units[index]] for batch in batches]

    def _units(self) -> list[list[Segment]]:
        """What minibatches do not part: segments, or those of a group that answer one prompt.

        Of an episode that began in the rollout before, the prompt's end is not known: those of a
        group stay together.
        """
        if self.group_size == 1:
            return [[segment] for segment in self.segments()]
        units: dict[tuple[int, bytes], list[Segment]] = {}
        for segment in self.segments():
            prompt = segment.prefix.tobytes() if segment.is_start else b""
            units.setdefault((segment.env // self.group_size, prompt), []).append(segment)
        return list(units.values())

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """Yields one epoch of minibatches of whole episodes.

        Args:
            batch_size: See `minibatches`.

        Yields:
            Samples whose `observations` are an `EpisodeBatch` and whose other fields are
            `(A,)` tensors over its actions (`actions` `(A, 1)`, as in Stable-Baselines3).
        """
        assert self.full, "the rollout is not complete"
        for members in self.minibatches(batch_size):
            batch = self.episode_batch(members)
            steps, envs = self.places(members)

            def chosen(
                array: NDArray[Any],
                steps: NDArray[np.int64] = steps,
                envs: NDArray[np.int64] = envs,
            ) -> torch.Tensor:
                return self.to_torch(array[steps, envs])

            yield RolloutBufferSamples(
                observations=batch,  # type: ignore[arg-type]
                actions=batch.actions[:, None],
                old_values=chosen(self.values),
                old_log_prob=chosen(self.log_probs),
                advantages=chosen(self.advantages),
                returns=chosen(self.returns),
            )


class MaskableSamples(NamedTuple):
    """What MaskablePPO reads of a minibatch; the masks are in the observations."""

    observations: EpisodeBatch
    actions: torch.Tensor
    old_values: torch.Tensor
    old_log_prob: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    action_masks: None = None


class MaskableEpisodeBuffer(EpisodeBuffer):
    """An `llm_gym.EpisodeBuffer` that MaskablePPO accepts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        register_with_contrib("buffers", "MaskableDictRolloutBuffer", MaskableEpisodeBuffer)
        super().__init__(*args, **kwargs)

    def add(  # type: ignore[override]
        self,
        obs: Mapping[str, NDArray[Any]],
        *args: Any,
        action_masks: NDArray[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """As the parent's: the log-probabilities carry the masks already."""
        super().add(obs, *args, **kwargs)

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """As the parent's, with the field MaskablePPO looks for."""
        for samples in super().get(batch_size):
            yield MaskableSamples(*samples[:6])  # type: ignore[arg-type]
