"""Terms of the loss that a mistake in sign, scale or padding would leave learning something."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_gym.learning.advantages import monte_carlo_returns
from llm_gym.learning.kl import AdaptiveKLController
from llm_gym.learning.losses import aggregate, kl_loss
from llm_gym.policy.sampling import log_prob_and_entropy
from tests.learning.online_worlds import MODEL, make, rollouts, small_env

EOS_IDS = (1, 7, 8)


@pytest.fixture
def model(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


def grouped(model, **overrides):
    return small_env(model, eos_token_id=EOS_IDS, group_size=4, **overrides)


def loss_of_all(algorithm):
    """The loss of the whole rollout, its figures, and the rollout's batch."""
    buffer, policy = algorithm.rollout_buffer, algorithm.policy
    segments = buffer.segments()
    loss, figures = algorithm._loss(policy, buffer, segments)
    return loss, figures, buffer.episode_batch(segments)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant"])
def test_the_entropy_bonus_is_subtracted_and_of_sampled_tokens_alone(model, aggregation):
    """Answers of one to five tokens; what pads the shorter ones has no entropy to count."""
    settings = {"aggregation": aggregation, "learning_rate": 0.0}
    algorithm = rollouts(make("RLOO", model, grouped(model), ent_coef=0.3, **settings))
    with_bonus, _, batch = loss_of_all(algorithm)
    algorithm.ent_coef = 0.0
    without, _, _ = loss_of_all(algorithm)
    logits = algorithm.policy.values_and_logits(batch)[1]
    entropy = log_prob_and_entropy(logits, batch.actions)[1]
    per_answer = entropy.split(batch.action_rows.bincount().tolist())
    assert len({len(tokens) for tokens in per_answer}) > 1
    expected = {
        "token_mean": entropy.mean(),
        "sequence_mean": torch.stack([tokens.mean() for tokens in per_answer]).mean(),
        "constant": torch.stack([tokens.sum() / 5 for tokens in per_answer]).mean(),
    }[aggregation]
    torch.testing.assert_close(without - with_bonus, 0.3 * expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["REINFORCE", "RLOO", "A2C", "NLPO"])
def test_the_entropy_bonus_raises_entropy(model, name):
    def scoreless(prompts, completions, **_):
        return [0.0] * len(prompts)

    algorithm = make(
        name, model, grouped(model, scorer=scoreless), ent_coef=1.0, policy_kwargs={"seed": 1}
    )
    with torch.no_grad():  # some tokens are likelier than others
        algorithm.policy.model.get_input_embeddings().weight.mul_(6.0)
    entropies = []
    for _ in range(8):
        rollouts(algorithm)
        entropies.append(algorithm.logger.name_to_value["train/entropy"])
    assert entropies[-1] > entropies[0] + 0.02


def test_a_minibatch_of_one_token_has_an_advantage(model):
    """Nothing to whiten: its deviation would be 0 / 0."""
    env = small_env(model, eos_token_id=tuple(range(12)), max_new_tokens=1, num_envs=4)
    settings = {"batch_size": 1, "normalize_advantage": True, "aggregation": "token_mean"}
    algorithm = make("REINFORCE", model, env, loss="clipped", n_epochs=2, **settings)
    rollouts(algorithm, 2)
    for parameter in algorithm.policy.parameters():
        assert torch.isfinite(parameter).all()


