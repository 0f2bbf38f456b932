"""What a policy is made with: saved with it, heeded, and refused in one sentence."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from gymnasium import spaces
from transformers import AutoModelForCausalLM

from llm_gym.policy import EpisodeBatch, TransformerActorCriticPolicy
from llm_gym.testing.tiny import tiny_model

from .conftest import LENGTH, VOCABULARY, observe, text_space


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


@pytest.mark.parametrize(
    "shapes", [{"input_ids": (2, 24)}, {"attention_mask": (48,)}, {"completion_mask": (2, 24)}]
)
def test_stacked_observations_are_refused(make_policy, shapes):
    space = text_space()
    for key, shape in shapes.items():
        space.spaces[key] = spaces.Box(0, 1, shape, np.int64)
    with pytest.raises(ValueError, match=r"each must be \(L,\)"):
        TransformerActorCriticPolicy(space, spaces.Discrete(32), lambda _: 1e-3, model="x")
