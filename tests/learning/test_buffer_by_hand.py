"""The episode buffer filled by hand: what a policy and an environment seldom do is rare no more."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from llm_gym import EpisodeBuffer
from llm_gym.learning.advantages import Rollout, gae, length_adaptive_lambda

TOKENS = gym.spaces.Discrete(12)
ACTION = 9


def empty(n_steps: int, n_envs: int = 1, width: int = 6, **kwargs) -> EpisodeBuffer:
    box = gym.spaces.Box(0, 11, (width,), np.int64)
    masks = {name: gym.spaces.MultiBinary(width) for name in ("attention_mask", "completion_mask")}
    space = gym.spaces.Dict(input_ids=box, **masks)
    return EpisodeBuffer(n_steps, space, TOKENS, "cpu", n_envs=n_envs, seed=0, **kwargs)


def shown(rows, width: int = 6) -> dict[str, np.ndarray]:
    """Observations of texts, each a prompt and what was added to it."""
    names = ("input_ids", "attention_mask", "completion_mask")
    obs = {name: np.zeros((len(rows), width), dtype=np.int64) for name in names}
    for row, (prompt, added) in enumerate(rows):
        end = len(prompt) + len(added)
        obs["input_ids"][row, :end] = [*prompt, *added]
        obs["attention_mask"][row, :end] = 1
        obs["completion_mask"][row, len(prompt) : end] = 1
    return obs


def add(buffer: EpisodeBuffer, obs, starts, rewards=0.0, values=0.0) -> None:
    zeros = torch.zeros(buffer.n_envs)
    actions = np.full(buffer.n_envs, ACTION)
    buffer.add(obs, actions, np.zeros(1) + rewards, np.asarray(starts), zeros + values, zeros)


def in_episodes_of(lengths, n_envs: int = 1, gae_lambda: float = 1.0) -> EpisodeBuffer:
    """Complete episodes one after another, the same lengths in all rows, of random rewards."""
    buffer = empty(sum(lengths), n_envs, gae_lambda=gae_lambda, gamma=1.0)
    rng = np.random.default_rng(0)
    for length in lengths:
        for step in range(length):
            obs = shown([([1], [ACTION] * step)] * n_envs)
            rewards = rng.normal(size=n_envs)
            values = torch.tensor(rng.normal(size=n_envs), dtype=torch.float32)
            add(buffer, obs, [step == 0] * n_envs, rewards, values)
    buffer.end_rollout(np.ones(n_envs, dtype=bool))
    return buffer


# ------------------------------------------------------------------ texts


@pytest.mark.parametrize(
    ("steps", "width", "segments"),
    [
        # An episode that starts from a text to which something was added already.
        ([(True, [1], [2]), (False, [1], [2, 9])], 6, [(0, 2, [1, 2], True, [])]),
        (
            [(True, [1], []), (False, [1], [9]), (True, [1], [2])],
            6,
            [(0, 2, [1], True, []), (2, 3, [1, 2], True, [])],
        ),
        # One that goes on from the rollout before, and one whose context begins anew with this.
        (
            [(False, [1], [9, 9]), (True, [2], [])],
            6,
            [(0, 1, [1, 9, 9], False, []), (1, 2, [2], True, [])],
        ),
        ([(False, [7, 8], []), (False, [7, 8], [9])], 6, [(0, 2, [7, 8], False, [])]),
        # A context begun anew within the rollout.
        (
            [(True, [1], []), (False, [1], [9]), (False, [7, 8], [])],
            6,
            [(0, 2, [1], True, []), (2, 3, [7, 8], False, [])],
        ),
        # What a world says is no action, whether there is room behind it or not.
        ([(True, [1], []), (False, [1], [9, 5, 5])], 6, [(0, 2, [1], True, [(1, [5, 5])])]),
        ([(True, [1], []), (False, [1], [9, 5, 5])], 4, [(0, 2, [1], True, [(1, [5, 5])])]),
        # Each episode has what was said in it.
        (
            [
                (True, [1], []),
                (False, [1], [9, 5]),
                (True, [2], []),
                (False, [2], [9, 6]),
                (False, [2], [9, 6, 9, 7]),
                (True, [3], []),
                (False, [3], [9, 8]),
            ],
            6,
            [
                (0, 2, [1], True, [(1, [5])]),
                (2, 5, [2], True, [(3, [6]), (4, [7])]),
                (5, 7, [3], True, [(6, [8])]),
            ],
        ),
        # A text of actions alone that is as long as can be has nothing said in it.
        (
            [(True, [1], []), (False, [1], [9]), (False, [1], [9, 9])],
            3,
            [(0, 3, [1], True, [])],
        ),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_segments_are_what_was_shown_first_and_what_others_said_since(steps, width, segments):
    buffer = empty(len(steps), width=width)
    for start, prompt, added in steps:
        add(buffer, shown([(prompt, added)], width), [start])
    buffer.end_rollout(np.ones(1))
    found = []
    for s in buffer.segments():
        said = [(step, ids.tolist()) for step, ids in s.answers]
        found.append((s.start, s.stop, s.prefix.tolist(), bool(s.is_start), said))
    assert found == segments


@pytest.mark.parametrize("done", [False, True])
def test_an_episode_ends_where_the_next_begins_or_the_rollout_says_so(done):
    buffer = empty(4)
    for start, prompt, added in [
        (True, [1], []),
        (False, [1], [9]),
        (False, [7], []),  # the context begins anew, the episode goes on
        (True, [2], []),
    ]:
        add(buffer, shown([(prompt, added)]), [start])
    buffer.end_rollout(np.array([done]))
    assert [buffer.ends(segment) for segment in buffer.segments()] == [False, True, done]
    assert [buffer.complete(segment) for segment in buffer.segments()] == [False, False, done]


def test_rows_beyond_the_first_256_are_rows_like_others():
    buffer = in_episodes_of([1, 1], n_envs=300)
    found = [(s.env, s.start, s.stop) for s in buffer.segments()]
    assert found == [(env, step, step + 1) for env in range(300) for step in (0, 1)]


def test_steps_beyond_the_first_256_are_steps_like_others():
    buffer, full = empty(300), []
    for step in range(300):
        add(buffer, shown([([1], [ACTION] * (step % 2))]), [step % 2 == 0])
        full.append(buffer.full)
    assert full == [False] * 299 + [True]
    buffer.end_rollout(np.ones(1))
    last = buffer.segments()[-1]
    assert (last.start, last.stop) == (298, 300)
    assert buffer.ends(last._replace(stop=int("300")))


# ------------------------------------------------------------------ advantages


@pytest.mark.parametrize("critic", [None, 0.0, 0.5, 0.8, 1.0])
def test_returns_have_the_critics_lambda_and_advantages_the_actors(critic):
    buffer = in_episodes_of([3, 4], n_envs=2, gae_lambda=0.8)
    buffer.critic_gae_lambda = critic

    def expected(weight):
        return gae(
            buffer.rewards, buffer.values, buffer.episode_starts, np.zeros(2), np.ones(2),
            gamma=1.0, gae_lambda=weight,
        )  # fmt: skip

    buffer.fill_advantages(np.zeros(2))
    np.testing.assert_allclose(buffer.advantages, expected(0.8), atol=1e-6)
    of_critic = expected(0.8 if critic is None else critic)
    np.testing.assert_allclose(buffer.returns, buffer.values + of_critic, atol=1e-6)


def test_a_lambda_by_length_is_that_of_each_episode_wherever_it_begins():
    lengths = [2, 6, 3, 5]
    buffer = in_episodes_of(lengths)
    buffer.length_adaptive_alpha = 0.6
    buffer.fill_advantages(np.zeros(1))
    weights = length_adaptive_lambda(np.repeat(lengths, lengths)[:, None], 0.6)
    expected = gae(
        buffer.rewards, buffer.values, buffer.episode_starts, np.zeros(1), np.ones(1),
        gamma=1.0, gae_lambda=weights,
    )  # fmt: skip
    np.testing.assert_allclose(buffer.advantages, expected, atol=1e-6)
    of_critic = gae(
        buffer.rewards, buffer.values, buffer.episode_starts, np.zeros(1), np.ones(1),
        gamma=1.0, gae_lambda=buffer.gae_lambda,
    )  # fmt: skip
    np.testing.assert_allclose(buffer.returns, buffer.values + of_critic, atol=1e-6)


@pytest.mark.parametrize("one_action", [False, True])
def test_a_group_is_one_prompt_of_one_round(one_action):
    """Three prompts, so that a number of prompts is no power of two."""
    buffer = in_episodes_of([2, 3], n_envs=6)
    rollout = Rollout.of(
        buffer, [0, 2], group_size=2, gamma=1.0, one_action=one_action,
        greedy=np.arange(6.0).reshape(2, 3), average=0.0,
    )  # fmt: skip
    assert rollout.groups.reshape(6, 2).tolist() == [[k, 3 + k] for k in (0, 0, 1, 1, 2, 2)]
    assert rollout.greedy.tolist() == list(range(6))
    scores = np.stack([buffer.rewards[:2].sum(axis=0), buffer.rewards[2:].sum(axis=0)], axis=1)
    np.testing.assert_allclose(rollout.scores, scores.ravel(), atol=1e-6)
    first, last = buffer.rewards[:2, 0], rollout.to_go[:2]
    expected = [first.sum()] * 2 if one_action else [first.sum(), first[1]]
    np.testing.assert_allclose(last, expected, atol=1e-6)
