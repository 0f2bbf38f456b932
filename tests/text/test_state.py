from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from llm_gym import TextGenerationEnv, TextGenerationVectorEnv
from llm_gym.scorers.texts import messages_of
from llm_gym.testing.conformance import assert_same
from tests.text.helpers import arguments, word

ACTIONS = np.random.default_rng(0).choice([1, word(1), word(2), word(3)], size=(60, 4))


def stream():
    return ({"prompt": f"w{n % 25}", "number": n} for n in itertools.count())


def through_json(state):
    return json.loads(json.dumps(state))


def results(env, actions):
    """Steps of a single environment, with resets."""
    for action in actions[:, 0]:
        step = env.step(action)
        yield step
        if step[2] or step[3]:
            yield env.reset()


@pytest.mark.parametrize("order", ["shuffled", "sequential"])
@pytest.mark.parametrize("moment", [0, 1, 7, 23])
def test_single_continues_identically(order, moment):
    options = arguments(prompt_order=order, min_new_tokens=0)
    env = TextGenerationEnv(**options)
    env.reset(seed=3)
    list(results(env, ACTIONS[:moment]))
    state = through_json(env.get_state())
    expected = list(results(env, ACTIONS[moment:]))
    restored = TextGenerationEnv(**options)
    observation = restored.set_state(state)
    assert restored.observation_space.contains(observation)
    assert_same(list(results(restored, ACTIONS[moment:])), expected, "continues identically")


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("prompts", ["list", "stream"])
@pytest.mark.parametrize("moment", [0, 1, 7, 23])
def test_vector_continues_identically(mode, prompts, moment):
    def make():
        source = {"prompts": stream(), "max_prompt_tokens": 1} if prompts == "stream" else {}
        return TextGenerationVectorEnv(
            **arguments(stop_strings=["w3"], **source),
            num_envs=4,
            group_size=2,
            autoreset_mode=mode,
        )

    env = make()
    env.reset(seed=3)
    steps = [env.step(actions) for actions in ACTIONS[:moment]]
    state = through_json(env.get_state())
    expected = [env.step(actions) for actions in ACTIONS[moment:]]
    restored = make()
    observation = restored.set_state(state)
    if steps:
        assert_same(observation, steps[-1][0], "the observation at that moment")
    assert_same([restored.step(actions) for actions in ACTIONS[moment:]], expected, "continues")


def test_masks_are_enforced_after_set_state():
    env = TextGenerationEnv(**arguments(min_new_tokens=2))
    env.reset(seed=0)
    env.step(word(1))
    restored = TextGenerationEnv(**arguments(min_new_tokens=2))
    restored.set_state(env.get_state())
    assert_same(restored.action_masks(), env.action_masks(), "masks")
    with pytest.raises(ValueError, match="masked"):
        restored.step(1)


def test_taking_the_state_changes_nothing():
    env, second = (TextGenerationVectorEnv(**arguments(), num_envs=4) for _ in range(2))
    env.reset(seed=1)
    second.reset(seed=1)
    for actions in ACTIONS[:20]:
        second.get_state()
        assert_same(second.step(actions), env.step(actions), "same steps")


def test_state_may_be_taken_before_the_first_reset():
    env = TextGenerationVectorEnv(**arguments(), num_envs=2)
    restored = TextGenerationVectorEnv(**arguments(), num_envs=2)
    restored.set_state(through_json(env.get_state()))
    assert_same(restored.reset(), env.reset(), "first reset")


def test_stream_cannot_be_rewound():
    def make():
        return TextGenerationEnv(**arguments(prompts=stream(), max_prompt_tokens=1))

    env = make()
    env.reset()
    state = env.get_state()
    env.reset()
    with pytest.raises(ValueError, match="cannot be rewound from prompt 2 to 1"):
        env.set_state(state)
    fresh = make()
    fresh.set_state(state)
    assert fresh.reset()[1]["prompt_index"] == 1


