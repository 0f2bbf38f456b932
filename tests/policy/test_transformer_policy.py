from __future__ import annotations

import inspect
import random

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from transformers import AutoConfig, AutoModelForCausalLM

from llm_gym.policy import EpisodeBatch, TransformerActorCriticPolicy
from llm_gym.policy.sampling import LanguageModelHead
from llm_gym.testing.tiny import ARCHITECTURES, tiny_model
from tests.products import sampled

from .conftest import LENGTH, VOCABULARY, naive_log_probs, observe, text_space

# One of each kind of positions, windows and groups of heads.
DIFFERENT = ("bloom", "gemma2", "gpt2", "llama", "mistral", "opt")
every_architecture = pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))


def play(seed: int, n_rows: int = 4, n_steps: int = 40):
    """Rows of tokens as environments show them: growing by one, now and then starting anew."""
    rng = random.Random(seed)

    def fresh() -> list[int]:
        return [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 6))]

    rows = [fresh() for _ in range(n_rows)]
    for _ in range(n_steps):
        yield rows
        rows = [
            fresh()
            if len(row) + 1 >= LENGTH or rng.random() < 0.1
            else [*row, rng.randrange(VOCABULARY)]
            for row in rows
        ]


@pytest.mark.parametrize("architecture", sampled(sorted(ARCHITECTURES), *DIFFERENT))
def test_cached_decoding_equals_the_plain_forward_pass(make_policy, architecture):
    """Rows of different lengths, growing and starting anew, to 1e-5."""
    policy = make_policy(architecture)
    plain = tiny_model(architecture)
    for rows in play(seed=1):
        with torch.no_grad():
            actions, _, log_probs = policy(observe(rows))
        expected = torch.stack(
            [naive_log_probs(plain, r)[a] for r, a in zip(rows, actions, strict=True)]
        )
        torch.testing.assert_close(log_probs, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_rows_may_grow_by_any_number_of_tokens(make_policy, architecture):
    """Beside others that grow by one, by none or become shorter."""
    policy = make_policy(architecture)
    first = [[3, 4], [5, 6, 7], [8, 9], [4, 4, 4]]
    then = [[3, 4, 10, 11, 12], [5, 6, 7, 8], [8, 9], [4, 4]]
    for rows in (first, then):
        with torch.no_grad():
            actions, _, log_probs = policy(observe(rows))
        expected = [naive_log_probs(policy.model, r)[a] for r, a in zip(rows, actions, strict=True)]
        torch.testing.assert_close(log_probs, torch.stack(expected), atol=1e-5, rtol=0)


def test_one_draw_says_nothing_of_the_next(make_policy):
    policy, rows = make_policy(temperature=3.0), observe([[3, 4, 5]])
    with torch.no_grad():
        assert len({int(policy(rows)[0]) for _ in range(30)}) > 3


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


def test_value_head_starts_at_zero(make_policy):
    policy = make_policy(zero_value=True)
    assert torch.equal(policy.predict_values(observe([[3, 4], [5]])), torch.zeros(2, 1))


def test_a_change_of_weights_empties_the_cache(make_policy):
    """By optimizers, by load_state_dict and by replaced storage alike."""
    policy = make_policy()
    row = [3, 4, 5]

    def check() -> None:
        with torch.no_grad():
            action, _, log_prob = policy(observe([row]))
        expected = naive_log_probs(policy.model, row)[action]
        torch.testing.assert_close(log_prob, expected, atol=1e-5, rtol=0)
        row.append(int(action))

    check()
    loss = policy.evaluate_actions(observe([row[:-1]]), torch.tensor([row[-1]]))[1].sum()
    for group in policy.optimizer.param_groups:
        group["lr"] = 0.1
    loss.backward()
    policy.optimizer.step()
    check()
    policy.load_state_dict({k: v * 1.1 for k, v in policy.state_dict().items()})
    check()
    for parameter in policy.model.parameters():
        parameter.data = parameter.data * 0.9
    check()


def test_cache_reads_one_token_at_a_time(make_policy, monkeypatch):
    """What is cached is not read again: the promise behind the speed."""
    policy = make_policy()
    read: list[tuple[int, int]] = []
    forward = policy.model.transformer.forward

    def spy(**kwargs):
        read.append(tuple(kwargs["input_ids"].shape))
        return forward(**kwargs)

    monkeypatch.setattr(policy.model.transformer, "forward", spy)
    with torch.no_grad():
        policy(observe([[3, 4, 5], [6, 7]]))
        policy(observe([[3, 4, 5, 8], [6, 7, 9]]))
        policy.predict_values(observe([[3, 4, 5, 8], [6, 7, 9]]))  # nothing new
        policy(observe([[3, 4, 5, 8, 8], [9, 9, 9, 9]]))  # a row that started anew
    assert read == [(2, 3), (2, 1), (1, 4), (2, 1)]


def test_value_of_a_final_observation_leaves_the_cache_alone(make_policy, monkeypatch):
    """SB3 asks for single final observations in the middle of a rollout."""
    policy = make_policy()
    with torch.no_grad():
        policy(observe([[3, 4], [5, 6]]))
        policy.predict_values(observe([[9, 9, 9]]))
        read = []
        forward = policy.model.transformer.forward
        monkeypatch.setattr(
            policy.model.transformer,
            "forward",
            lambda **kw: read.append(tuple(kw["input_ids"].shape)) or forward(**kw),
        )
        policy(observe([[3, 4, 1], [5, 6, 1]]))
    assert read == [(2, 1)]


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
    assert read == [[[5, 6, 7]]]


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


def test_separate_critic_has_its_own_cache(make_policy):
    policy = make_policy(separate_critic=True)
    with torch.no_grad():
        for parameter in policy.critic.parameters():
            parameter.mul_(1.3)
        for rows in play(seed=3, n_steps=10):
            actions, values, _ = policy(observe(rows))
            expected, _, _ = policy.evaluate_actions(
                EpisodeBatch(
                    torch.cat(
                        [observe(rows)["input_ids"], torch.zeros(4, 1, dtype=torch.int64)], 1
                    ),
                    torch.arange(4),
                    torch.tensor([len(r) for r in rows]),
                ),
                actions,
            )
            torch.testing.assert_close(values, expected, atol=1e-5, rtol=0)


def test_deterministic_is_argmax_and_predict_accepts_numpy(make_policy):
    policy = make_policy()
    rows = [[3, 4, 5], [6, 7]]
    obs = {k: v.numpy() for k, v in observe(rows).items()}
    actions, _ = policy.predict(obs, deterministic=True)
    expected = [int(naive_log_probs(policy.model, r).argmax()) for r in rows]
    assert actions.tolist() == expected
    single, _ = policy.predict({k: v[0] for k, v in obs.items()}, deterministic=True)
    assert int(single) == expected[0]


def test_sampling_is_seeded_and_leaves_global_generators_alone(make_policy):
    state = torch.get_rng_state()
    first, second = make_policy(seed=7), make_policy(seed=7)
    torch.set_rng_state(state)
    rows = [[3, 4, 5]] * 50
    with torch.no_grad():
        actions, expected = first(observe(rows))[0], second(observe(rows))[0]
    assert torch.equal(actions, expected)
    assert torch.equal(torch.get_rng_state(), state)


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


def test_prefix_cache_can_be_switched_off(make_policy):
    cached, plain = make_policy(), make_policy(prefix_cache=False)
    for rows in play(seed=5, n_steps=6):
        with torch.no_grad():
            a, b = cached(observe(rows)), plain(observe(rows))
        torch.testing.assert_close(a[1], b[1], atol=1e-5, rtol=0)


def test_it_is_a_stable_baselines3_policy_that_saves_and_loads(make_policy, tmp_path):
    policy = make_policy(temperature=0.7)
    assert isinstance(policy, ActorCriticPolicy)
    policy.save(tmp_path / "policy.pth")
    loaded = TransformerActorCriticPolicy.load(tmp_path / "policy.pth")
    assert loaded.temperature == 0.7
    obs = observe([[3, 4, 5]])
    assert torch.equal(loaded.predict_values(obs), policy.predict_values(obs))


@pytest.mark.parametrize(
    "option",
    [
        {"temperature": 0.5},
        {"top_k": 3},
        {"top_p": 0.6},
        {"separate_critic": True},
        {"detach_value": True},
        {"value_scale": 2.0},
        {"mixed_precision": "bf16"},
        {"dtype": "bfloat16"},
        {"attn_implementation": "eager"},
        {"prefix_cache": False},
        {"micro_batch_size": 3},
        {"gradient_checkpointing": True},
        {"seed": 5},
        {"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {"momentum": 0.9}},
        {"optimizer_kwargs": {"weight_decay": 0.25}},
    ],
)
def test_every_option_is_saved_with_the_policy(make_policy, tmp_path, option):
    """A policy that was loaded acts as the one that was saved."""
    policy = make_policy(**option)
    policy.save(tmp_path / "policy.pth")
    loaded = TransformerActorCriticPolicy.load(tmp_path / "policy.pth")
    kept = policy._get_constructor_parameters()
    for name, found in loaded._get_constructor_parameters().items():
        assert found == kept[name] or name == "lr_schedule", name
    for name, value in option.items():  # and not only the same twice
        assert kept[name] == value, name
    everything = inspect.signature(TransformerActorCriticPolicy.__init__).parameters
    assert kept.keys() == everything.keys() - {"self", "use_sde"}
    obs = observe([[3, 4, 5]] * 40)
    with torch.no_grad():
        distribution, again = policy.get_distribution(obs), loaded.get_distribution(obs)
        assert torch.equal(distribution.distribution.logits, again.distribution.logits)
        assert torch.equal(policy(obs)[0], loaded(obs)[0])


def test_the_most_probable_token_is_all_that_top_k_of_one_leaves(make_policy):
    policy = make_policy(top_k=1)
    rows = [[3, 4, 5], [6, 7], [9]] * 20
    with torch.no_grad():
        actions, _, log_probs = policy(observe(rows))
        greedy, _, _ = policy(observe(rows), deterministic=True)
    assert torch.equal(actions, greedy)
    assert torch.equal(log_probs, torch.zeros(60))


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float64", "float32", "auto"])
def test_weights_have_the_type_that_was_asked_for(make_policy, name):
    """Decoding and updates agree to that type's rounding; the value head stays exact."""
    policy = make_policy("llama", dtype=name)
    assert policy.dtype == getattr(torch, "float32" if name == "auto" else name)
    rows = [[3, 4, 5], [6, 7]]
    with torch.no_grad():
        actions, values, log_probs = policy(observe(rows))
    assert policy.value_head.weight.dtype in (torch.float32, torch.float64)
    batch = EpisodeBatch(
        torch.tensor([[3, 4, 5, int(actions[0])], [6, 7, int(actions[1]), 0]]),
        torch.tensor([0, 1]),
        torch.tensor([3, 2]),
    )
    again = policy.evaluate_actions(batch, actions)
    rounding = 1e-5 if policy.dtype.itemsize >= 4 else 0.1
    torch.testing.assert_close(again[0], values, atol=rounding, rtol=0)
    torch.testing.assert_close(again[1], log_probs, atol=rounding, rtol=0)
    again[1].sum().backward()
    if name == "float16":
        with pytest.raises(ValueError, match="float16 cannot be trained"):
            policy.optimizer.step()
    else:
        policy.optimizer.step()


def test_auto_is_the_type_of_the_file(tiny_dir, tmp_path):
    AutoModelForCausalLM.from_pretrained(tiny_dir(), dtype=torch.bfloat16).save_pretrained(tmp_path)
    policy = TransformerActorCriticPolicy(
        text_space(), spaces.Discrete(VOCABULARY), lambda _: 1e-3, model=tmp_path, dtype="auto"
    )
    assert policy.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_attention_is_the_one_that_was_asked_for(make_policy, name):
    assert make_policy(attn_implementation=name).model.config._attn_implementation == name


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_model_object_is_refused_in_one_sentence(wrapped):
    model = tiny_model()
    model = torch.nn.Sequential(model) if wrapped else model
    expected = (
        (TypeError, "must be the name or path of a model")
        if wrapped
        else (ValueError, r"save_pretrained\(DIR\), its tokenizer beside it, and pass DIR")
    )
    with pytest.raises(expected[0], match=expected[1]) as caught:
        TransformerActorCriticPolicy(
            text_space(), spaces.Discrete(VOCABULARY), lambda _: 1e-3, model=model
        )
    assert type(model).__name__ in str(caught.value)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"mixed_precision": "fp8"}, "mixed_precision"),
        ({"dtype": "int8"}, "dtype='int8' must be one of 'float32'"),
        ({"dtype": torch.bfloat16}, "dtype=torch.bfloat16 must be one of 'float32'"),
        ({"attn_implementation": 3}, "attn_implementation=3"),
        ({"attn_implementation": "no_such_attention"}, "no_such_attention"),
        ({"use_sde": True}, "use_sde"),
        ({"length": 65}, "context"),
    ],
)
def test_bad_options_name_themselves(make_policy, options, message):
    with pytest.raises(ValueError, match=message):
        make_policy(**options)


