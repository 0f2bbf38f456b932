from __future__ import annotations

from collections import Counter

import pytest
import torch

from llm_gym.runs.playing import (
    make_playing_env,
    number_of_prompts,
    play_prompts,
    policy_of,
    seeded_sampling,
)
from tests.tiny_runs import PROMPTS, count_w1


@pytest.fixture
def env(tiny_dir):
    arguments = {
        "tokenizer": tiny_dir(),
        "prompts": PROMPTS,
        "scorer": count_w1,
        "max_new_tokens": 4,
        "num_envs": 99,  # the keyword decides
    }
    made = make_playing_env(arguments, num_envs=3)
    yield made
    made.close()


def test_a_prompt_is_answered_as_often_as_its_index_occurs(env, tiny_dir):
    policy = policy_of(tiny_dir(), env.unwrapped)
    answers = list(play_prompts(policy, env, [4, 0, 4, 2, 4]))
    assert Counter(answer.prompt_index for answer in answers) == {4: 3, 0: 1, 2: 1}
    assert {answer.prompt for answer in answers} == {PROMPTS[0], PROMPTS[2], PROMPTS[4]}
    assert list(play_prompts(policy, env, [])) == []


@pytest.mark.parametrize(("max_prompts", "rows"), [(None, 3), (2, 2), (5, 3)])
def test_no_more_rows_are_made_than_prompts_are_asked(max_prompts, rows, tiny_dir):
    arguments = {"tokenizer": tiny_dir(), "prompts": PROMPTS, "scorer": count_w1}
    made = make_playing_env(arguments, {"max_new_tokens": 4}, num_envs=3, max_prompts=max_prompts)
    assert made.num_envs == rows
    assert number_of_prompts(made.unwrapped, max_prompts) == min(5, max_prompts or 5)
    made.close()


def test_a_policy_made_from_a_path_leaves_the_global_generator_alone(env, tiny_dir):
    before = torch.get_rng_state()
    made = policy_of(tiny_dir(), env.unwrapped, {"temperature": 2.0})
    assert torch.equal(torch.get_rng_state(), before)
    assert made.temperature == 2.0
    assert policy_of(made, env.unwrapped) is made


def test_a_policy_gets_its_own_generator_back_even_after_an_error(env, tiny_dir):
    policy = policy_of(tiny_dir(), env.unwrapped)
    generator, state = policy.generator, policy.generator.get_state()

    def interrupted():
        with seeded_sampling(policy, 5):
            assert policy.generator.initial_seed() == 5
            list(play_prompts(policy, env, [0]))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert policy.generator is generator
    assert torch.equal(generator.get_state(), state)
