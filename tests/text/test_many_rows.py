"""More rows, prompts and tokens than Python has ready-made numbers for, and shapes that are off."""

from __future__ import annotations

import warnings
from itertools import islice

import numpy as np
import pytest

from llm_gym import TextGenerationEnv, TextGenerationVectorEnv
from llm_gym.scorers import ScorerError
from llm_gym.testing.conformance import assert_same
from tests.text.helpers import EOS, arguments, word

MANY = 300


def vector(num_envs=2, **overrides):
    return TextGenerationVectorEnv(**arguments(**overrides), num_envs=num_envs)


def test_settings_of_many_rows_are_one_a_row():
    env, other = vector(MANY), vector(MANY)
    seeds, prompts = list(range(MANY)), [f"w{row % 20}" for row in range(MANY)]
    _, infos = env.reset(seed=seeds, options={"prompt": prompts})
    assert infos["prompt"].tolist() == prompts
    actions = np.full(MANY, word(1))
    env.step(actions)
    other.set_state(env.get_state())
    assert_same(other.step(actions), env.step(actions), "the next step")


@pytest.mark.parametrize("number", [1, 3])
def test_neither_fewer_nor_more_settings_than_rows_are_taken(number):
    env = vector()
    with pytest.raises(ValueError, match=f"seed has {number} entries"):
        env.reset(seed=[0] * number)
    with pytest.raises(ValueError, match=rf"options\['prompt'\] has {number} entries"):
        env.reset(options={"prompt": ["w1"] * number})
    with pytest.raises(ValueError, match=r"options\['reset_mask'\] must have shape \(2,\)"):
        env.reset(options={"reset_mask": np.ones(number, bool)})
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions must be integers of shape \(2,\)"):
        env.step(np.full(number, word(1)))
    with pytest.raises(ValueError, match=r"rows must have shape \(2,\)"):
        env.wait(np.zeros(number, bool))
    other = vector(number)
    other.reset(seed=0)
    state = {**env.get_state(), "episodes": other.get_state()["episodes"]}
    with pytest.raises(ValueError, match=f"the state is of {number} rows"):
        env.set_state(state)


@pytest.mark.parametrize("kind", [int, float, "U1", "M8[s]"])
def test_rows_are_named_by_bool_alone(kind):
    env, rows = vector(), np.zeros(2, kind)
    with pytest.raises(TypeError, match="must be a numpy array of bool"):
        env.reset(options={"reset_mask": rows})
    with pytest.raises(ValueError, match="must be a numpy array of bool"):
        env.wait(rows)


def test_masks_of_some_rows_are_made_without_a_warning():
    env = vector(min_new_tokens=2)
    env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, infos = env.reset(options={"reset_mask": np.array([False, True])})
        env.note_probability([0.0, 1.0])  # both are probabilities
    assert infos["action_mask"].sum(1).tolist() == [0, 31]  # all but EOS
    assert infos["_action_mask"].tolist() == [False, True]


@pytest.mark.parametrize("told", [{}, object(), ["x", "y"], [0.1, 0.2, 0.3]])
def test_what_is_no_number_is_no_probability(told):
    with pytest.raises(ValueError, match="must be one number, or one for each of 2 rows"):
        vector().note_probability(told)


@pytest.mark.parametrize("wrong", [-1, 32])
def test_an_action_outside_is_named_and_not_the_first_that_is_inside(wrong):
    env = vector()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=rf"action {wrong} \(row 1\) is outside"):
        env.step(np.array([0, wrong]))


def test_a_walk_of_many_prompts_begins_anew_behind_the_last():
    prompts = [f"w{n % 20} w{n // 20}" for n in range(MANY)]
    env = TextGenerationEnv(**arguments(prompts=prompts, prompt_order="sequential"))
    walk = [env.reset()[1]["prompt_index"] for _ in range(MANY + 2)]
    assert walk == [*range(MANY), 0, 1]


@pytest.mark.parametrize("num_shards", [2, 3, 5])
@pytest.mark.parametrize("num_groups", [1, 2, 3])
def test_shards_share_out_a_sequential_list(num_shards, num_groups):
    """Each prompt is in the first pass of one row of one shard."""
    walked = []
    for shard in range(num_shards):
        env = vector(
            num_groups,
            prompts=[f"w{n}" for n in range(num_shards * num_groups)],
            prompt_order="sequential",
            shard=(shard, num_shards),
        )
        walked += env.reset()[1]["prompt_index"].tolist()
    assert walked == list(range(num_shards * num_groups))