def test_bad_spaces_name_themselves(tiny_dir):
    def build(observation_space, action_space):
        TransformerActorCriticPolicy(
            observation_space, action_space, lambda _: 1e-3, model=tiny_dir()
        )

    with pytest.raises(ValueError, match=r"33 actions.*vocabulary has 32.*embeddings\(33\)"):
        build(text_space(), spaces.Discrete(33))
    with pytest.raises(ValueError, match=r"31 actions.*vocabulary has 32.*vocab_size=32"):
        build(text_space(), spaces.Discrete(31))
    with pytest.raises(ValueError, match="Discrete"):
        build(text_space(), spaces.Box(0, 1, (3,)))
    with pytest.raises(ValueError, match="Dict"):
        build(spaces.Box(0, 1, (3,)), spaces.Discrete(32))
    normalised = text_space()
    normalised.spaces["input_ids"] = spaces.Box(-10, 10, (LENGTH,), np.float32)
    with pytest.raises(ValueError, match="VecNormalize"):
        build(normalised, spaces.Discrete(32))
    with pytest.raises(ValueError, match="model="):
        TransformerActorCriticPolicy(text_space(), spaces.Discrete(32), lambda _: 1e-3)


def test_corrupt_value_head_is_named(make_policy, tmp_path):
    make_policy().save_pretrained(tmp_path)
    (tmp_path / "value_head.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match=r"value_head\.safetensors"):
        TransformerActorCriticPolicy(
            text_space(), spaces.Discrete(32), lambda _: 1e-3, model=str(tmp_path)
        )


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


@pytest.mark.parametrize(
    "shapes", [{"input_ids": (2, 24)}, {"attention_mask": (48,)}, {"completion_mask": (2, 24)}]
)
def test_stacked_observations_are_refused(make_policy, shapes):
    space = text_space()
    for key, shape in shapes.items():
        space.spaces[key] = spaces.Box(0, 1, shape, np.int64)
    with pytest.raises(ValueError, match=r"each must be \(L,\)"):
        TransformerActorCriticPolicy(space, spaces.Discrete(32), lambda _: 1e-3, model="x")


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_rows_may_be_left_out_of_decoding(make_policy, architecture, monkeypatch):
    """In any order; the others go on a token at a time, as if they had been alone."""
    policy, plain = make_policy(architecture), tiny_model(architecture)
    rng, widths = random.Random(3), []
    decode = policy.actor_trunk._forward
    monkeypatch.setattr(
        policy.actor_trunk,
        "_forward",
        lambda tokens, **kwargs: (widths.append(tokens.shape[1]), decode(tokens, **kwargs))[1],
    )
    rows = [[rng.randrange(VOCABULARY) for _ in range(n)] for n in (3, 1, 5, 2, 4, 2)]
    for left in (range(6), [0, 5, 2, 3], [3, 1, 0], [0, 1, 2], [2]):
        if len(left) < 6:
            policy.keep_rows(torch.tensor(list(left)))
        rows = [[*rows[i], rng.randrange(VOCABULARY)] for i in left]
        with torch.no_grad():
            actions, _, log_probs = policy(observe(rows))
        expected = [naive_log_probs(plain, r)[a] for r, a in zip(rows, actions, strict=True)]
        torch.testing.assert_close(log_probs, torch.stack(expected), atol=1e-5, rtol=0)
    assert widths[1:] == [1] * 4


def test_a_wrong_word_about_rows_costs_time_alone(make_policy):
    policy = make_policy()
    rows = [[3, 4], [5, 6, 7], [8, 9]]
    with torch.no_grad():
        policy(observe(rows))
        policy.keep_rows(torch.tensor([2, 0]))
        then = [[5, 6, 7, 1], [3, 4, 2]]
        actions, _, log_probs = policy(observe(then))
        policy.keep_rows(torch.tensor([0, 7]))  # there is no such row
        again = policy(observe(then), deterministic=True)[2]
    expected = [naive_log_probs(policy.model, r) for r in then]
    picked = torch.stack([e[a] for e, a in zip(expected, actions, strict=True)])
    torch.testing.assert_close(log_probs, picked, atol=1e-5, rtol=0)
    best = torch.stack([e.max() for e in expected])
    torch.testing.assert_close(again, best, atol=1e-5, rtol=0)
