"""The policy is its model: log-probabilities, draws, values, and what is loaded and saved."""

from __future__ import annotations

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from transformers import AutoConfig, AutoModelForCausalLM

from llm_gym.policy import EpisodeBatch, TransformerActorCriticPolicy
from llm_gym.policy.sampling import LanguageModelHead
from llm_gym.testing.tiny import ARCHITECTURES
from tests.products import sampled

from .conftest import DIFFERENT, LENGTH, VOCABULARY, naive_log_probs, observe, text_space

every_architecture = pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))


# ------------------------------------------------------------------ the steps of an episode


@every_architecture
def test_whole_episodes_equal_single_prefixes(make_policy, architecture):
    """One pass over an episode gives every step what its own prefix gives."""
    policy = make_policy(architecture)
    episodes, prompts = [[5, 6, 7, 8, 9, 10, 11], [3, 4, 5]], [3, 1]
    rows = torch.tensor([0, 0, 0, 0, 1, 1])
    slots = torch.tensor([3, 4, 5, 6, 1, 2])
    ids = torch.zeros(2, 7, dtype=torch.int64)
    for i, episode in enumerate(episodes):
        ids[i, : len(episode)] = torch.tensor(episode)
    batch = EpisodeBatch(ids, rows, slots)
    together = policy.evaluate_actions(batch, batch.actions)
    prefixes = [e[:i] for e, p in zip(episodes, prompts, strict=True) for i in range(p, len(e))]
    apart = policy.evaluate_actions(observe(prefixes), batch.actions)
    for whole, single in zip(together, apart, strict=True):
        torch.testing.assert_close(whole, single, atol=1e-5, rtol=0)


@every_architecture
def test_padding_changes_nothing(make_policy, architecture):
    """Neither the pad token, nor its amount, nor the neighbours in the batch."""
    rows = [[4, 9, 1, 7], [3], [8, 8, 2, 2, 2, 1]]
    actions = torch.tensor([5, 6, 1])
    reference = make_policy(architecture).evaluate_actions(observe(rows), actions)
    wide = make_policy(architecture, length=LENGTH + 10)
    for pad in (0, 1, 31):
        padded = wide.evaluate_actions(observe(rows, LENGTH + 10, pad), actions)
        for result, expected in zip(reference, padded, strict=True):
            torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    alone = [
        wide.evaluate_actions(observe([r], LENGTH + 10), a[None])[1]
        for r, a in zip(rows, actions, strict=True)
    ]
    torch.testing.assert_close(torch.cat(alone), reference[1], atol=1e-5, rtol=0)


def test_observations_may_be_as_long_as_the_context(make_policy):
    policy = make_policy(length=64)
    row = [3 + i % 7 for i in range(64)]
    with torch.no_grad():
        [action], _, [log_prob] = policy(observe([row], length=64))
    torch.testing.assert_close(log_prob, naive_log_probs(policy.model, row)[action])


def test_the_last_token_is_not_read(make_policy):
    """Nothing is chosen after it, and it may stand where the model has no position any more."""
    policy, read = make_policy(), []
    policy.model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: read.append(inputs[0].tolist())
    )
    batch = EpisodeBatch(torch.tensor([[5, 6, 7, 8]]), torch.tensor([0, 0]), torch.tensor([2, 3]))
    policy.evaluate_actions(batch, batch.actions)
    assert read[-1] == [[5, 6, 7]]  # the model was asked something before


def test_gradient_stays_off_prompt_positions(make_policy):
    """No token of a prompt is trained on: its logits get no gradient at all."""
    policy = make_policy(zero_value=True)
    logits_at: list[torch.Tensor] = []
    head = policy.head.linear

    def record(module, inputs, output):
        logits_at.append(inputs[0])

    handle = head.register_forward_hook(record)
    batch = EpisodeBatch(
        torch.tensor([[5, 6, 7, 8, 9]]), torch.tensor([0, 0]), torch.tensor([3, 4])
    )
    policy.evaluate_actions(batch, batch.actions)
    handle.remove()
    assert [tuple(h.shape) for h in logits_at] == [(2, 32)]


