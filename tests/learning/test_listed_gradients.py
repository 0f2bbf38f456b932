"""Expected gradients of every estimator, summed over all pairs of answers of a listable model."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from llm_gym.learning.advantages import ESTIMATORS, Rollout
from llm_gym.learning.losses import aggregate, clipped_surrogate_loss, policy_gradient_loss
from tests import listed_answers as lm

T = 2  # the longest answer


def rewards(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=len(lm.ANSWERS))


def expected_gradient(table, scores, advantage, aggregation, *, group_size=2, clipped=False):
    """Of the loss of one group of answers to one prompt, with the reward at the last token."""
    weights = lm.probabilities(table).detach()
    greedy = int(weights.argmax()) if advantage == "remax" else 0
    total = torch.zeros_like(table)
    for group in product(range(len(lm.ANSWERS)), repeat=group_size):
        log_prob = torch.cat([lm.token_log_probs(table, i) for i in group])
        lengths = np.array([len(lm.ANSWERS[i]) for i in group])
        of_group = scores[list(group)]
        rollout = Rollout(
            to_go=of_group.repeat(lengths),
            scores=of_group,
            lengths=lengths,
            groups=np.zeros(group_size, dtype=np.int64),
            greedy=scores[[greedy]],
            average=0.7,
            all_to_go=of_group.repeat(lengths),
            all_scores=of_group,
        )
        advantages = torch.from_numpy(ESTIMATORS[advantage](rollout))
        per_token = (
            clipped_surrogate_loss(log_prob, log_prob.detach(), advantages, 0.2, 0.2)
            if clipped
            else policy_gradient_loss(log_prob, advantages)
        )
        rows = torch.from_numpy(np.arange(group_size).repeat(lengths))
        loss = aggregate(per_token, rows, aggregation, constant=T)
        total += weights[list(group)].prod() * lm.gradient(loss, table)
    return total


def exact_gradient(table, scores):
    """Of minus the expected reward."""
    return -lm.gradient((lm.probabilities(table) * torch.from_numpy(scores)).sum(), table)


def cosine(first, second):
    return float((first * second).sum() / (first.norm() * second.norm()))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize(
    ("advantage", "share"),
    [
        ("reinforce", 1.0),
        ("moving_average", 1.0),
        ("remax", 1.0),
        ("rloo", 1.0),
        ("batch_mean", 1 - 1 / 2),  # the mean includes the answer itself
        ("dr_grpo", 1 - 1 / 2),
    ],
)
def test_unbiased_estimators_give_the_exact_gradient(advantage, share, clipped, seed):
    """Up to the known factor: the aggregation's constant, and an answer's share in the mean."""
    table, scores = lm.logits(seed), rewards(seed)
    result = expected_gradient(table, scores, advantage, "constant", clipped=clipped)
    torch.testing.assert_close(result * T, share * exact_gradient(table, scores))


def test_a_group_of_three_has_the_share_two_thirds():
    table, scores = lm.logits(2), rewards(2)
    result = expected_gradient(table, scores, "dr_grpo", "constant", group_size=3)
    torch.testing.assert_close(result * T, 2 / 3 * exact_gradient(table, scores))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("advantage", "aggregation"),
    [
        ("grpo", "sequence_mean"),
        ("grpo", "constant"),  # the standard deviation alone
        ("dr_grpo", "sequence_mean"),  # the length alone
        ("rloo", "token_mean"),
        ("reinforce_plus_plus", "token_mean"),
    ],
)
def test_biased_estimators_point_elsewhere(advantage, aggregation, seed):
    table, scores = lm.logits(seed), rewards(seed)
    result = expected_gradient(table, scores, advantage, aggregation)
    assert 0 < cosine(result, exact_gradient(table, scores)) < 1 - 1e-4


def test_grpo_lengthens_wrong_answers_and_dr_grpo_does_not():
    """Two wrong ways, one short and one long, equally probable; token 2 leads to the right answers.

    The exact gradient lowers both wrong ways alike. Dividing by an answer's length blames the long
    one less (arXiv 2503.20783, section 3.1).
    """
    table = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    scores = np.array([float(answer[0] == 2) for answer in lm.ANSWERS])
    exact = exact_gradient(table, scores)[0]
    torch.testing.assert_close(exact[0], exact[1])
    result = -expected_gradient(table, scores, "grpo", "sequence_mean")[0]
    assert result[0] < result[1] < result[2]  # ascent: short wrong < long wrong < right
    dr_grpo = -expected_gradient(table, scores, "dr_grpo", "constant")[0]
    torch.testing.assert_close(dr_grpo[0], dr_grpo[1])


def test_grpos_deviation_hears_an_easy_prompt_as_loudly_as_a_hard_one():
    """Rewards of a tenth of the size have a tenth of the exact gradient, and the same GRPO one."""
    table, scores = lm.logits(0), rewards(0)
    full = expected_gradient(table, scores, "grpo", "constant")
    tenth = expected_gradient(table, scores / 10, "grpo", "constant")
    torch.testing.assert_close(full, tenth, rtol=0.02, atol=1e-3)
    full = expected_gradient(table, scores, "dr_grpo", "constant")
    tenth = expected_gradient(table, scores / 10, "dr_grpo", "constant")
    torch.testing.assert_close(full, 10 * tenth)
