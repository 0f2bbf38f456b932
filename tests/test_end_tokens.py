"""What ends an answer, and what its text is: heard at every door."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import stable_baselines3
import torch

import llm_gym
from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.language_models.chat import PromptFormat
from llm_gym.policy import TransformerActorCriticPolicy
from llm_gym.runs import playing
from llm_gym.stages.by_name import TEXT_GENERATION, environment_kwargs, no_score
from llm_gym.text import TextGenerationEnv, TextGenerationVectorEnv
from tests.chat_tokenizers import (
    TOKENIZERS,
    byte_tokenizer,
    metaspace_tokenizer,
    observed,
    save_model,
)


@pytest.fixture
def saved(tmp_path):
    return lambda kind: save_model(kind, tmp_path)


def test_all_end_tokens_of_the_generation_config_end_an_episode(saved):
    directory = saved("bytes without a template")
    config = Path(directory, "generation_config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": [2, 4, 7]}))
    for tokenizer in (directory, load_tokenizer(directory)):
        env = TextGenerationEnv(tokenizer, ["hi"], no_score)
        assert env.eos_token_ids == (2, 4, 7)
    assert TextGenerationEnv(directory, ["hi"], no_score, eos_token_id=5).eos_token_ids == (5,)
    assert TextGenerationEnv(directory, ["hi"], no_score, eos_token_id=()).eos_token_ids == ()


@pytest.mark.parametrize(
    ("tokens", "completion"),
    [(["s"], "s"), (["▁", "s"], " s"), (["▁cat", "s"], " cats"), (["▁", "▁", "s"], "  s")],
)
def test_the_first_space_of_a_completion_survives(tokens, completion):
    tokenizer = metaspace_tokenizer()
    env = TextGenerationEnv(tokenizer, ["the"], no_score)
    env.reset()
    for token in tokenizer.convert_tokens_to_ids([*tokens, "</s>"]):
        *_, info = env.step(token)
    assert info["completion"] == completion
    assert info["prompt"] == "the"
    ids = tokenizer("the")["input_ids"] + tokenizer.convert_tokens_to_ids(tokens)
    assert info["prompt"] + completion == tokenizer.decode(ids, skip_special_tokens=True)


def test_a_stop_string_may_begin_with_the_first_space():
    tokenizer = metaspace_tokenizer()
    env = TextGenerationEnv(tokenizer, ["the"], no_score, stop_strings=[" c"])
    env.reset()
    env.step(tokenizer.convert_tokens_to_ids("▁"))
    *_, terminated, _, info = env.step(tokenizer.convert_tokens_to_ids("c"))
    assert (terminated, info["stop_reason"], info["completion"]) == (True, "stop_string", "")


def test_the_prompt_of_a_finished_episode_is_in_its_final_info():
    tokenizer = byte_tokenizer()
    env = TextGenerationVectorEnv(
        tokenizer, ["a", "b", "c"], no_score, autoreset_mode="SameStep", prompt_order="sequential"
    )
    _, infos = env.reset()
    first = infos["prompt"][0]
    *_, infos = env.step(np.array([2]))
    assert infos["final_info"]["prompt"][0] == first == "a"
    assert infos["prompt"][0] == "b"


def test_the_end_of_a_turn_is_the_template_s():
    formats = {kind: PromptFormat(make()) for kind, make in TOKENIZERS.items()}
    ends = {
        kind: shown.tokenizer.convert_ids_to_tokens(shown.end_token_id)
        for kind, shown in formats.items()
    }
    assert ends["chatml"] == "<|im_end|>"
    assert ends["llama"] == "<|eot_id|>"
    assert set(ends.values()) == {"<|im_end|>", "<|eot_id|>", "</s>"}


@pytest.fixture
def hub_model(saved):
    """A model that says more ends than its tokenizer, and a tokenizer that has no file to read."""
    directory = saved("chatml")
    config = Path(directory, "generation_config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": [2, 9, 9999]}))
    tokenizer = load_tokenizer(directory)
    tokenizer.name_or_path = "somebody/model"
    return directory, tokenizer, PromptFormat(tokenizer).end_token_ids()


def test_commands_hear_the_end_tokens_of_their_model(hub_model, monkeypatch):
    directory, tokenizer, heard = hub_model
    task = {"prompts": ["hi"], "scorer": no_score}
    assert 9 not in TextGenerationEnv(tokenizer, **task).eos_token_ids
    monkeypatch.setattr(llm_gym.language_models, "load_tokenizer", lambda name: tokenizer)
    for options, expected in (({}, (*heard, 9)), ({"eos_token_id": 5}, (5,))):
        kwargs = environment_kwargs(TEXT_GENERATION, directory, **options)
        assert TextGenerationEnv(**{**kwargs, **task}).eos_token_ids == expected


@pytest.mark.parametrize("form", ["name", "policy"])
def test_evaluation_hears_the_end_tokens_of_its_model(form, hub_model):
    """The model says the token 9 whatever it is asked, and ends its answers with it."""
    directory, tokenizer, _ = hub_model
    task = {"tokenizer": tokenizer, "prompts": ["hi", "the"], "scorer": no_score}
    task |= {"vocab_size": len(tokenizer) + 3, "max_new_tokens": 3}
    model = always_says(9, directory)
    if form == "policy":
        env = TextGenerationEnv(**task)
        spaces = env.observation_space, env.action_space
        model = TransformerActorCriticPolicy(*spaces, lambda _: 0.0, model=model)
    for play in (llm_gym.evaluate, lambda *a, **k: llm_gym.sample_best_of_n(*a, 1, **k).best):
        rows = play(model, task).rows
        assert [(row.completion_ids, row.stop_reason) for row in rows] == [((9,), "eos")] * 2
        rows = play(model, task, env_kwargs={"eos_token_id": [2, 4]}).rows
        assert [row.completion_ids for row in rows] == [(9, 9, 9)] * 2


def always_says(token, directory):
    """A model without attention and perceptrons, whose only features are ones."""
    model = load_causal_lm(directory)
    with torch.no_grad():
        model.model.embed_tokens.weight.fill_(1.0)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        model.lm_head.weight[token] = 10.0
    model.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("kind", ["chatml", "llama", "sentencepiece", "bytes without a template"])
@pytest.mark.parametrize("template", [None, "Q: {prompt} A:"])
def test_a_model_saved_after_reinforcement_learning_is_asked_and_ends_as_it_learnt(
    kind, template, saved, tmp_path
):
    directory = saved(kind)
    env = TextGenerationVectorEnv(
        **{**environment_kwargs(TEXT_GENERATION, directory), "prompts": ["hi"]},
        scorer=no_score,
        prompt_template=template,
        num_envs=2,
        max_new_tokens=2,
        autoreset_mode="SameStep",
    )
    agent = llm_gym.PPO("TransformerPolicy", env, policy_kwargs={"model": directory})
    llm_gym.save_model(agent, tmp_path / "trained")
    llm_gym.runs.checkpoint.save_checkpoint(agent, tmp_path / "checkpoint")
    for place in (tmp_path / "trained", tmp_path / "checkpoint" / "model"):
        ends = load_causal_lm(place).generation_config.eos_token_id
        assert set(env.eos_token_ids) <= set(np.ravel(ends).tolist())
        again = TextGenerationEnv(str(place), ["hi"], no_score, max_new_tokens=2)
        assert set(again.eos_token_ids) >= set(env.eos_token_ids)
        assert observed(again) == env.reset()[0]["input_ids"][0][: len(observed(again))].tolist()
        if template is None:
            assert load_tokenizer(place).chat_template == load_tokenizer(directory).chat_template


@pytest.mark.parametrize(
    ("algorithm", "wrap"),
    [(stable_baselines3.PPO, llm_gym.GymVecEnv), (llm_gym.PPO, lambda env: env)],
)
def test_training_says_which_end_tokens_the_environment_does_not_hear(algorithm, wrap, hub_model):
    directory, tokenizer, heard = hub_model
    task = {"prompts": ["hi"], "scorer": no_score, "vocab_size": len(tokenizer) + 3}
    task |= {"num_envs": 2, "autoreset_mode": "SameStep"}

    def train_on(tokenizer, **more):
        env = TextGenerationVectorEnv(tokenizer, **task, **more)
        algorithm("TransformerPolicy", wrap(env), policy_kwargs={"model": directory})

    known, better = re.escape("at [9], too"), re.escape(f"eos_token_id={[*heard, 9]}")
    with pytest.warns(UserWarning, match=rf"{known}, of which .* {better}"):
        train_on(tokenizer)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*ends answers at.*")
        train_on(tokenizer, eos_token_id=[2])
        train_on(directory)


def test_an_environment_is_made_once_whatever_its_model_ends_with(hub_model, monkeypatch):
    """Further ends count as if they had been given: they are masked as long as none may come."""
    directory, tokenizer, heard = hub_model
    task = {"tokenizer": tokenizer, "prompts": ["hi", "the"], "scorer": no_score}
    task |= {"vocab_size": len(tokenizer) + 3, "min_new_tokens": 1}
    made = []
    original = playing._make
    monkeypatch.setattr(playing, "_make", lambda *args: made.append(args) or original(*args))
    env = playing.make_playing_env(task, num_envs=2, model=directory)
    assert len(made) == 1
    assert env.eos_token_ids == (*heard, 9)
    given = playing.make_playing_env(task, {"eos_token_id": [*heard, 9]}, num_envs=2)
    for each in (env, given):
        each.reset(options={"prompt_index": np.arange(2)})
    assert np.array_equal(env.action_masks(), given.action_masks())
    assert not env.action_masks()[:, 9].any()
    with pytest.raises(ValueError, match="outside the vocabulary"):
        env.also_end_with([9999])