def test_dropout_is_off_in_rollouts_and_updates(make_policy):
    """A checkpoint with dropout 0.5 still gives the same log-probability twice."""
    config = {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5}
    policy = make_policy(config=config)
    with torch.no_grad():
        actions, _, rollout = policy(observe([[3, 4, 5]]))
    policy.set_training_mode(True)
    assert policy.training
    update = policy.evaluate_actions(observe([[3, 4, 5]]), actions)[1]
    torch.testing.assert_close(update, rollout, atol=1e-5, rtol=0)
    policy.train()
    policy.model.train()  # whatever anybody switches on
    update = policy.evaluate_actions(observe([[3, 4, 5]]), actions)[1]
    torch.testing.assert_close(update, rollout, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", sampled(sorted(ARCHITECTURES), *DIFFERENT))
def test_bfloat16_update_is_close_to_float32(make_policy, architecture):
    """Gradients too; on a CPU it goes through another implementation of attention."""
    batch = EpisodeBatch(
        torch.tensor([[5, 6, 7, 8, 9, 3, 4, 5]]), torch.tensor([0, 0]), torch.tensor([3, 7])
    )
    results = []
    for mixed_precision in ("no", "bf16"):
        policy = make_policy(architecture, mixed_precision=mixed_precision)
        implementation = policy.model.config._attn_implementation
        values, log_prob, _ = policy.evaluate_actions(batch, batch.actions)
        (log_prob.sum() + values.sum()).backward()
        gradient = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
        results.append((log_prob.detach(), gradient))
        assert policy.model.config._attn_implementation == implementation
    (exact, exact_gradient), (rounded, rounded_gradient) = results
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, atol=0.1, rtol=0)
    cosine = torch.cosine_similarity(exact_gradient, rounded_gradient, dim=0)
    assert cosine > 0.99


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("gemma2", {"final_logit_softcapping": 0.05, "head_dim": 8}),
        ("cohere", {"logit_scale": 3.0}),
        ("granite", {"logits_scaling": 4.0}),
    ],
)
def test_scales_and_soft_caps_need_no_pass_of_the_whole_model(model_type, config):
    """They are computed here; in a pass of the whole model the linear layer sees three axes."""
    sizes = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 64, "pad_token_id": 0}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(model_type, **sizes, **layers, **config)
    ).eval()
    head, seen = LanguageModelHead(model), []
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        expected = model(input_ids=ids).logits[0]
        hidden = model.model(input_ids=ids).last_hidden_state[0]
        model.get_output_embeddings().register_forward_hook(
            lambda module, inputs, output: seen.append(inputs[0].ndim)
        )
        torch.testing.assert_close(head(hidden), expected, atol=1e-6, rtol=1e-5)
        assert (expected - model.get_output_embeddings()(hidden)).abs().max() > 1e-3
    assert set(seen) == {2}


def test_float_ids_of_other_libraries_are_the_same_ids(make_policy):
    """skrl and older Stable-Baselines3 flatten or cast observations to float32."""
    policy = make_policy()
    obs = observe([[3, 4, 5], [6, 7]])
    floats = {name: tensor.float() for name, tensor in obs.items()}
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            expected, found = policy.values_and_logits(obs), policy.values_and_logits(floats)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("change", [lambda x: x / 3, lambda x: (x - x.mean()) / x.std()])
def test_ids_that_something_has_normalised_are_refused(make_policy, change):
    obs = observe([[3, 4, 5], [6, 7]])
    obs["input_ids"] = change(obs["input_ids"].float())
    with pytest.raises(ValueError, match="cannot be normalised"):
        make_policy()(obs)


# ------------------------------------------------------------------ draws


def test_one_draw_says_nothing_of_the_next(make_policy):
    policy, rows = make_policy(temperature=3.0), observe([[3, 4, 5]])
    with torch.no_grad():
        assert len({int(policy(rows)[0]) for _ in range(30)}) > 3


