"""Policies that cut: what they choose from, written out from the logits of plain passes."""

from __future__ import annotations

import pytest
import torch
from gymnasium import spaces

from llm_gym.policy import TopPMaskedPolicy, variants
from llm_gym.policy.sampling import truncated_support

from .conftest import VOCABULARY, observe, text_space

ROWS = [[3, 4, 5, 6], [6, 7], [9]]


def masked_policy(tiny_dir, **options):
    """An NLPO policy that has gone on since its mask was made."""
    policy = TopPMaskedPolicy(
        text_space(), spaces.Discrete(VOCABULARY), lambda _: 1e-3,
        model=tiny_dir(), seed=0, **options,
    )  # fmt: skip
    noise = torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=noise))
    return policy


@torch.no_grad()
def logits_of(model) -> torch.Tensor:
    return torch.stack([model(torch.tensor([row])).logits[0, -1] for row in ROWS])


def nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """The obvious way: the most probable tokens until their probabilities reach `top_p`."""
    kept = torch.zeros_like(logits, dtype=torch.bool)
    for row, probabilities in enumerate(logits.softmax(-1).tolist()):
        total = 0.0
        for token in sorted(range(VOCABULARY), key=lambda t: -probabilities[t]):
            if total >= top_p:
                break
            kept[row, token], total = True, total + probabilities[token]
    return kept


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("truncation", [{}, {"top_k": 2}, {"top_p": 0.5}])
def test_a_masked_policy_chooses_from_the_masks_nucleus(tiny_dir, temperature, truncation):
    """Of the mask policy at the same temperature; top-k and top-p look at what it leaves."""
    policy = masked_policy(tiny_dir, mask_top_p=0.6, temperature=temperature, **truncation)
    kept = nucleus(logits_of(policy.mask_model) / temperature, 0.6)
    own = nucleus(logits_of(policy.model) / temperature, 0.6)
    assert not torch.equal(kept, own)
    logits = (logits_of(policy.model) / temperature).masked_fill(~kept, -torch.inf)
    if "top_k" in truncation:
        logits = logits.masked_fill(logits < logits.topk(2).values[:, -1:], -torch.inf)
    if "top_p" in truncation:
        logits = logits.masked_fill(~nucleus(logits, 0.5), -torch.inf)
    with torch.no_grad():
        found = policy.get_distribution(observe(ROWS)).distribution.probs
    torch.testing.assert_close(found, logits.softmax(-1), atol=1e-5, rtol=0)


def test_a_mask_lags_behind_until_it_is_refreshed(tiny_dir):
    policy = masked_policy(tiny_dir, mask_top_p=0.6)
    assert not any(parameter.requires_grad for parameter in policy.mask_model.parameters())
    learnt = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
    assert not learnt & {id(parameter) for parameter in policy.mask_model.parameters()}
    policy.refresh_mask()
    with torch.no_grad():
        found = policy.get_distribution(observe(ROWS)).distribution.probs > 0
    assert torch.equal(found, nucleus(logits_of(policy.model), 0.6))


@pytest.mark.parametrize(
    ("options", "truncates"),
    [
        ({"mask_top_p": 0.6}, True),
        ({"mask_top_p": 1.0}, False),
        ({"mask_top_p": 1.0, "top_k": 2}, True),
        ({"mask_top_p": 0.6, "top_p": 0.5}, True),
    ],
)
def test_a_mask_and_what_else_cuts_both_truncate(tiny_dir, options, truncates):
    assert masked_policy(tiny_dir, **options).truncates == truncates


def test_a_masked_policy_is_saved_with_its_mask(tiny_dir, tmp_path):
    policy = masked_policy(tiny_dir, mask_top_p=0.6)
    policy.save(tmp_path / "policy.pth")
    loaded = TopPMaskedPolicy.load(tmp_path / "policy.pth")
    assert loaded.mask_top_p == 0.6
    with torch.no_grad():
        expected, found = (
            p.get_distribution(observe(ROWS)).distribution.probs for p in (policy, loaded)
        )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("top_k", [1, 2, 5, VOCABULARY - 1, VOCABULARY, VOCABULARY + 3])
def test_top_k_keeps_k_tokens_and_those_tied_with_the_last(top_k):
    logits = torch.randn(4, VOCABULARY, generator=torch.manual_seed(0))
    support = truncated_support(logits, top_k, 1.0)
    assert (support.sum(-1) == min(top_k, VOCABULARY)).all()
    tied = logits.round()
    last = tied.sort(-1, descending=True).values[:, min(top_k, VOCABULARY) - 1]
    assert torch.equal(truncated_support(tied, top_k, 1.0), tied >= last[:, None])


@pytest.mark.parametrize("top_k", [0, 3])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9])
def test_a_nucleus_is_one_of_what_top_k_leaves(top_k, top_p):
    logits = torch.randn(4, VOCABULARY, generator=torch.manual_seed(0))
    left = logits
    if top_k:
        left = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -torch.inf)
    assert torch.equal(truncated_support(logits, top_k, top_p), nucleus(left, top_p))


def test_masks_of_an_outer_call_stay_for_the_inner_one_and_go_with_it(tiny_dir):
    pytest.importorskip("sb3_contrib")
    from llm_gym.policy import MaskableTransformerPolicy

    policy = MaskableTransformerPolicy(
        text_space(), spaces.Discrete(VOCABULARY), lambda _: 1e-3, model=tiny_dir(), top_k=2, seed=0
    )
    allowed = torch.zeros(3, VOCABULARY, dtype=torch.bool)
    allowed[:, [5, 8, 13, 21]] = True
    logits = logits_of(policy.model).masked_fill(~allowed, -torch.inf)
    best = logits.topk(2).indices  # of what the mask leaves, not of everything
    with torch.no_grad():
        masked = policy.get_distribution(observe(ROWS), action_masks=allowed.numpy())
        plain = policy.get_distribution(observe(ROWS))
        actions = policy.predict(
            {name: value.numpy() for name, value in observe(ROWS).items()},
            deterministic=True,
            action_masks=allowed.numpy(),
        )[0]
    for probabilities, tokens in ((masked, best), (plain, logits_of(policy.model).topk(2).indices)):
        found = probabilities.distribution.probs > 0
        assert torch.equal(found, torch.zeros_like(found).scatter(1, tokens, True))
    assert actions.tolist() == best[:, 0].tolist()


def test_a_single_observation_takes_the_mask_of_one_row(tiny_dir):
    pytest.importorskip("sb3_contrib")
    from llm_gym.policy import MaskableTransformerPolicy

    policy = MaskableTransformerPolicy(
        text_space(), spaces.Discrete(VOCABULARY), lambda _: 1e-3, model=tiny_dir(), seed=0
    )
    allowed = torch.zeros(VOCABULARY, dtype=torch.bool)
    allowed[13] = True
    single = {name: value[0].numpy() for name, value in observe(ROWS[:1]).items()}
    assert policy.predict(single, action_masks=allowed.numpy())[0] == 13


def test_without_sb3_contrib_it_is_said_what_to_install(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(variants, "import_module", missing)
    with pytest.raises(ImportError, match="pip install 'llm-gym"):
        variants.register_with_contrib("policies", "MaskableActorCriticPolicy", object)
