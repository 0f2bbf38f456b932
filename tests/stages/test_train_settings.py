"""Settings of `llm-gym train` that reach the policy under another name."""

from __future__ import annotations

import pytest

from benchmarks.architectures.tiny import tiny_model
from llm_gym.language_models import load_causal_lm
from llm_gym.stages.text_agent import policy_settings, text_agent_parser
from llm_gym.stages.train import TrainConfig, build_algorithm
from llm_gym.testing.tiny import tiny_tokenizer


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory):
    """A model whose recurrent state no prefix cache holds."""
    directory = tmp_path_factory.mktemp("mamba")
    tiny_model("mamba").save_pretrained(directory)
    tiny_tokenizer(45).save_pretrained(directory)
    return str(directory)


def build(model: str, prefix_cache: str, **more: str):
    settings = {"env": "llm_gym/PoliteEmail-v0", "num_envs": 2, "max_new_tokens": 4}
    return build_algorithm(TrainConfig(model=model, prefix_cache=prefix_cache, **settings, **more))


@pytest.mark.parametrize(("word", "value"), [("auto", "auto"), ("on", True), ("off", False)])
def test_the_policy_is_told_whether_to_cache(word, value):
    policy = build("llm_gym/email-base", word).policy
    assert policy.prefix_cache == value
    assert policy._cache_check.passed == (value is not False)


def test_a_hybrid_trains_recomputing_prefixes(hybrid):
    with pytest.warns(UserWarning, match="'mamba'.*prefix is recomputed"):
        build(hybrid, "auto").learn(8)
    with pytest.raises(ValueError, match="does not fit models of type 'mamba'"):
        build(hybrid, "on")
    build(hybrid, "off").learn(8)


@pytest.mark.parametrize(("word", "value"), [("auto", "auto"), ("on", True), ("off", False)])
def test_the_policy_is_told_whether_to_share_prompts(word, value):
    assert build("llm_gym/email-base", "auto", shared_prompts=word).policy.shared_prompts == value


@pytest.mark.parametrize("word", ["yes", "True", ""])
def test_other_words_are_refused(word):
    with pytest.raises(
        ValueError, match=f"prefix_cache='{word}' must be one of 'auto', 'on', 'off'"
    ):
        build("llm_gym/email-base", word)
    with pytest.raises(
        ValueError, match=f"shared_prompts='{word}' must be one of 'auto', 'on', 'off'"
    ):
        build("llm_gym/email-base", "auto", shared_prompts=word)


def test_a_script_of_an_agent_has_the_options_of_an_adapter():
    parser = text_agent_parser("An agent.")
    assert "lora" not in policy_settings(parser.parse_args([]))["policy_kwargs"]
    options = parser.parse_args(["--lora-rank", "4", "--lora-target-modules", "c_attn, c_fc"])
    assert policy_settings(options)["policy_kwargs"]["lora"] == {
        "r": 4,
        "lora_alpha": 32,
        "target_modules": ["c_attn", "c_fc"],
    }
    with pytest.raises(ValueError, match="lora_alpha=8 is of a LoRA adapter"):
        policy_settings(parser.parse_args(["--lora-alpha", "8"]))


def test_a_model_stored_in_float16_is_not_trained_as_it_is(tiny_dir, tmp_path):
    load_causal_lm(tiny_dir(), dtype="float16").save_pretrained(tmp_path)
    for dtype, model in (("float16", tiny_dir()), ("auto", str(tmp_path))):
        with pytest.raises(ValueError, match=f"dtype='{dtype}'.*weights in float16 cannot be tra"):
            TrainConfig(model=model, dtype=dtype)
        with pytest.raises(ValueError, match="nor an adapter on them"):
            TrainConfig(model=model, dtype=dtype, lora_rank=2)
    TrainConfig(model=tiny_dir(), dtype="auto")