def test_sampling_is_seeded_and_leaves_global_generators_alone(make_policy):
    state = torch.get_rng_state()
    first, second = make_policy(seed=7), make_policy(seed=7)
    torch.set_rng_state(state)
    rows = [[3, 4, 5]] * 50
    with torch.no_grad():
        actions, expected = first(observe(rows))[0], second(observe(rows))[0]
    assert torch.equal(actions, expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_deterministic_is_argmax_and_predict_accepts_numpy(make_policy):
    policy = make_policy()
    rows = [[3, 4, 5], [6, 7]]
    obs = {k: v.numpy() for k, v in observe(rows).items()}
    actions, _ = policy.predict(obs, deterministic=True)
    expected = [int(naive_log_probs(policy.model, r).argmax()) for r in rows]
    assert actions.tolist() == expected
    single, _ = policy.predict({k: v[0] for k, v in obs.items()}, deterministic=True)
    assert int(single) == expected[0]


def test_the_most_probable_token_is_all_that_top_k_of_one_leaves(make_policy):
    policy = make_policy(top_k=1)
    rows = [[3, 4, 5], [6, 7], [9]] * 20
    with torch.no_grad():
        actions, _, log_probs = policy(observe(rows))
        greedy, _, _ = policy(observe(rows), deterministic=True)
    assert torch.equal(actions, greedy)
    assert torch.equal(log_probs, torch.zeros(60))


@pytest.mark.parametrize(
    "options", [{"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.8}, {"top_k": 9, "top_p": 0.9}]
)
def test_reported_log_probs_are_those_of_the_samples(make_policy, options):
    """Temperature and truncation are part of the policy: frequencies agree."""
    policy = make_policy(**options)
    rows = [[3, 4, 5]] * 4000
    with torch.no_grad():
        actions, _, log_probs = policy(observe(rows))
    counts = torch.bincount(actions, minlength=VOCABULARY)
    probs = torch.zeros(VOCABULARY)
    probs[actions] = log_probs.exp()
    assert probs.sum() > 0.99  # all likely tokens were seen, and they are renormalised
    assert probs.sum() < 1.0 + 1e-4
    seen = probs * len(rows) > 5
    chi_square = ((counts - probs * len(rows)) ** 2 / (probs * len(rows)))[seen].sum()
    assert chi_square < 2 * int(seen.sum()) + 20


def test_truncation_is_frozen_between_rollout_and_update(make_policy):
    """Under top-p the ratio's mean is 1 after a step, because both renormalise over one set."""
    policy = make_policy(top_p=0.8)
    rows = [[3, 4, 5]] * 3000
    with torch.no_grad():
        actions, _, old = policy(observe(rows))
        ids = torch.tensor([[*row, int(a)] for row, a in zip(rows, actions, strict=True)])
        batch = EpisodeBatch(ids, torch.arange(3000), torch.full((3000,), 3), old.support)
        for parameter in policy.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.manual_seed(0)))
        new = policy.evaluate_actions(batch, actions)[1]
    ratio = (new - old).exp()
    assert ratio.std() > 0.01
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / 3000**0.5 + 1e-6


def test_truncation_without_stored_support_is_refused(make_policy):
    policy = make_policy(top_k=3)
    with pytest.raises(ValueError, match="EpisodeBuffer"):
        policy.evaluate_actions(observe([[3]]), torch.tensor([4]))
    batch = EpisodeBatch(torch.tensor([[3, 4]]), torch.tensor([0]), torch.tensor([1]))
    with pytest.raises(ValueError, match="support"):
        policy.evaluate_actions(batch, torch.tensor([4]))


# ------------------------------------------------------------------ values


def test_value_head_starts_at_zero(make_policy):
    policy = make_policy(zero_value=True)
    assert torch.equal(policy.predict_values(observe([[3, 4], [5]])), torch.zeros(2, 1))


def test_vf_coef_zero_leaves_the_policy_gradient_alone(make_policy):
    """And detach_value does so for any coefficient."""
    batch = EpisodeBatch(
        torch.tensor([[5, 6, 7, 8, 9]]), torch.tensor([0, 0]), torch.tensor([3, 4])
    )

    def gradient(policy, vf_coef: float) -> torch.Tensor:
        values, log_prob, _ = policy.evaluate_actions(batch, batch.actions)
        (log_prob.sum() + vf_coef * (values - 1).square().sum()).backward()
        return policy.model.transformer.wte.weight.grad.clone()

    alone = gradient(make_policy(), 0.0)
    shared = gradient(make_policy(), 1.0)
    assert not torch.allclose(shared, alone, atol=1e-6)
    torch.testing.assert_close(gradient(make_policy(detach_value=True), 1.0), alone)
    torch.testing.assert_close(gradient(make_policy(separate_critic=True), 1.0), alone)


def test_actor_and_critic_read_with_transformers_of_their_own(make_policy):
    policy = make_policy(separate_critic=True)
    batch = EpisodeBatch(torch.tensor([[5, 6, 7, 8]]), torch.tensor([0, 0]), torch.tensor([2, 3]))
    values = policy.evaluate_actions(batch, batch.actions)[0]
    with torch.no_grad():
        for parameter in policy.critic_trunk.decoder.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.manual_seed(2)))
        expected = [naive_log_probs(policy.model, [5, 6])[7]]
        expected.append(naive_log_probs(policy.model, [5, 6, 7])[8])
        moved, log_probs, _ = policy.evaluate_actions(batch, batch.actions)
        torch.testing.assert_close(log_probs, torch.stack(expected), atol=1e-5, rtol=0)
        assert (moved - values).abs().min() > 1e-3
        [action], [value], [log_prob] = policy(observe([[5, 6]]))
        alone = naive_log_probs(policy.model, [5, 6])[action]
        torch.testing.assert_close(log_prob, alone, atol=1e-5, rtol=0)
        torch.testing.assert_close(value, moved[0], atol=1e-5, rtol=0)


