"""Tests that every environment must pass, as classes for its own test module to inherit.

```python
from llm_gym.testing.conformance import EnvironmentConformance

class TestMyEnv(EnvironmentConformance):
    def make_env(self):
        return gymnasium.make("me/MyEnv-v0")
```

pytest then runs every rule. A failure begins with the rule that was broken.
"""

from __future__ import annotations

import copy
import functools
import math
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

RULE_SPACE = "every observation is in the observation space"
RULE_REWARD = "the reward is a finite real number"
RULE_FLAGS = "terminated and truncated are bools, info is a dict"
RULE_ENDS = "an episode of allowed random actions ends within `max_steps` steps"
RULE_SEED = "the same seed and the same actions give the same episodes"
RULE_GLOBAL_RNG = "no global random state is read or changed"
RULE_FRESH = "what a call returned is not changed by later calls"
RULE_RESET_FIRST = "step() before reset() raises gymnasium.error.ResetNeeded"
RULE_BAD_ACTION = "an action outside a Discrete action space raises ValueError"
RULE_GYMNASIUM = "gymnasium.utils.env_checker.check_env passes without a warning"
RULE_SB3 = "stable_baselines3's check_env passes without a warning"
RULE_MODE = "metadata['autoreset_mode'] is the gymnasium.vector.AutoresetMode asked for"
RULE_SPACES = "the batched spaces are those of SyncVectorEnv"
RULE_SYNC = "the vector environment does what SyncVectorEnv of the single one does, infos included"

Transition = tuple[Any, float, bool, bool, dict[str, Any]]


class EnvironmentConformance:
    """Rules for a single environment. Inherit it and give `make_env`.

    Attributes:
        max_steps: Longest episode that is expected.
    """

    max_steps: int = 1000

    def make_env(self) -> gym.Env:
        """A new environment, as users make it."""
        raise NotImplementedError("give make_env() in the class that inherits the rules")

    def test_transitions_have_the_right_types(self) -> None:
        """Observations are in their space; rewards are finite; flags are bools."""
        env = self.make_env()
        observation, info = env.reset(seed=0)
        assert env.observation_space.contains(observation), RULE_SPACE
        assert isinstance(info, dict), RULE_FLAGS
        for observation, reward, terminated, truncated, info in self._episode(env, seed=0):
            assert env.observation_space.contains(observation), RULE_SPACE
            assert isinstance(reward, (int, float, np.number)), RULE_REWARD
            assert math.isfinite(reward), RULE_REWARD
            for flag in (terminated, truncated):
                assert isinstance(flag, (bool, np.bool_)), RULE_FLAGS
            assert isinstance(info, dict), RULE_FLAGS

    def test_episodes_end(self) -> None:
        """Random actions come to an end."""
        env = self.make_env()
        for seed in range(3):
            *_, (_, _, terminated, truncated, _) = self._episode(env, seed)
            assert terminated or truncated, f"{RULE_ENDS}: max_steps={self.max_steps}, {seed=}"

    def test_seed_fixes_the_episodes(self) -> None:
        """Same seed, same actions: same episodes, also without a further seed."""
        first, second = (list(self._episode(self.make_env(), seed=7)) for _ in range(2))
        assert len(first) == len(second), RULE_SEED
        for step, again in zip(first, second, strict=True):
            assert_same(step, again, RULE_SEED)
        env = self.make_env()
        episodes = []
        for _ in range(2):
            env.reset(seed=11)
            episodes.append([env.reset() for _ in range(3)])
        assert_same(episodes[0], episodes[1], RULE_SEED)

    def test_global_random_state_is_left_alone(self) -> None:
        """NumPy's global generator is neither read nor changed."""

        def global_state() -> tuple[Any, ...]:
            return np.random.get_state(), random.getstate()  # noqa: NPY002 -- the thing under test

        before = global_state()
        list(self._episode(self.make_env(), seed=3))
        assert_same(list(before), list(global_state()), RULE_GLOBAL_RNG)

    def test_returned_data_stays_as_it_was(self) -> None:
        """A caller may keep what it got."""
        env = self.make_env()
        returned: list[Any] = [env.reset(seed=5)]
        snapshots: list[Any] = [copy.deepcopy(returned[0])]
        for transition in self._episode(env, seed=5):
            returned.append(transition)
            snapshots.append(copy.deepcopy(transition))
        env.reset()
        assert_same(returned, snapshots, RULE_FRESH)

    def test_step_before_reset_is_refused(self) -> None:
        """There is no episode before the first reset."""
        env = self.make_env()
        assert _raises(ResetNeeded, lambda: env.step(env.action_space.sample())), RULE_RESET_FIRST

    def test_action_outside_the_space_is_refused(self) -> None:
        """Ids below and above a Discrete space are refused."""
        env = self.make_env()
        if isinstance(env.action_space, gym.spaces.Discrete):
            low, high = int(env.action_space.start), int(env.action_space.n)
            for action in (low - 1, low + high):
                env.reset(seed=0)
                step = lambda action=action: env.step(action)  # noqa: E731
                assert _raises(ValueError, step), f"{RULE_BAD_ACTION}: {action=}"

    def test_gymnasium_check_env(self) -> None:
        """Gymnasium's own checker is content."""
        env = self.make_env().unwrapped
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_env(env, skip_render_check=env.render_mode is None)
        assert not caught, f"{RULE_GYMNASIUM}: {[str(w.message) for w in caught]}"

    def test_sb3_check_env(self) -> None:
        """Stable-Baselines3's own checker is content."""
        from stable_baselines3.common.env_checker import check_env as sb3_check_env

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sb3_check_env(self.make_env())
        assert not caught, f"{RULE_SB3}: {[str(w.message) for w in caught]}"

    def _episode(self, env: gym.Env, seed: int) -> Iterator[Transition]:
        """An episode of random actions, masked ones left out."""
        _, info = env.reset(seed=seed)
        env.action_space.seed(seed)
        for _ in range(self.max_steps):
            mask = info.get("action_mask")
            action = env.action_space.sample() if mask is None else env.action_space.sample(mask)
            observation, reward, terminated, truncated, info = env.step(action)
            yield observation, float(reward), terminated, truncated, info
            if terminated or truncated:
                return