def test_stream_that_ends_before_the_state():
    env = TextGenerationEnv(**arguments(prompts=stream(), max_prompt_tokens=1))
    for _ in range(3):
        env.reset()
    short = TextGenerationEnv(**arguments(prompts=iter(["w1"]), max_prompt_tokens=1))
    with pytest.raises(ValueError, match="after 3 prompts, but this stream ended after 1"):
        short.set_state(env.get_state())


@pytest.mark.parametrize(
    ("overrides", "num_envs", "message"),
    [
        ({"prompts": ["w1"]}, 2, "other prompts \\(5 of them, here are 1\\)"),
        ({"prompts": ["w1", "w1", "w1", "w1", "w1"]}, 2, "other prompts"),
        ({}, 3, "of 2 rows, this environment has 3"),
        ({"max_new_tokens": 1, "max_prompt_tokens": 4}, 2, "more than the 5"),
        ({"max_new_tokens": 2, "max_prompt_tokens": 4}, 2, "has 7 tokens, more than the 6"),
    ],
)
def test_state_of_another_environment(overrides, num_envs, message):
    env = TextGenerationVectorEnv(**arguments(), num_envs=2)
    env.reset(options={"prompt_index": 3})
    for _ in range(3):
        env.step(np.array([word(1), word(1)]))
    restored = TextGenerationVectorEnv(**arguments(**overrides), num_envs=num_envs)
    with pytest.raises(ValueError, match=message):
        restored.set_state(env.get_state())


def test_columns_of_a_list_need_not_be_json():
    """Prompts of a list are saved by their index."""
    options = arguments(prompts=[{"prompt": "w1", "check": word}, "w2"])
    env = TextGenerationEnv(**options)
    env.reset(seed=0)
    restored = TextGenerationEnv(**options)
    restored.set_state(through_json(env.get_state()))
    assert_same(restored.step(word(1)), env.step(word(1)), "continues")


def test_prompt_given_at_reset_is_part_of_the_state():
    env, restored = (TextGenerationEnv(**arguments()) for _ in range(2))
    env.reset(options={"prompt": {"prompt": "w9", "answer": 4}})
    restored.set_state(through_json(env.get_state()))
    restored.step(1)
    assert restored._mdp.scoring._scorer.batches == [(["w9"], [""], {"answer": [4]})]


def test_a_conversation_given_at_reset_is_one_after_the_state():
    """Scorers that read turns are handed them, not their text alone."""
    turns = [{"role": "user", "content": "w4"}, {"role": "assistant", "content": "w5"}]
    options = arguments()
    options["tokenizer"].chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    env, restored = TextGenerationEnv(**options), TextGenerationEnv(**options)
    env.reset(options={"prompt": turns})
    restored.set_state(through_json(env.get_state()))
    before, after = (e._episodes.prompt(0).row.text for e in (env, restored))
    assert messages_of(before) == messages_of(after) == turns
    assert before == after


def test_a_state_with_tokens_beyond_the_vocabulary_is_refused():
    env = TextGenerationVectorEnv(**arguments(), num_envs=2)
    env.reset(seed=0)
    env.step(np.array([word(1), word(1)]))
    state, size = json.loads(json.dumps(env.get_state())), int(env.single_action_space.n)
    for token in (-1, size):
        state["episodes"]["rows"][1]["completion_ids"] = [token]
        with pytest.raises(ValueError, match=r"rows\[1\]"):
            env.set_state(state)
    state["episodes"]["rows"][1]["completion_ids"] = [size - 1]
    env.set_state(state)


def test_a_row_that_goes_on_from_a_state_has_no_seed_any_more():
    """As in Gymnasium, where a generator was put in that no seed made."""
    env = TextGenerationVectorEnv(**arguments(), num_envs=2)
    env.reset(seed=[3, 4])
    assert env.np_random_seed == (3, 4)
    env.set_state(through_json(env.get_state()))
    assert env.np_random_seed == (-1, -1)