# ------------------------------------------------------------------ loaded and saved


@every_architecture
def test_pretrained_weights_are_untouched(make_policy, architecture, tiny_dir):
    """SB3's orthogonal initialisation must not reach them."""
    policy = make_policy(architecture)
    loaded = AutoModelForCausalLM.from_pretrained(tiny_dir(architecture)).state_dict()
    assert loaded.keys() == policy.model.state_dict().keys()
    for name, tensor in policy.model.state_dict().items():
        assert torch.equal(tensor, loaded[name]), name


@every_architecture
def test_save_pretrained_round_trip(make_policy, architecture, tmp_path):
    policy = make_policy(architecture)
    policy.save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    row = [3, 4, 5, 6]
    with torch.no_grad():
        _, value, log_prob = policy(observe([row]), deterministic=True)
    assert torch.allclose(naive_log_probs(plain, row).max(), log_prob, atol=1e-5)
    again = TransformerActorCriticPolicy(
        text_space(),
        spaces.Discrete(VOCABULARY),
        lambda _: 1e-3,
        model=str(tmp_path),
        value_scale=3.0,  # whatever the factor, the values are those that were saved
    )
    torch.testing.assert_close(again.predict_values(observe([row])), value, atol=1e-5, rtol=0)


def test_corrupt_value_head_is_named(make_policy, tmp_path):
    make_policy().save_pretrained(tmp_path)
    (tmp_path / "value_head.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match=r"value_head\.safetensors"):
        TransformerActorCriticPolicy(
            text_space(), spaces.Discrete(32), lambda _: 1e-3, model=str(tmp_path)
        )


def test_it_is_a_stable_baselines3_policy_that_saves_and_loads(make_policy, tmp_path):
    policy = make_policy(temperature=0.7)
    assert isinstance(policy, ActorCriticPolicy)
    policy.save(tmp_path / "policy.pth")
    loaded = TransformerActorCriticPolicy.load(tmp_path / "policy.pth")
    assert loaded.temperature == 0.7
    obs = observe([[3, 4, 5]])
    assert torch.equal(loaded.predict_values(obs), policy.predict_values(obs))
