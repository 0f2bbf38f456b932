"""One ratio and one clip an answer: by hand, against sums over all answers, in the algorithm."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import llm_gym
from llm_gym.learning.advantages import Rollout
from llm_gym.learning.losses import (
    AGGREGATIONS,
    aggregate,
    answer_sums,
    clipped_answer_loss,
    clipped_surrogate_loss,
    policy_gradient_loss,
    ratio_figures,
)
from tests import listed_answers as lm
from tests.learning.online_worlds import MODEL, make, rollouts, small_env

ROWS = torch.tensor([0, 1, 1, 1])


@pytest.fixture
def model(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


@pytest.mark.parametrize("ratio", ["token", "answer"])
def test_an_answer_is_one_action_where_its_ratio_is_one(ratio, model, monkeypatch):
    seen, of = [], Rollout.of

    def recorded(*args, one_action, **kwargs):
        seen.append(one_action)
        return of(*args, one_action=one_action, **kwargs)

    monkeypatch.setattr(Rollout, "of", recorded)
    rollouts(make("RLOO", model, grouped(model), loss="clipped", ratio=ratio))
    assert seen == [ratio == "answer"]


def grouped(model):
    """Four answers to each prompt, of one to five tokens."""
    return small_env(model, eos_token_id=(1, 7, 8), group_size=4)


# ------------------------------------------------------------------ the loss


@pytest.mark.parametrize(
    ("advantage", "of_answer", "moves"),
    [(2.0, -2.4, False), (-2.0, 2 * 1.331, True)],  # 1.1^3 = 1.331 is above 1.2
)
def test_tokens_within_the_clip_make_an_answer_beyond_it(advantage, of_answer, moves):
    """An answer of one token with ratio 0.9; one of three, each with ratio 1.1."""
    ratios = torch.tensor([0.9, 1.1, 1.1, 1.1], dtype=torch.float64)
    old = torch.tensor([-1.0, -2.0, -0.5, -3.0], dtype=torch.float64)
    log_prob = (old + ratios.log()).requires_grad_()
    advantages = torch.tensor([5.0, *[advantage] * 3], dtype=torch.float64)
    loss = clipped_answer_loss(log_prob, old, advantages, ROWS, 0.2, 0.2)
    share = of_answer / 3
    torch.testing.assert_close(loss, torch.tensor([-4.5, share, share, share]).double())
    loss.sum().backward()
    third = -advantage * 1.331 if moves else 0.0
    torch.testing.assert_close(log_prob.grad, torch.tensor([-4.5, *[third] * 3]).double())


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_at_ratio_one_it_is_the_plain_policy_gradient(aggregation):
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor([0, 0, 1, 2, 2, 2, 2])
    old = torch.randn(7, generator=generator, dtype=torch.float64)
    advantages = torch.randn(3, generator=generator, dtype=torch.float64)[rows]
    clipped, plain = old.clone().requires_grad_(), old.clone().requires_grad_()
    answers = clipped_answer_loss(clipped, old, advantages, rows, 0.2, 0.2)
    aggregate(answers, rows, aggregation, constant=5.0).backward()
    tokens = policy_gradient_loss(plain, advantages)
    aggregate(tokens, rows, aggregation, constant=5.0).backward()
    torch.testing.assert_close(clipped.grad, plain.grad)


@pytest.mark.parametrize("seed", [0, 1])
def test_without_a_clip_old_samples_give_the_exact_gradient_of_new_weights(seed):
    """The sum over all answers of the old policy is -grad E[R] of the new; token ratios' is not."""
    old, table = lm.logits(seed).detach(), lm.logits(seed + 10)
    scores = torch.from_numpy(np.random.default_rng(seed).normal(size=len(lm.ANSWERS)))
    weights = lm.probabilities(old)
    lengths = torch.tensor([len(answer) for answer in lm.ANSWERS])
    rows = torch.arange(len(lengths)).repeat_interleave(lengths)
    log_prob, old_log_prob = (
        torch.cat([lm.token_log_probs(t, i) for i in range(len(lengths))]) for t in (table, old)
    )
    exact = -lm.gradient((lm.probabilities(table) * scores).sum(), table)
    args = log_prob, old_log_prob, scores[rows]
    answers = answer_sums(clipped_answer_loss(*args, rows, 1.0, math.inf), rows)
    torch.testing.assert_close(lm.gradient((weights * answers).sum(), table), exact)
    tokens = answer_sums(clipped_surrogate_loss(*args, 1.0, math.inf), rows)
    error = lm.gradient((weights * tokens).sum(), table) - exact
    assert error.norm() > 0.05 * exact.norm()


def test_figures_by_hand():
    """Ratios 1, 1.5 and 0.5: two beyond 0.3, none below 1 - 0.6; k3 is rho - 1 - log rho."""
    ratios = torch.tensor([1.0, 1.5, 0.5])
    figures = ratio_figures(ratios.log(), 0.3, 0.3)
    assert figures["ratio_deviation"] == pytest.approx(0.5)
    assert figures["clip_fraction"] == pytest.approx(2 / 3)
    k3 = (0.5 - math.log(1.5)) + (-0.5 - math.log(0.5))
    assert figures["approx_kl"] == pytest.approx(k3 / 3, rel=1e-5)
    assert ratio_figures(ratios.log(), 0.6, 0.3)["clip_fraction"] == pytest.approx(1 / 3)


# ------------------------------------------------------------------ the algorithm


