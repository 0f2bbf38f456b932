from __future__ import annotations

import pytest
import torch

from llm_gym.language_models.divergence import DivergenceError
from llm_gym.policy.sampling import (
    inverse_cdf_sample,
    log_prob_and_entropy,
    most_probable,
    pack_support,
    truncated_support,
    unpack_support,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("total", [1.0, 0.5, 2.0])
def test_inverse_cdf_sampling_has_the_right_frequencies(total):
    """Whatever the probabilities sum to: those of 16 bits are off by some."""
    probs = torch.tensor([0.1, 0.0, 0.2, 0.7, 0.0])
    n = 20_000
    drawn = inverse_cdf_sample(total * probs.expand(n, 5), generator())
    counts = torch.bincount(drawn, minlength=5)
    assert counts[1] == counts[4] == 0
    kept = probs > 0
    chi_square = ((counts - n * probs) ** 2)[kept] / (n * probs[kept])
    assert chi_square.sum() < 13.8  # 99.9 % of chi-square with 2 degrees of freedom


def test_inverse_cdf_never_leaves_the_vocabulary_nor_draws_a_zero(monkeypatch):
    """Uniform numbers at both ends of their range, and rows that do not sum to one.

    The last row's sum is so small that its product with the largest of them is rounded to itself.
    """
    probs = torch.tensor(
        [[0.0, 0.3, 0.0, 0.6999, 0.0], [0.0, 0.0, 1.3, 0.0, 0.0], [0.0, 1e-44, 0.0, 2e-44, 0.0]]
    )
    below_one = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    for u in (0.0, float(below_one)):
        monkeypatch.setattr(torch, "rand", lambda shape, u=u, **_: torch.full(shape, u))
        tokens = inverse_cdf_sample(probs, None)
        assert tokens.max() < 5, u
        assert (probs.gather(1, tokens[:, None]) > 0).all(), u


@pytest.mark.parametrize("logit", [float("nan"), float("inf")])
@pytest.mark.parametrize("choose", [lambda probs: inverse_cdf_sample(probs, None), most_probable])
def test_logits_that_are_no_numbers_are_called_so(choose, logit):
    """Instead of a token beyond the vocabulary, whichever row and column they are in."""
    logits = torch.randn(3, 7, generator=generator())
    for row, column in ((0, 0), (2, 6), (1, 3)):
        broken = logits.clone()
        broken[row, column] = logit
        with pytest.raises(DivergenceError, match="logits are NaN or infinite"):
            choose(broken.softmax(-1))
    choose(logits.index_fill(1, torch.tensor([0, 6]), -torch.inf).softmax(-1))  # cut, as by top-k


def test_inverse_cdf_over_a_large_vocabulary():
    logits = torch.randn(64, 50_257, generator=generator())
    tokens = inverse_cdf_sample(logits.softmax(-1), generator(1))
    assert tokens.shape == (64,)
    assert tokens.max() < 50_257


def test_top_k_and_top_p_keep_what_they_say():
    probs = torch.tensor([[0.5, 0.25, 0.15, 0.1]])
    support = truncated_support(probs.log(), 2, 1.0)
    assert support.tolist() == [[True, True, False, False]]
    for top_p, kept in [(0.5, 1), (0.6, 2), (0.75, 2), (0.8, 3), (0.95, 4)]:
        assert truncated_support(probs.log(), 0, top_p).sum() == kept, top_p
    assert truncated_support(probs.log(), 3, 0.5).sum() == 1
    assert truncated_support(probs.log(), 0, 1.0) is None
    assert truncated_support(probs.log(), 0, 1.5) is None


@pytest.mark.parametrize("n_tokens", [1, 7, 8, 9, 50])
def test_support_packs_and_unpacks(n_tokens):
    support = torch.rand(5, n_tokens, generator=generator()) < 0.5
    packed = pack_support(support)
    assert packed.shape == (5, -(-n_tokens // 8))
    assert torch.equal(unpack_support(packed, n_tokens), support)


@pytest.mark.parametrize("cut", [False, True])
def test_log_prob_and_entropy_equal_the_obvious_path_gradients_too(cut):
    logits = torch.randn(6, 11, dtype=torch.float64, generator=generator())
    actions = torch.tensor([0, 3, 10, 5, 5, 1])
    if cut:
        support = truncated_support(logits, 4, 1.0)
        support[torch.arange(6), actions] = True
        logits = logits.masked_fill(~support, -torch.inf)
    weights = torch.randn(2, 6, dtype=torch.float64, generator=generator(1))

    def obvious(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs = z.log_softmax(-1)
        kept = log_probs.masked_fill(log_probs == -torch.inf, 0.0)
        entropy = -(log_probs.exp() * kept).sum(-1)
        return log_probs.gather(-1, actions[:, None]).squeeze(-1), entropy

    results = []
    for function in (obvious, lambda z: log_prob_and_entropy(z, actions)):
        leaf = logits.clone().requires_grad_()
        log_prob, entropy = function(leaf)
        (weights[0] * log_prob + weights[1] * entropy).sum().backward()
        finite = leaf.grad.masked_fill(logits == -torch.inf, 0.0)
        results.append((log_prob, entropy, finite))
        assert leaf.grad.isfinite().all()
    for result, expected in zip(*results, strict=True):
        torch.testing.assert_close(result, expected, atol=1e-12, rtol=0)


def test_zero_entropy_coefficient_still_gives_the_log_prob_gradient():
    logits = torch.randn(3, 5, dtype=torch.float64, generator=generator())
    actions = torch.tensor([0, 1, 2])
    leaf, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    log_prob, entropy = log_prob_and_entropy(leaf, actions)
    (log_prob.sum() + 0.0 * entropy.sum()).backward()
    plain.log_softmax(-1).gather(-1, actions[:, None]).sum().backward()
    torch.testing.assert_close(leaf.grad, plain.grad)