def test_a_stream_is_taken_up_behind_many_prompts():
    def make():
        prompts = islice((f"w{n % 20}" for n in range(MANY + 1)), None)
        return TextGenerationEnv(**arguments(prompts=prompts, max_prompt_tokens=1))

    env, other = make(), make()
    for _ in range(MANY):
        env.reset()
    other.set_state(env.get_state())
    assert other.reset()[1] == env.reset()[1]


def test_columns_that_do_not_reach_the_scorer_are_told_of_once():
    """Though later prompts have fewer of them, or none."""
    columns = [{"trainer_state": 1, "completion_ids": 2}, {"trainer_state": 1}, {}, {}]
    prompts = ({"prompt": f"w{n}", **more} for n, more in enumerate(columns))
    env = TextGenerationEnv(**arguments(prompts=prompts, max_prompt_tokens=1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in columns:
            env.reset()
            env.step(EOS)
    (warning,) = [w for w in caught if "do not reach the scorer" in str(w.message)]
    assert "['completion_ids', 'trainer_state']" in str(warning.message)


# ------------------------------------------------------------------ states


def saved_rows(**overrides):
    env = vector(**overrides)
    env.reset(seed=0, options={"prompt": "w1"})
    return env, env.get_state()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": None, "completion_ids": [4], "running": False}, r"rows\[1\]\.prompt must be"),
        ({"prompt": None, "completion_ids": [], "running": True}, r"rows\[1\]\.prompt must be"),
        ({"completion_ids": [4] * 5, "running": True}, r"rows\[1\] has 5 new tokens, too many"),
        ({"completion_ids": [4] * 6, "running": False}, r"rows\[1\] has 6 new tokens, too many"),
        ({"completion_ids": [4] * 5, "running": False}, None),
        ({"completion_ids": [4] * 4, "running": True}, None),
        ({"prompt": None, "completion_ids": [], "running": False}, None),
    ],
)
def test_a_row_is_one_that_an_episode_can_have(row, message):
    env, state = saved_rows()
    state["episodes"]["rows"][1] |= row
    if message is None:
        env.set_state(state)
    else:
        with pytest.raises(ValueError, match=message):
            env.set_state(state)


@pytest.mark.parametrize("order", ["shuffled", "sequential"])
def test_a_walk_has_a_generator_if_it_is_shuffled_and_has_begun(order):
    env = TextGenerationEnv(**arguments(prompt_order=order))
    generator = env.np_random.bit_generator.state
    for position in 0, 1:
        needs = order == "shuffled" and position > 0
        state = env.get_state()
        for given in None, generator:
            state["episodes"]["cursors"] = [{"position": position, "pass_rng": given}]
            if needs is (given is not None):
                env.check_state("it", state)
            else:
                must_be = "the state of a generator" if needs else "null"
                with pytest.raises(ValueError, match=f"pass_rng must be {must_be}"):
                    env.check_state("it", state)


def test_a_row_that_is_past_the_limit_of_steps_is_cut_off_with_the_next():
    _, state = saved_rows()
    env = vector()
    env.set_state(state)
    for _ in range(3):
        env.step(np.full(2, word(1)))
    limited = TextGenerationVectorEnv(**arguments(), num_envs=2, max_episode_steps=2)
    limited.set_state(env.get_state())
    assert limited.step(np.full(2, word(1)))[3].tolist() == [True, True]


@pytest.mark.parametrize("last", [EOS, word(1)])
def test_a_row_that_has_ended_rests_though_the_score_of_another_failed(last):
    """Of `scorer_scope="token"`: the scorer is asked for the unfinished rows first."""

    def fails_for_w2(prompts, completions):
        if any("w2" in completion for completion in completions):
            raise KeyError("w2")
        return [1.0] * len(prompts)

    env = TextGenerationVectorEnv(
        **arguments(scorer=fails_for_w2, scorer_scope="token", max_new_tokens=2),
        num_envs=2,
        autoreset_mode="Disabled",
    )
    env.reset(seed=0)
    env.step(np.array([word(1), word(1)]))
    env.reset(options={"reset_mask": np.array([False, True])})
    with pytest.raises(ScorerError):
        env.step(np.array([last, word(2)]))
    with pytest.raises(Exception, match=r"rows \[0\] have ended"):
        env.step(np.array([word(1), word(1)]))