@pytest.mark.parametrize("gamma", [1.0, 0.5])
@pytest.mark.parametrize("name", ["REINFORCE", "RLOO", "DrGRPO", "ReinforcePlusPlus", "ReMax"])
def test_gamma_discounts_without_a_critic(model, name, gamma):
    """Advantages written out from the discounted sum of what was paid."""
    algorithm = make(name, model, grouped(model), gamma=gamma, learning_rate=0.0)
    buffer = rollouts(algorithm).rollout_buffer
    steps = slice(0, buffer.pos)
    to_go = monte_carlo_returns(buffer.rewards[steps], buffer.episode_starts[steps], gamma=gamma)
    segments = buffer.segments()
    scores = {}
    for s in segments:
        rewards = buffer.rewards[s.start : s.stop, s.env]
        scores[s.env] = sum(gamma**k * reward for k, reward in enumerate(rewards.tolist()))
    for s in segments:
        result = buffer.advantages[s.start : s.stop, s.env]
        group = [scores[env] for env in scores if env // 4 == s.env // 4]
        if name == "REINFORCE":
            expected = to_go[s.start : s.stop, s.env] - np.mean(list(scores.values()))
        elif name == "RLOO":
            expected = (scores[s.env] - np.mean(group)) * 4 / 3
        elif name == "DrGRPO":
            expected = scores[s.env] - np.mean(group)
        elif name == "ReMax":
            greedy = s.env // 4 * 4
            expected = to_go[s.start : s.stop, s.env] - to_go[0, greedy]
        else:
            every = to_go[buffer.places(segments)]
            expected = (to_go[s.start : s.stop, s.env] - every.mean()) / every.std()
        np.testing.assert_allclose(result, np.broadcast_to(expected, result.shape), atol=1e-4)


def test_reinforce_plus_plus_whitens_sampled_tokens_alone(model):
    """Mean 0 and deviation 1 over the tokens of answers of different lengths, none of padding."""
    algorithm = make("ReinforcePlusPlus", model, grouped(model), learning_rate=0.0)
    buffer = rollouts(algorithm).rollout_buffer
    segments = buffer.segments()
    played = buffer.advantages[buffer.places(segments)]
    assert len(played) < buffer.pos * buffer.n_envs  # rows that wait are padding
    assert played.mean() == pytest.approx(0.0, abs=1e-5)
    assert played.std() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("name", ["A2C", "NLPO", "PolicyGradient"])
@pytest.mark.parametrize("scale", [False, True])
def test_divergence_in_the_loss_costs_what_it_would_in_the_reward(model, name, scale):
    """Where rewards are divided, so is its price."""

    def paid_by_tens(prompts, completions, **_):
        return [10.0 * len(completion.split()) for completion in completions]

    settings = {"kl_in": "loss", "kl_coef": 0.7, "reward_scaling": scale, "learning_rate": 0.0}
    algorithm = make(name, model, grouped(model, scorer=paid_by_tens), **settings)
    with torch.no_grad():
        noise = torch.manual_seed(0)
        for parameter in algorithm.policy.model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=noise))
    rollouts(algorithm)
    with_penalty, _, batch = loss_of_all(algorithm)
    log_prob = log_prob_and_entropy(algorithm.policy.values_and_logits(batch)[1], batch.actions)[0]
    divergence = kl_loss(log_prob, algorithm.reference.log_probs(batch), "k2")
    kept, algorithm.reference = algorithm.reference, None
    without = loss_of_all(algorithm)[0]
    algorithm.reference = kept
    buffer, ended = algorithm.rollout_buffer, []
    for s in buffer.segments():
        if buffer.ends(s):
            ended.append(buffer.rewards[s.start : s.stop, s.env].sum())
    std = np.std(ended)
    divisor = algorithm.shaping.divisor
    assert std == pytest.approx(1.0, rel=1e-4) if scale else divisor == 1.0
    if scale:
        assert divisor > 3
    torch.testing.assert_close(
        with_penalty - without, 0.7 / divisor * divergence.mean(), atol=1e-5, rtol=1e-3
    )


def test_the_controller_hears_the_sum_over_an_answer_and_counts_answers(model):
    """Neither a mean per token nor the number of tokens: by hand from Ziegler's equation."""
    env = small_env(model, eos_token_id=())  # five tokens an answer
    algorithm = make("REINFORCE", model, env, kl_coef=0.5, kl_target=1.0, kl_horizon=100)
    with torch.no_grad():
        noise = torch.manual_seed(0)
        for parameter in algorithm.policy.model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=noise))
    buffer = rollouts(algorithm).rollout_buffer
    log_ratio = buffer.log_probs - algorithm.shaping.reference_log_probs
    of_answers = [log_ratio[s.start : s.stop, s.env].sum() for s in buffer.segments()]
    assert len(of_answers) == 16
    expected = AdaptiveKLController(0.5, 1.0, 100)
    expected.update(float(np.mean(of_answers)), 16)
    assert algorithm.shaping.controller.coef == pytest.approx(expected.coef, rel=1e-6)
    for kl, n in ((np.mean(of_answers) / 5, 16), (np.mean(of_answers), 80)):
        other = AdaptiveKLController(0.5, 1.0, 100)
        other.update(float(kl), n)
        assert abs(other.coef - expected.coef) > 1e-3  # this world tells them apart


def test_an_aggregation_without_a_constant_sums_over_an_answers_tokens():
    """RLOO's: the mean over answers of the sums of their tokens' losses."""
    per_token, rows = torch.tensor([6.0, 1.0, 2.0, 3.0]), torch.tensor([0, 1, 1, 1])
    assert aggregate(per_token, rows, "constant").item() == 6.0
