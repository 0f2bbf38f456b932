"""Options of the critic: lambdas of its own and by length, and rollouts it learns from alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from llm_gym.learning.advantages import gae, length_adaptive_lambda
from llm_gym.learning.critic_warmup import train_critic
from llm_gym.runs.checkpoint import load_checkpoint, save_checkpoint
from tests.learning.online_worlds import MODEL, make, rollouts, small_env

CRITICS = ["PPO", "A2C"]
EOS_IDS = (1, 7, 8)


@pytest.fixture
def model(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


@pytest.fixture
def ragged(model):
    return lambda **overrides: small_env(model, eos_token_id=EOS_IDS, **overrides)


def weights(policy, of="model"):
    return torch.cat([p.detach().flatten() for p in getattr(policy, of).parameters()])


# ------------------------------------------------------------------ lambdas


def test_golden_values_of_the_length_adaptive_lambda():
    """By hand with `1 - 1 / (0.05 l)`: 20 tokens are 0, 40 are a half, 200 nine tenths."""
    found = length_adaptive_lambda(np.array([1, 19, 20, 40, 200]), 0.05)
    np.testing.assert_allclose(found, [0, 0, 0, 0.5, 0.9], atol=1e-7)
    assert found.dtype == np.float32
    # The weights lambda^k of a long answer add up to alpha * l.
    weight = float(length_adaptive_lambda(np.array([1000]), 0.05)[0])
    assert sum(weight**k for k in range(1000)) == pytest.approx(50, rel=1e-3)


def test_a_lambda_for_each_step_is_that_of_its_episode():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 6, 2))
    starts = np.zeros((6, 2), dtype=bool)
    starts[[0, 2], 0] = starts[0, 1] = True
    each = np.array([[0.3] * 2 + [0.8] * 4, [0.4] * 6]).T
    nothing, ended = np.zeros(2), np.ones(2, dtype=bool)
    found = gae(rewards, values, starts, nothing, ended, gamma=0.9, gae_lambda=each)

    def alone(row, start, stop):
        part = slice(start, stop), slice(row, row + 1)
        weight = float(each[start, row])
        chosen = rewards[part], values[part], starts[part], nothing[:1], ended[:1]
        return gae(*chosen, gamma=0.9, gae_lambda=weight)[:, 0]

    np.testing.assert_allclose(found[:2, 0], alone(0, 0, 2))
    np.testing.assert_allclose(found[2:, 0], alone(0, 2, 6))
    np.testing.assert_allclose(found[:, 1], alone(1, 0, 6))


@pytest.mark.parametrize("name", CRITICS)
def test_the_critic_learns_monte_carlo_returns_and_the_actor_its_own_lambda(name, model, ragged):
    chosen = {"gae_lambda": 0.7, "learning_rate": 0.0, "kl_coef": 0.1, "seed": 3}
    usual = rollouts(make(name, model, ragged(), **chosen)).rollout_buffer
    apart = rollouts(make(name, model, ragged(), critic_gae_lambda=1.0, **chosen)).rollout_buffer
    np.testing.assert_array_equal(apart.advantages, usual.advantages)
    assert abs(apart.returns - usual.returns).max() > 1e-3
    for s in apart.segments():
        place = slice(s.start, s.stop), s.env
        to_come = apart.rewards[place][::-1].cumsum()[::-1]
        np.testing.assert_allclose(apart.returns[place], to_come, atol=1e-5)


@pytest.mark.parametrize("name", CRITICS)
def test_the_actors_lambda_follows_from_the_length_of_each_answer(name, model, ragged):
    chosen = {"gae_lambda": 0.7, "learning_rate": 0.0, "length_adaptive_alpha": 0.5}
    buffer = rollouts(make(name, model, ragged(), **chosen)).rollout_buffer
    lengths = set()
    for s in buffer.segments():
        place, length = (slice(s.start, s.stop), s.env), s.stop - s.start
        weight = max(0.0, 1 - 1 / (0.5 * length))
        values = buffer.values[place]
        deltas = buffer.rewards[place] + np.append(values[1:], 0) - values
        for gae_lambda, found in ((weight, buffer.advantages[place]), (0.7, None)):
            expected = [
                sum(gae_lambda**k * d for k, d in enumerate(deltas[t:])) for t in range(length)
            ]
            found = buffer.returns[place] - values if found is None else found
            np.testing.assert_allclose(found, expected, atol=1e-5)
        lengths.add(length)
    assert len(lengths) > 3


# ------------------------------------------------------------------ the critic alone


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("name", CRITICS)
def test_the_critic_learns_alone_first_and_the_actor_stays_to_the_bit(
    name, separate, model, ragged
):
    own = {"critic": "separate"} if separate and name == "A2C" else {}
    if separate and name == "PPO":
        own = {"policy_kwargs": {"model": model, "separate_critic": True}}
    algorithm = make(name, model, ragged(), critic_warmup=2, learning_rate=1e-2, **own)
    policy = algorithm.policy
    before, head = weights(policy), weights(policy, "value_head")
    trunk = weights(policy, "critic") if separate else None
    rollouts(algorithm, 2)
    assert torch.equal(weights(policy), before)
    assert not torch.equal(weights(policy, "value_head"), head)
    if separate:
        assert not torch.equal(weights(policy, "critic"), trunk)
    assert all(parameter.requires_grad for parameter in policy.parameters())
    assert algorithm.critic_warmups == 2
    assert algorithm._n_updates == 0
    rollouts(algorithm)
    assert not torch.equal(weights(policy), before)


def test_a_critic_that_has_warmed_up_longer_than_asked_is_warm(model):
    algorithm = make("PPO", model, critic_warmup=2)
    warming = []
    for algorithm.critic_warmups in range(5):
        warming.append(algorithm.is_warming_up)
    assert warming == [True, True, False, False, False]


def test_the_gradient_is_that_of_the_mean_squared_error(model, ragged, monkeypatch):
    """As an update takes it, the actor's part left out; in micro-batches, too."""
    found = []
    for size in (None, 3):
        kwargs = {"model": model, "micro_batch_size": size}
        algorithm = rollouts(
            make("PPO", model, ragged(), learning_rate=0.0, policy_kwargs=kwargs, seed=1)
        )
        policy, buffer = algorithm.policy, algorithm.rollout_buffer
        samples = next(buffer.get(None))
        values = policy.predict_values(samples.observations).flatten()
        loss = torch.nn.functional.mse_loss(values, samples.returns)
        expected = torch.autograd.grad(loss, list(policy.value_head.parameters()))
        stepped = []
        monkeypatch.setattr(
            policy.optimizer,
            "step",
            lambda policy=policy, stepped=stepped: stepped.extend(
                p.grad.clone() for p in policy.value_head.parameters()
            ),
        )
        figures = train_critic(
            policy, buffer, batch_size=None, n_epochs=1, vf_coef=1.0, max_grad_norm=1e9
        )
        for own, theirs in zip(stepped, expected, strict=True):
            torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-6)
        assert figures["value_loss"] == pytest.approx(loss.item(), rel=1e-4)
        found.append(stepped)
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-6)