class VectorEnvironmentConformance:
    """Rules for a native vector environment. Inherit it and give both methods.

    Attributes:
        num_steps: Steps of each comparison.
        num_envs: Rows of each comparison.
        tolerance: Largest difference of observations and rewards from those of `SyncVectorEnv`; 0,
            unless the vector form calculates in another order.
        infos_of_all_steps: Whether infos are those of `SyncVectorEnv`; False leaves them out, for
            an environment that gives fewer.
    """

    num_steps: int = 60
    num_envs: int = 3
    tolerance: float = 0.0
    infos_of_all_steps: bool = True

    def make_env(self, row: int, num_rows: int) -> gym.Env:
        """The single environment that is equal to row `row` of `num_rows`."""
        raise NotImplementedError("give make_env() in the class that inherits the rules")

    def make_vector_env(self, num_envs: int, autoreset_mode: AutoresetMode) -> VectorEnv:
        """The vector environment."""
        raise NotImplementedError("give make_vector_env() in the class that inherits the rules")

    def make_sync_env(self, num_envs: int, autoreset_mode: AutoresetMode) -> SyncVectorEnv:
        """`SyncVectorEnv` of the single environments, to compare with."""
        makers = [functools.partial(self.make_env, row, num_envs) for row in range(num_envs)]
        return SyncVectorEnv(makers, autoreset_mode=autoreset_mode)

    def test_mode_is_declared(self) -> None:
        """Algorithms can see how rows are reset."""
        for mode in AutoresetMode:
            env = self.make_vector_env(self.num_envs, mode)
            assert env.metadata.get("autoreset_mode") is mode, RULE_MODE

    def test_spaces_are_batched(self) -> None:
        """Single and batched spaces are those of `SyncVectorEnv`."""
        mode = AutoresetMode.SAME_STEP
        env = self.make_vector_env(self.num_envs, mode)
        sync = self.make_sync_env(self.num_envs, mode)
        assert env.num_envs == sync.num_envs, RULE_SPACES
        for name in (
            "observation_space",
            "action_space",
            "single_observation_space",
            "single_action_space",
        ):
            assert getattr(env, name) == getattr(sync, name), f"{RULE_SPACES}: {name}"

    def test_equal_to_sync_vector_env(self) -> None:
        """Every result is that of `SyncVectorEnv`, in every autoreset mode."""
        for mode in AutoresetMode:
            assert_same_vector_envs(
                self.make_vector_env(self.num_envs, mode),
                self.make_sync_env(self.num_envs, mode),
                seed=0,
                num_steps=self.num_steps,
                tolerance=self.tolerance,
                infos=self.infos_of_all_steps,
            )

    def test_returned_data_stays_as_it_was(self) -> None:
        """A caller may keep what it got, in every autoreset mode."""
        for mode in AutoresetMode:
            env = self.make_vector_env(self.num_envs, mode)
            returned: list[Any] = [env.reset(seed=2)]
            snapshots: list[Any] = [copy.deepcopy(returned[0])]
            for transition in _vector_steps(env, seed=2, num_steps=self.num_steps, actions=None):
                returned.append(transition)
                snapshots.append(copy.deepcopy(transition))
            assert_same(returned, snapshots, RULE_FRESH)

    def test_global_random_state_is_left_alone(self) -> None:
        """NumPy's global generator is neither read nor changed."""
        before = np.random.get_state()  # noqa: NPY002 -- the thing under test
        env = self.make_vector_env(self.num_envs, AutoresetMode.NEXT_STEP)
        list(_vector_steps(env, seed=0, num_steps=self.num_steps, actions=None))
        after = np.random.get_state()  # noqa: NPY002
        assert_same(list(before), list(after), RULE_GLOBAL_RNG)


