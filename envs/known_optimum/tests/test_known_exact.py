"""The recursion over the prefix tree against sums over listed answers, and against hand-work."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from llm_gym_known_optimum import (
    FAMILIES,
    AnswerTree,
    KnownOptimum,
    TabularConfig,
    TabularLM,
    kl_by_prefix,
    sequence_kl,
)

from llm_gym.statistics.best_of_n import kl_bound

WORLDS = [
    (family, reference, prompts)
    for family in FAMILIES
    for reference, prompts in (("tabular", 3), ("transformer", 2))
]


@pytest.fixture(params=WORLDS, ids=lambda world: "-".join(map(str, world)))
def problem(request):
    family, reference, num_prompts = request.param
    return KnownOptimum.make(
        family,
        vocab_size=3,
        length=3,
        reference=reference,
        num_prompts=num_prompts,
        beta=0.2,
        problem_seed=5,
    )


def another_policy(problem, seed=0):
    """Log-probabilities of random actions, layer by layer."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(layer.shape, generator=generator, dtype=torch.float64).log_softmax(-1)
        for layer in problem.reference
    )


def listed_answers(tree):
    """Every answer as its words, in no relation to the tree's own numbering."""
    lengths = range(tree.length + 1) if tree.ends_early else [tree.length]
    return [words for n in lengths for words in itertools.product(range(tree.n_words), repeat=n)]


def walk(tree, layers, prompt, words):
    """Log-probability of an answer, one step after the other."""
    total, node = 0.0, 0
    for depth, word in enumerate(words):
        total += float(layers[depth][prompt, node, word])
        node = node * tree.n_words + word
    if len(words) < tree.length:
        total += float(layers[len(words)][prompt, node, tree.n_words])
    return total


# ---------------------------------------------------------------------- a world done by hand


@pytest.fixture
def by_hand():
    """Two words, two places. P(0) = 0.8 at first; then 0.5 after 0, 0.25 after 1. beta = 1."""
    tree = AnswerTree(2, 2)
    model = TabularLM(TabularConfig(vocab_size=2, n_words=2, answer_length=2))
    rows = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.25, 0.75]])
    with torch.no_grad():
        model.lm_head.weight.copy_(rows.log().T)
    rewards = [math.log(1), math.log(2), math.log(3), math.log(4)]  # exp(r) = 1, 2, 3, 4
    return KnownOptimum(tree, rewards, model.eval(), beta=1.0)


def test_the_optimum_by_hand(by_hand):
    # answers 00 01 10 11: 0.4, 0.4, 0.05, 0.15; times exp(r): 0.4, 0.8, 0.15, 0.6; Z = 1.95
    assert by_hand.reference_answers[0] == pytest.approx([0.4, 0.4, 0.05, 0.15])
    assert by_hand.log_z == pytest.approx([math.log(1.95)])
    assert by_hand.optimal_objective == pytest.approx(math.log(1.95))
    assert by_hand.optimal_answers[0] == pytest.approx(
        [0.4 / 1.95, 0.8 / 1.95, 0.15 / 1.95, 0.6 / 1.95]
    )
    # V*(0) = log(0.5 * 1 + 0.5 * 2), V*(1) = log(0.25 * 3 + 0.75 * 4)
    assert by_hand.optimum.values[1][0].numpy() == pytest.approx([math.log(1.5), math.log(3.75)])
    assert by_hand.optimum.log_probs[0][0, 0].exp().numpy() == pytest.approx(
        [0.8 * 1.5 / 1.95, 0.2 * 3.75 / 1.95]
    )


def test_the_reference_by_hand(by_hand):
    expected = 0.4 * math.log(2) + 0.05 * math.log(3) + 0.15 * math.log(4)
    evaluation = by_hand.evaluate(by_hand.reference_model)
    assert evaluation.objective == pytest.approx(expected)
    assert evaluation.reward == pytest.approx(expected)
    assert evaluation.kl_to_reference == pytest.approx(0, abs=1e-12)
    assert evaluation.gain == pytest.approx(0, abs=1e-12)
    assert evaluation.j_over_jstar == pytest.approx(expected / math.log(1.95))


def test_best_of_two_by_hand(by_hand):
    # the best of two is at most 00 with 0.4^2, at most 01 with 0.8^2, at most 10 with 0.85^2
    assert by_hand.best_of_n(2)[0].probabilities == pytest.approx(
        [0.16, 0.64 - 0.16, 0.7225 - 0.64, 1 - 0.7225]
    )


