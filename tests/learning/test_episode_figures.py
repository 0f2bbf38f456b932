"""Figures of episodes are those of all of them, wherever a rollout's end cuts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from tests.learning.online_worlds import MODEL, make, rollouts, small_env
from tests.products import covering, sampled

LENGTH = 16


@pytest.fixture
def model(tiny_dir):
    return tiny_dir("gpt2", **(MODEL | {"n_positions": 64}))


def moved(algorithm, scale: float = 0.4):
    """The same algorithm with a policy that has left its reference."""
    noise = torch.manual_seed(0)
    with torch.no_grad():
        for parameter in algorithm.policy.model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=noise))
    return algorithm


def long_env(model, eos=(1,), **overrides):
    settings = {"max_new_tokens": LENGTH, "eos_token_id": eos, "prompts": ["w1", "w2 w3"]}
    return small_env(model, **(settings | overrides))


class WholeEpisodes(BaseCallback):
    """Puts rollouts end to end, and sums over the episodes as they end."""

    def __init__(self) -> None:
        super().__init__()
        self.running: np.ndarray | None = None
        self.kl: list[list[float]] = []
        self.returns: list[list[float]] = []
        self.logged: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer, shaping = self.model.rollout_buffer, self.model.shaping
        log_ratio = buffer.log_probs - shaping.reference_log_probs
        if self.running is None:
            self.running = np.zeros((2, buffer.n_envs))
        ended: list[np.ndarray] = []
        for t in range(buffer.pos):
            last = t == buffer.pos - 1
            done = self.locals["dones"] if last else buffer.episode_starts[t + 1]
            self.running += np.stack([log_ratio[t], buffer.rewards[t] * shaping.divisor])
            ended.extend(self.running[:, done].T)
            self.running[:, done] = 0.0
        self.kl.append([float(kl) for kl, _ in ended])
        self.returns.append([float(paid) for _, paid in ended])
        self.logged.append(dict(self.model.rollout_statistics))


@pytest.mark.parametrize(
    ("rollouts_of", "eos"), covering([(3, 9), (7, 5), (16, 3), (40, 2)], [(1,), (1, 7, 8), ()])
)
def test_every_episode_counts_once_when_it_ends(model, rollouts_of, eos):
    n_steps, n_rollouts = rollouts_of
    algorithm = moved(
        make("PPO", model, long_env(model, eos), n_steps=n_steps, kl_coef=0.3, kl_target=6.0)
    )
    updates = []
    algorithm.shaping.controller.update = lambda kl, n: updates.append((kl, n))
    figures = WholeEpisodes()
    algorithm.learn(n_steps * 16 * n_rollouts, callback=figures)
    expected = [(np.mean(kl), len(kl)) for kl in figures.kl if kl]
    np.testing.assert_allclose(updates, expected, rtol=1e-3, atol=1e-3)
    for kl, returns, logged in zip(figures.kl, figures.returns, figures.logged, strict=True):
        assert ("kl_per_sequence" in logged) == bool(kl)
        if kl:
            assert logged["kl_per_sequence"] == pytest.approx(np.mean(kl), rel=1e-3, abs=1e-3)
            assert logged["penalised_return_mean"] == pytest.approx(np.mean(returns), abs=1e-3)


@pytest.mark.parametrize("eos", sampled([(1,), (1, 7, 8), (1, 4, 5, 6, 7, 8)], (1, 7, 8)))
def test_logged_divergence_is_that_of_whole_answers(model, eos):
    """Of a policy that stands still, against an algorithm that plays every answer to its end."""

    def standing(name):
        env = long_env(model, eos)
        return moved(make(name, model, env, kl_coef=0.3, learning_rate=0.0, n_steps=LENGTH))

    ppo, logged = standing("PPO"), WholeEpisodes()
    ppo.learn(ppo.n_steps * 16 * 12, callback=logged)
    whole, true = standing("REINFORCE"), []
    for _ in range(8):
        buffer = rollouts(whole).rollout_buffer
        log_ratio = buffer.log_probs - whole.shaping.reference_log_probs
        true += [log_ratio[s.start : s.stop, s.env].sum() for s in buffer.segments()]
    counts = [len(kl) for kl in logged.kl]
    means = [row["kl_per_sequence"] for row in logged.logged]
    all_of_them = np.concatenate(logged.kl)
    error = np.hypot(np.std(true) / len(true) ** 0.5, all_of_them.std() / len(all_of_them) ** 0.5)
    assert abs(np.average(means, weights=counts) - np.mean(true)) < 3 * error


@pytest.mark.slow
@pytest.mark.parametrize("target", sampled([3.0, 6.0], 3.0))
def test_the_target_is_held_where_long_answers_pay(model, target):
    """Answers grow from 6 of 24 tokens to three times that; a word pays, and is divergence."""

    def count(prompts, completions, **_):
        return [float(completion.split().count("w1")) for completion in completions]

    env = long_env(model, (1, 7, 8), num_envs=64, max_new_tokens=24, scorer=count)
    settings = {"kl_coef": 0.8, "kl_horizon": 400, "n_epochs": 2, "learning_rate": 5e-3}
    algorithm = make("PPO", model, env, kl_target=target, **settings)
    figures = WholeEpisodes()
    for _ in range(44):
        algorithm.learn(1, callback=figures, reset_num_timesteps=False)
    before, last = figures.kl[:20], figures.kl[-16:]
    assert max(np.mean(kl) for kl in before) > 1.15 * target  # it had to be brought back
    assert np.mean(np.concatenate(last)) == pytest.approx(target, rel=0.15)