def assert_same_vector_envs(
    env: VectorEnv,
    sync: VectorEnv,
    *,
    seed: int,
    num_steps: int,
    actions: Callable[[int], np.ndarray] | None = None,
    tolerance: float = 0.0,
    infos: bool = True,
) -> None:
    """Step two vector environments side by side and compare all that they return.

    Args:
        env: One of them.
        sync: The other, in the same autoreset mode.
        seed: Seed of both, and of the random actions.
        num_steps: Number of steps.
        actions: Gives the actions `(N, ...)` of a step; None samples them at random.
        tolerance: Largest difference of numbers that counts as none.
        infos: Whether to compare the infos, too.

    Raises:
        AssertionError: They differ.
    """
    first = _vector_steps(env, seed=seed, num_steps=num_steps, actions=actions)
    second = _vector_steps(sync, seed=seed, num_steps=num_steps, actions=actions)
    mode = env.metadata["autoreset_mode"]
    for number, (result, expected) in enumerate(zip(first, second, strict=True)):
        if not infos:
            result, expected = result[:-1], expected[:-1]
        assert_same(result, expected, f"{RULE_SYNC}: {mode}, result {number}", tolerance=tolerance)


def _vector_steps(
    env: VectorEnv, *, seed: int, num_steps: int, actions: Callable[[int], np.ndarray] | None
) -> Iterator[tuple[Any, ...]]:
    """Results of reset and steps; in mode "Disabled" with the resets in between."""
    mode = env.metadata["autoreset_mode"]
    _, infos = result = env.reset(seed=seed)
    yield result
    env.single_action_space.seed(seed)
    for number in range(num_steps):
        taken = _sample(env, infos) if actions is None else actions(number)
        _, _, terminated, truncated, infos = step = env.step(taken)
        yield step
        ended = np.asarray(terminated) | np.asarray(truncated)
        if mode is AutoresetMode.DISABLED and ended.any():
            _, reset_infos = reset = env.reset(options={"reset_mask": ended})
            yield reset
            infos = _merge_masks(infos, reset_infos)


def _sample(env: VectorEnv, infos: dict[str, Any]) -> np.ndarray:
    masks = infos.get("action_mask")
    space = env.single_action_space
    rows = range(env.num_envs)
    return np.stack([space.sample() if masks is None else space.sample(masks[r]) for r in rows])


def _merge_masks(infos: dict[str, Any], reset_infos: dict[str, Any]) -> dict[str, Any]:
    if "action_mask" not in reset_infos:
        return infos
    new = reset_infos["_action_mask"][:, None]
    return {"action_mask": np.where(new, reset_infos["action_mask"], infos["action_mask"])}


def assert_same(
    first: Any, second: Any, rule: str, path: str = "", *, tolerance: float = 0.0
) -> None:
    """Compares nested data: types, shapes, dtypes and values.

    Args:
        first: Dicts, lists, tuples, arrays and plain values.
        second: What it should equal.
        rule: What is broken if it does not, for the message.
        path: Where in the data `first` is, for the message.
        tolerance: Largest difference of numbers that counts as none.

    Raises:
        AssertionError: They differ; the message says where.
    """
    where = f"{rule} (at {path or 'the top'})"
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        _assert_same_arrays(first, second, where, rule, path, tolerance)
    elif isinstance(first, dict):
        assert isinstance(second, dict), where
        assert first.keys() == second.keys(), (
            f"{where}: keys {set(first) ^ set(second)} are in one only"
        )
        for key in first:
            assert_same(first[key], second[key], rule, f"{path}[{key!r}]", tolerance=tolerance)
    elif isinstance(first, (list, tuple)):
        assert type(first) is type(second), where
        assert len(first) == len(second), where
        for index, (left, right) in enumerate(zip(first, second, strict=True)):
            assert_same(left, right, rule, f"{path}[{index}]", tolerance=tolerance)
    else:
        assert type(first) is type(second), f"{where}: {type(first)} and {type(second)}"
        near = isinstance(first, float) and abs(first - second) <= tolerance
        assert near or first == second, f"{where}: {first!r} != {second!r}"


def _assert_same_arrays(
    first: Any, second: Any, where: str, rule: str, path: str, tolerance: float
) -> None:
    assert isinstance(first, np.ndarray), where
    assert isinstance(second, np.ndarray), where
    kinds = (first.dtype, first.shape), (second.dtype, second.shape)
    assert kinds[0] == kinds[1], f"{where}: {kinds[0]} and {kinds[1]}"
    if first.dtype == object:
        assert_same(first.tolist(), second.tolist(), rule, path, tolerance=tolerance)
    elif np.issubdtype(first.dtype, np.floating):
        assert np.allclose(first, second, rtol=0.0, atol=tolerance), f"{where}: {first} != {second}"
    else:
        assert np.array_equal(first, second), f"{where}: {first} != {second}"


def _raises(error: type[Exception], call: Callable[[], Any]) -> bool:
    try:
        call()
    except error:
        return True
    return False
