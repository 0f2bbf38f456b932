"""What a policy makes of its logits and hidden states: draws, values, and what they hang on."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from llm_gym.policy import EpisodeBatch, transformer_policy
from llm_gym.policy.prefix_cache import PrefixCache, WritePlan

from .conftest import observe


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_values_have_their_factor(make_policy, scale):
    policy, plain = (make_policy(value_scale=factor) for factor in (scale, 1.0))
    obs = observe([[3, 4, 5], [6, 7]])
    assert plain.predict_values(obs).any()
    torch.testing.assert_close(policy.predict_values(obs), scale * plain.predict_values(obs))


def test_values_in_other_units_are_as_many_times_as_large(make_policy):
    policy, obs = make_policy(), observe([[3, 4, 5], [6, 7]])
    before = policy.predict_values(obs)
    policy.rescale_values(0.25)
    torch.testing.assert_close(policy.predict_values(obs), 0.25 * before)


@pytest.mark.parametrize(
    ("options", "truncates"),
    [({}, False), ({"top_k": 1}, True), ({"top_k": 2}, True), ({"top_p": 0.9}, True)],
)
def test_whatever_cuts_has_its_support_stored(make_policy, options, truncates):
    policy, obs = make_policy(**options), observe([[3, 4, 5], [6, 7]])
    actions, _, log_prob = policy(obs)
    assert policy.truncates == hasattr(log_prob, "support") == truncates
    if truncates:
        with pytest.raises(ValueError, match="cannot be evaluated on single"):
            policy.evaluate_actions(obs, actions)


@pytest.mark.parametrize(
    ("gradients", "right", "used"),
    [(False, True, True), (False, False, False), (True, True, True), (True, False, True)],
)
def test_a_cache_is_given_up_where_it_would_be_used_and_is_wrong(
    make_policy, gradients, right, used, monkeypatch
):
    policy = make_policy()
    monkeypatch.setattr(policy._cache_check, "before", lambda lengths: right)
    with torch.set_grad_enabled(gradients):
        policy.predict_values(observe([[3, 4, 5], [6, 7]]))
    assert policy.actor_trunk.use_cache == used


def test_whole_episodes_alone_are_computed_in_low_precision(make_policy):
    """In a rollout each token would cost a conversion of all weights."""
    policy, low = make_policy(mixed_precision="bf16"), []
    policy.head.linear.register_forward_hook(
        lambda *_: low.append(torch.is_autocast_enabled("cpu"))
    )
    batch = EpisodeBatch(torch.tensor([[5, 6, 7]]), torch.tensor([0]), torch.tensor([2]))
    policy.values_and_logits(batch)
    policy.get_distribution(observe([[5, 6]]))
    assert low == [True, False]


def test_the_most_probable_token_is_taken_where_that_was_asked_for(make_policy, monkeypatch):
    policy, obs = make_policy(), observe([[3, 4, 5], [6, 7]])
    best = policy.get_distribution(obs).distribution.logits.argmax(-1)
    monkeypatch.setattr(policy, "_sample", lambda probs: probs.argmin(-1))
    assert policy(obs, deterministic=True)[0].tolist() == best.tolist()
    assert policy(obs)[0].tolist() != best.tolist()


def test_a_batch_says_what_is_read_and_what_was_chosen():
    batch = EpisodeBatch(torch.tensor([[5, 6, 7]]), torch.tensor([0]), torch.tensor([1]))
    assert batch.actions.tolist() == [6]
    assert batch.context.tolist() == [[5, 6]]
    assert batch.lengths_read.tolist() == [1]


def test_the_cache_keeps_all_that_was_read_whatever_the_window():
    assert PrefixCache(2, n_rows=1, capacity=8).is_sliding == [False, False]


def test_what_others_read_by_stays_as_it_is():
    batch = EpisodeBatch(torch.tensor([[5, 6]]), torch.tensor([0]), torch.tensor([1]))
    with pytest.raises(FrozenInstanceError):
        batch.action_rows = torch.tensor([1])
    plan = WritePlan(None, 0, None, 3)
    with pytest.raises(FrozenInstanceError):
        plan.length = 4


@pytest.mark.parametrize(("drawn_on", "probs_on"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_the_generator_follows_the_probabilities_to_their_device(
    make_policy, drawn_on, probs_on, monkeypatch
):
    """There is one device here: both are made to say that they are elsewhere."""
    policy = make_policy()
    policy.generator = SimpleNamespace(
        device=SimpleNamespace(type=drawn_on), initial_seed=lambda: 17
    )
    made = torch.Generator()
    monkeypatch.setattr(torch, "Generator", lambda device: made)
    monkeypatch.setattr(transformer_policy, "inverse_cdf_sample", lambda probs, given: given)
    probs = SimpleNamespace(device=SimpleNamespace(type=probs_on))
    assert policy._sample(probs) is policy.generator is made
    assert made.initial_seed() == 17


def test_all_processes_take_the_precision_of_the_first(make_policy, monkeypatch):
    """Where it was left open, however the setting was written; an order is one for all."""
    asked = []
    monkeypatch.setattr(
        transformer_policy,
        "world",
        lambda: SimpleNamespace(of_first=lambda name: asked.append(name) or "bf16"),
    )
    assert make_policy(mixed_precision="".join(["au", "to"])).mixed_precision == "bf16"
    assert len(asked) == 1
    assert make_policy(mixed_precision="no").mixed_precision == "no"
    assert len(asked) == 1


@pytest.mark.parametrize("content", [b"not safetensors", None], ids=["no file of tensors", "wide"])
def test_a_value_head_that_does_not_fit_is_named(make_policy, content, tmp_path):
    policy = make_policy()
    policy.save_pretrained(tmp_path)
    path = tmp_path / "value_head.safetensors"
    if content is None:
        save_file({"weight": torch.ones(1, 33), "bias": torch.ones(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"value_head\.safetensors is not a value head"):
        policy._load_value_head(tmp_path)


@pytest.mark.parametrize("support", [None, torch.zeros(1, 4, dtype=torch.uint8)])
def test_all_of_a_batch_goes_to_another_device(support):
    batch = EpisodeBatch(torch.tensor([[5, 6]]), torch.tensor([0]), torch.tensor([1]), support)
    moved = batch.to("meta")
    for name, tensor in vars(batch).items():
        there = getattr(moved, name)
        assert (there is None) if tensor is None else there.device.type == "meta"