def test_a_warm_critic_explains_the_returns(model, ragged):
    """The longer an answer is the less is still to come, which a head alone can learn."""

    def short_is_good(prompts, completions, **_):
        return [-float(len(text.split())) for text in completions]

    algorithm = make(
        "PPO",
        model,
        ragged(scorer=short_is_good),
        critic_warmup=12,
        learning_rate=3e-2,
        kl_coef=0.0,
    )
    rollouts(algorithm)
    first = algorithm.logger.name_to_value["train/value_loss"]
    rollouts(algorithm, 11)
    assert algorithm.logger.name_to_value["train/value_loss"] < 0.8 * first
    assert algorithm.logger.name_to_value["train/critic_warmups"] == 12


def test_a_run_stopped_while_the_critic_learns_goes_on_exactly(model, ragged, tmp_path):
    def learner():
        return make("PPO", model, ragged(), critic_warmup=2)

    whole = rollouts(learner(), 4)
    first = rollouts(learner())
    save_checkpoint(first, tmp_path / "saved")
    json.dumps(first.get_state())
    second = learner()
    load_checkpoint(second, tmp_path / "saved")
    assert second.is_warming_up
    rollouts(second, 3)
    assert torch.equal(weights(second.policy), weights(whole.policy))
    assert torch.equal(weights(second.policy, "value_head"), weights(whole.policy, "value_head"))


# ------------------------------------------------------------------ what does not fit


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("PPO", {"critic_gae_lambda": 1.5}, r"critic_gae_lambda=1\.5"),
        ("PPO", {"length_adaptive_alpha": 0.0}, r"length_adaptive_alpha=0\.0"),
        ("A2C", {"critic_warmup": -1}, "critic_warmup=-1"),
        ("PPO", {"length_adaptive_alpha": 0.05, "n_steps": 5}, "n_steps=5 cuts them"),
        ("RLOO", {"critic_warmup": 1}, "critic_warmup=1 needs a critic, and advantage='rloo'"),
        ("RLOO", {"critic_gae_lambda": 1.0}, r"critic_gae_lambda=1\.0 needs a critic"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name, chosen, message, model, ragged):
    with pytest.raises(ValueError, match=message):
        make(name, model, ragged(group_size=4), **chosen)