# ---------------------------------------------------------------------- identities


def test_sums_over_listed_answers_agree(problem):
    tree, answers = problem.tree, listed_answers(problem.tree)
    policy = another_policy(problem)
    for prompt in range(problem.n_prompts):
        ours = np.array([walk(tree, policy, prompt, words) for words in answers])
        theirs = np.array([walk(tree, problem.reference, prompt, words) for words in answers])
        rewards = np.array([problem.rewards[prompt, tree.index(words)] for words in answers])
        assert np.exp(ours).sum() == pytest.approx(1)
        assert np.exp(theirs).sum() == pytest.approx(1)
        z = (np.exp(theirs) * np.exp(rewards / problem.beta)).sum()
        assert problem.log_z[prompt] == pytest.approx(math.log(z), abs=1e-9)
        optimal = [problem.optimal_answers[prompt, tree.index(words)] for words in answers]
        assert optimal == pytest.approx(np.exp(theirs + rewards / problem.beta) / z, abs=1e-9)
        assert float(problem.expected_reward(policy)[prompt]) == pytest.approx(
            np.exp(ours) @ rewards
        )
        kl = sequence_kl(tree, policy, problem.reference)[prompt]
        assert float(kl) == pytest.approx(np.exp(ours) @ (ours - theirs))


def test_the_optimum_attains_its_value(problem):
    best = problem.evaluate(problem.optimum.log_probs)
    assert best.objective == pytest.approx(problem.optimal_objective, abs=1e-9)
    assert best.kl_to_optimum == pytest.approx(0, abs=1e-9)
    assert best.j_over_jstar == pytest.approx(1, abs=1e-9)
    assert best.gain == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_missing_is_the_divergence_from_the_optimum(problem, seed):
    evaluation = problem.evaluate(another_policy(problem, seed))
    missing = problem.optimal_objective - evaluation.objective
    assert missing == pytest.approx(problem.beta * evaluation.kl_to_optimum, abs=1e-9)
    assert evaluation.kl_to_optimum > 0.01


def test_the_soft_bellman_equation_holds(problem):
    """V*(s) = Q*(s, a) - beta log(pi*(a|s) / pi_ref(a|s)) for every action, not only on average."""
    values, policy = problem.optimum.values, problem.optimum.log_probs
    for depth, ahead in enumerate(problem.optimum.action_values):
        assert policy[depth].exp().sum(-1).numpy() == pytest.approx(1)
        advantage = ahead - problem.beta * (policy[depth] - problem.reference[depth])
        spread = (advantage - values[depth][..., None]).abs().max()
        assert float(spread) < 1e-9
    # and those are the values of the optimal policy itself
    same, _ = problem.values(policy)
    for value, expected in zip(same, values, strict=True):
        assert value.numpy() == pytest.approx(expected.numpy(), abs=1e-9)


def test_values_of_a_policy_begin_with_its_objective(problem):
    policy = another_policy(problem)
    values, _ = problem.values(policy)
    assert float(values[0].mean()) == pytest.approx(float(problem.objective(policy)), abs=1e-9)


def test_best_of_n_keeps_its_bounds(problem):
    for n in (1, 2, 4, 16):
        for best in problem.best_of_n(n):
            assert best.kl <= float(kl_bound(n)) + 1e-9
            assert best.win_rate <= n / (n + 1) + 1e-9
            assert best.probabilities.sum() == pytest.approx(1)


def test_best_of_n_wins_n_over_n_plus_one_where_no_scores_are_tied():
    problem = KnownOptimum.make("additive", vocab_size=3, length=3)
    assert len(np.unique(problem.rewards)) == problem.rewards.size
    for n in (2, 5):
        best = problem.best_of_n(n)[0]
        beaten = sum(
            best.probabilities[i]
            * problem.reference_answers[0, j]
            * ((problem.rewards[0, i] > problem.rewards[0, j]) + 0.5 * (i == j))
            for i in range(27)
            for j in range(27)
        )
        assert best.win_rate == pytest.approx(beaten)
        assert best.win_rate <= n / (n + 1)


# ---------------------------------------------------------------------- gradients


def logits_like(problem, layers):
    return [layer.clone().requires_grad_() for layer in layers]


def gradient_by_autograd(problem, layers):
    logits = logits_like(problem, layers)
    problem.objective(tuple(layer.log_softmax(-1) for layer in logits)).backward()
    return [layer.grad for layer in logits]