def gradient(algorithm):
    return torch.cat([p.grad.flatten() for p in algorithm.policy.model.parameters()])


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_one_epoch_of_one_minibatch_is_the_plain_policy_gradient(model, aggregation):
    """With a penalty in the reward, which is not nothing in the second rollout."""
    algorithms = [
        rollouts(
            make(
                "RLOO", model, grouped(model), kl_coef=0.3, max_grad_norm=1e9,
                aggregation=aggregation, **choices,
            ),
            2,
        )
        for choices in ({}, {"loss": "clipped", "ratio": "answer"})
    ]  # fmt: skip
    assert algorithms[0].rollout_statistics["kl_per_sequence"] != 0
    torch.testing.assert_close(
        gradient(algorithms[1]), gradient(algorithms[0]), rtol=1e-3, atol=1e-6
    )


@torch.no_grad()
def log_probs_one_by_one(model, segment, actions):
    """The obvious way: the model reads each prefix anew."""
    tokens, log_probs = segment.prefix.tolist(), []
    for action in actions:
        logits = model(torch.tensor([tokens])).logits[0, -1]
        log_probs.append(float(logits.log_softmax(-1)[action]))
        tokens.append(int(action))
    return np.array(log_probs)


def returns_by_hand(algorithm, kl_coef):
    """Scores less the summed penalty, from the tokens, the samplers' log-probs and a reference."""
    buffer, tokenizer = algorithm.rollout_buffer, algorithm.env.get_attr("tokenizer")[0]
    paid = tokenizer.convert_tokens_to_ids("w1")
    returns = []
    for s in buffer.segments():
        actions = buffer.actions[s.start : s.stop, s.env].astype(int).flatten()
        kept = log_probs_one_by_one(algorithm.reference.model, s, actions)
        behind = buffer.log_probs[s.start : s.stop, s.env] - kept
        returns.append((actions == paid).sum() - kl_coef * behind.sum())
    return np.array(returns)


@pytest.mark.parametrize("advantage", ["reinforce", "batch_mean", "rloo"])
def test_an_answers_advantage_is_one_number_with_the_penalty_of_all_its_tokens(model, advantage):
    algorithm = make(
        "PolicyGradient", model, grouped(model), advantage=advantage, loss="clipped",
        ratio="answer", kl_coef=0.5, learning_rate=3e-2,
    )  # fmt: skip
    buffer = rollouts(algorithm, 3).rollout_buffer
    returns = returns_by_hand(algorithm, 0.5)
    of_group = returns.reshape(4, 4)
    baselines = (of_group.sum(1, keepdims=True) - of_group) / 3
    baseline = {"reinforce": 0.0, "batch_mean": returns.mean(), "rloo": baselines.flatten()}
    expected = returns - baseline[advantage]
    segments = buffer.segments()
    assert max(s.stop - s.start for s in segments) > 1
    for segment, value in zip(segments, expected, strict=True):
        advantages = buffer.advantages[segment.start : segment.stop, segment.env]
        np.testing.assert_allclose(advantages, value, atol=1e-4)


def test_after_a_step_the_loss_is_of_whole_answers(model):
    algorithm = make(
        "RLOO", model, grouped(model), loss="clipped", ratio="answer", clip_range=(0.1, 0.3),
        aggregation_constant=1.0,
    )  # fmt: skip
    rollouts(algorithm)
    buffer, generator = algorithm.rollout_buffer, torch.manual_seed(0)
    with torch.no_grad():
        for parameter in algorithm.policy.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    members = buffer.segments()[3:11]
    expected, ratios = [], []
    for s in members:
        place = slice(s.start, s.stop), s.env
        new = log_probs_one_by_one(
            algorithm.policy.model, s, buffer.actions[place].astype(int).flatten()
        )
        ratios.append(math.exp(new.sum() - buffer.log_probs[place].sum()))
        advantage = float(buffer.advantages[s.start, s.env])
        expected.append(-min(ratios[-1] * advantage, min(max(ratios[-1], 0.9), 1.3) * advantage))
    loss, figures = algorithm._loss(algorithm.policy, buffer, members)
    beyond = [not 0.9 <= ratio <= 1.3 for ratio in ratios]
    assert 0 < sum(beyond) < len(beyond)
    assert figures["clip_fraction"] == pytest.approx(np.mean(beyond))
    assert figures["ratio_deviation"] == pytest.approx(np.abs(np.array(ratios) - 1).max(), rel=1e-3)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4, abs=1e-5)


def test_the_choice_is_saved(model, tmp_path):
    algorithm = make("GRPO", model, grouped(model), ratio="answer", n_epochs=2)
    rollouts(algorithm).save(tmp_path / "grpo.zip")
    loaded = llm_gym.GRPO.load(tmp_path / "grpo.zip", env=llm_gym.GymVecEnv(grouped(model)))
    assert loaded.objective.ratio == "answer"
    rollouts(loaded)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": "sequence"}, "ratio='sequence' must be one of 'token', 'answer'"),
        ({"loss": "policy_gradient"}, "ratio='answer' but loss='policy_gradient' has no ratio"),
        ({"advantage": "gae"}, "ratio='answer' but advantage='gae' differs between the tokens"),
        ({"advantage": "reinforce_plus_plus"}, "but advantage='reinforce_plus_plus' differs"),
    ],
)
def test_what_does_not_go_with_it_is_named(model, settings, message):
    with pytest.raises(ValueError, match=message):
        make(
            "PolicyGradient", model, grouped(model),
            **({"loss": "clipped", "ratio": "answer"} | settings),
        )  # fmt: skip