def test_the_gradient_is_that_of_the_policy_gradient_theorem(problem):
    """dJ/dz(s, a) = d(s) pi(a|s) (Q(s, a) - beta log(pi/pi_ref)(a|s) - V(s)), d(s) the visits."""
    policy = another_policy(problem)
    gradient = gradient_by_autograd(problem, policy)
    values, action_values = problem.values(policy)
    visits = problem.tree.prefix_log_probs(policy)
    for depth, layer in enumerate(policy):
        penalised = action_values[depth] - problem.beta * (layer - problem.reference[depth])
        advantage = penalised - values[depth][..., None]
        expected = visits[depth].exp()[..., None] * layer.exp() * advantage / problem.n_prompts
        assert gradient[depth].numpy() == pytest.approx(expected.numpy(), abs=1e-10)


def test_the_gradient_is_that_of_the_score_function_over_listed_answers():
    """sum_y pi(y) grad log pi(y) (r(y) - beta log pi(y)/pi_ref(y)), answer by answer."""
    problem = KnownOptimum.make("length", vocab_size=2, length=2, num_prompts=1)
    policy = another_policy(problem)
    expected = [torch.zeros_like(layer) for layer in policy]
    for words in listed_answers(problem.tree):
        logits = logits_like(problem, policy)
        log_prob, node = torch.zeros((), dtype=torch.float64), 0
        actions = [*words, *[problem.tree.n_words] * (len(words) < problem.tree.length)]
        for depth, action in enumerate(actions):
            log_prob = log_prob + logits[depth][0, node].log_softmax(-1)[action]
            node = node * problem.tree.n_words + action
        log_prob.backward()
        log_ratio = log_prob.item() - walk(problem.tree, problem.reference, 0, words)
        worth = problem.rewards[0, problem.tree.index(words)] - problem.beta * log_ratio
        for total, layer in zip(expected, logits, strict=True):
            if layer.grad is not None:
                total += math.exp(log_prob.item()) * worth * layer.grad
    for gradient, listed in zip(gradient_by_autograd(problem, policy), expected, strict=True):
        assert gradient.numpy() == pytest.approx(listed.numpy(), abs=1e-10)


def test_the_gradient_vanishes_at_the_optimum_and_only_there(problem):
    at_optimum = gradient_by_autograd(problem, problem.optimum.log_probs)
    assert max(float(layer.abs().max()) for layer in at_optimum) < 1e-9
    elsewhere = gradient_by_autograd(problem, problem.reference)
    assert max(float(layer.abs().max()) for layer in elsewhere) > 1e-5


def test_the_gradient_in_a_models_parameters_is_a_difference_quotient():
    problem = KnownOptimum.make("interaction", vocab_size=3, length=2, reference="transformer")
    model = problem.reference_model.double()
    parameters = list(model.parameters())
    with torch.no_grad():
        for parameter in parameters:
            parameter += 0.05 * torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
            )
    gradient = problem.gradient(model, parameters)
    direction = torch.randn(
        gradient.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )

    def moved(step):
        with torch.no_grad():
            pieces = (step * direction).split([p.numel() for p in parameters])
            for parameter, piece in zip(parameters, pieces, strict=True):
                parameter += piece.view_as(parameter)
            return float(problem.objective(problem.policy(model)))

    ahead, behind = moved(1e-5), moved(-2e-5)
    assert float(gradient @ direction) == pytest.approx((ahead - behind) / 2e-5, rel=1e-4)


def test_divergence_by_prefix_is_that_of_single_actions(problem):
    policy = another_policy(problem)
    for ours, theirs, kls in zip(
        policy, problem.reference, kl_by_prefix(policy, problem.reference), strict=True
    ):
        p, q = (torch.distributions.Categorical(logits=log_probs) for log_probs in (ours, theirs))
        expected = torch.distributions.kl_divergence(p, q)
        assert kls.numpy() == pytest.approx(expected.numpy(), abs=1e-9)


def test_a_policy_that_never_does_something_is_no_problem():
    problem = KnownOptimum.make("additive", vocab_size=3, length=2)
    layers = []
    for layer in problem.reference:
        cut = layer.clone()
        cut[..., 0] = -math.inf
        layers.append(cut.log_softmax(-1))
    evaluation = problem.evaluate(tuple(layers))
    missing = problem.optimal_objective - evaluation.objective
    assert missing == pytest.approx(problem.beta * evaluation.kl_to_optimum, abs=1e-9)
