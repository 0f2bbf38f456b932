"""What a turn environment does, told by hand: turns, increments, ends, masks, rewards."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.wrappers import TransformReward

import llm_gym
from llm_gym import TextGenerationEnv, TurnEnv, TurnVectorEnv
from llm_gym.testing.conformance import assert_same
from tests.chat_tokenizers import TOKENIZERS
from tests.text.helpers import EOS, Recorder, word
from tests.text.helpers import arguments as of_texts
from tests.turns.worlds import Guess, Scripted, Words, arguments


def play(env, tokens):
    """Steps through tokens; the last result."""
    for token in tokens:
        result = env.step(token)
    return result


def tokens_of(observation, mask="attention_mask"):
    return observation["input_ids"][observation[mask].astype(bool)].tolist()


def test_a_turn_ends_at_eos_and_the_world_answers_in_that_step():
    world = Scripted(
        "w1 w2", [("w3", 0.5, False, False, {"lives": 2}), ("w4", 1.0, True, False, {})]
    )
    env = TurnEnv(**arguments(world=world))
    observation, info = env.reset(seed=0)
    assert tokens_of(observation) == [word(1), word(2)]
    assert info["prompt"] == "w1 w2"
    observation, reward, terminated, truncated, info = env.step(word(7))
    assert (reward, terminated, truncated, info) == (0.0, False, False, {})
    observation, reward, terminated, truncated, info = env.step(EOS)
    assert (reward, terminated, truncated) == (0.5, False, False)
    assert tokens_of(observation) == [word(1), word(2), word(7), EOS, word(3)]
    assert tokens_of(observation, "completion_mask") == [word(7), EOS]
    assert info == {
        "turn": 1,
        "completion": "w7",
        "stop_reason": "eos",
        "world_text": "w3",
        "world_info": {"lives": 2},
    }
    observation, reward, terminated, truncated, info = play(env, [word(8), word(9), EOS])
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert tokens_of(observation, "completion_mask") == [word(7), EOS, word(8), word(9), EOS]
    assert info["end_reason"] == "world"
    assert info["score"] == 1.5
    assert info["prompt"] == "w1 w2"
    assert info["messages"] == [
        {"role": "user", "content": "w1 w2"},
        {"role": "assistant", "content": "w7"},
        {"role": "user", "content": "w3"},
        {"role": "assistant", "content": "w8 w9"},
        {"role": "user", "content": "w4"},
    ]
    with pytest.raises(ResetNeeded):
        env.step(word(1))


def test_a_turn_ends_at_its_budget_and_at_a_stop_string():
    env = TurnEnv(**arguments(world=Scripted(), stop_strings=["w5"]))
    env.reset(seed=0)
    info = play(env, [word(7)] * 4)[-1]
    assert (info["stop_reason"], info["completion"]) == ("length", "w7 w7 w7 w7")
    info = play(env, [word(8), word(5)])[-1]
    assert (info["turn"], info["stop_reason"], info["completion"]) == (2, "stop_string", "w8 ")
    info = play(env, [word(5)])[-1]  # the stop string of another turn is none of this one
    assert (info["turn"], info["completion"]) == (3, "")


@pytest.mark.parametrize("on_max_length", ["truncate", "terminate"])
def test_turns_and_context_are_budgets_with_a_reason(on_max_length):
    env = TurnEnv(**arguments(world=Scripted(), max_turns=2, on_max_length=on_max_length))
    env.reset(seed=0)
    play(env, [EOS])
    observation, _, terminated, truncated, info = play(env, [EOS])
    assert (terminated, truncated) == (on_max_length == "terminate", on_max_length == "truncate")
    assert info["end_reason"] == "max_turns"
    assert ("score" in info) == terminated
    assert tokens_of(observation)[-1] == word(2)  # the rest can be judged from what the world said

    env = TurnEnv(**arguments(world=Scripted(), context_length=9, on_max_length=on_max_length))
    env.reset(seed=0)
    play(env, [word(7)] * 4)  # w1 w7 w7 w7 w7 w2: three are left
    observation, _, terminated, truncated, info = play(env, [word(8)] * 3)
    assert (terminated, truncated) == (on_max_length == "terminate", on_max_length == "truncate")
    assert (info["stop_reason"], info["end_reason"]) == ("length", "context_length")
    assert info["completion"] == "w8 w8 w8"
    assert observation["attention_mask"].all()


def test_a_context_begins_anew_with_the_worlds_last_words():
    options = {"max_turns": 4, "turns_in_context": 2, "context_length": 8}
    env = TurnEnv(**arguments(world=Scripted("w1"), **options))
    assert env.max_new_tokens == 16  # more than there is room for in one context
    env.reset(seed=0)
    observation, *_ = play(env, [word(7), EOS])
    assert tokens_of(observation) == [word(1), word(7), EOS, word(2)]
    observation, _, _, truncated, info = play(env, [word(8), EOS])
    assert tokens_of(observation) == [word(2)]
    assert not observation["completion_mask"].any()
    assert (truncated, info["turn"]) == (False, 2)
    observation, _, _, truncated, info = play(env, [word(9), EOS, word(5), EOS])
    assert tokens_of(observation) == [word(2)]  # what a critic reads of a conversation cut off
    assert (truncated, info["turn"], info["end_reason"]) == (True, 4, "max_turns")
    said = [message["content"] for message in info["messages"]]
    assert said == ["w1", "w7", "w2", "w8", "w2", "w9", "w2", "w5", "w2"]
    with pytest.raises(ValueError, match="say with max_turns how many"):
        TurnEnv(**arguments(turns_in_context=2))


def test_a_world_that_truncates_is_truncated_with_its_last_words():
    env = TurnEnv(**arguments(world=Scripted(answers=[("w9", 2.0, False, True, {})])))
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = play(env, [word(7), EOS])
    assert (reward, terminated, truncated, info["end_reason"]) == (2.0, False, True, "world")
    assert tokens_of(observation)[-1] == word(9)


def test_the_chat_template_closes_a_turn_that_the_agent_did_not():
    tokenizer = TOKENIZERS["chatml"]()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    (letter,) = tokenizer("a", add_special_tokens=False)["input_ids"]
    world = Scripted("hi", [("more", 0.0, False, False, {})])
    options = {"tokenizer": tokenizer, "world": world, "context_length": 200, "max_turn_tokens": 2}
    shown = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    answer = "<|im_end|>\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\n"
    for turn in ([letter, letter], [letter, end]):
        env = TurnEnv(**arguments(**options))
        env.reset(seed=0)
        observation = play(env, turn)[0]
        said = "aa" if turn[-1] == letter else "a"
        assert tokenizer.decode(tokens_of(observation)) == f"{shown}{said}{answer}"
        assert tokens_of(observation, "completion_mask") == turn


def test_one_turn_is_the_text_environment_step_for_step():
    """`TextGenerationEnv` is the special case: equal observations, rewards and ends."""
    make = lambda: TextGenerationEnv(**of_texts(scorer=Recorder()))  # noqa: E731
    text = make()
    length = text.observation_space["input_ids"].shape[0]
    turns = TurnEnv(
        **arguments(
            world=lambda: llm_gym.as_turns(make()), max_turn_tokens=5, context_length=length
        )
    )
    assert turns.observation_space == text.observation_space
    rng = np.random.default_rng(0)
    reasons = set()
    turns.reset(seed=1)
    for _ in range(60):
        observation, info = turns.reset()
        expected, expected_info = text.reset(seed=info["prompt_index"])
        assert_same(observation, expected, "the observation at reset")
        assert info["prompt"] == expected_info["prompt"]
        ended = False
        while not ended:
            action = int(rng.integers(32)) if rng.random() < 0.8 else EOS
            result, wanted = turns.step(action), text.step(action)
            assert_same(list(result[:4]), list(wanted[:4]), "the step")
            ended = wanted[2]
        for key in ("prompt", "completion", "stop_reason", "score"):
            assert result[4][key] == wanted[4][key], key
        reasons.add(wanted[4]["stop_reason"])
    assert reasons == {"eos", "length"}


def test_as_turns_is_the_way_back_from_turns_too():
    """A conversation through tokens and back says and pays what the world itself does."""
    world = llm_gym.as_turns(TurnEnv(**arguments(world=Words, context_length=60)))
    text, info = world.reset(seed=3)
    plain = Words()
    assert plain.reset(seed=info["prompt_index"]) == text
    ended = False
    while not ended:
        result, wanted = world.step("w3 w4"), plain.step("w3 w4")
        ended = wanted[2] or wanted[3]
        assert result[:4] == wanted[:4]


def test_what_goes_beyond_a_turn_is_not_said_in_the_next_one():
    answers = [(f"w{n}", float(n), False, False, {}) for n in (1, 2, 3)]
    world = llm_gym.as_turns(TurnEnv(**arguments(world=Scripted("w1", answers), max_turn_tokens=2)))
    world.reset(seed=0)
    for turn in (1, 2):
        text, reward, *_, info = world.step("w3 w4 w5 w6 w7")
        assert (text, reward, info["turn"]) == (f"w{turn}", float(turn), turn)
        assert info["completion"] == "w3 w4"


@pytest.mark.parametrize(
    ("options", "longest"),
    [
        ({}, 63),
        ({"max_turns": 3}, 24),
        ({"max_turns": 9}, 63),
        ({"max_turns": 9, "turns_in_context": 1}, 72),
    ],
)
def test_the_most_tokens_of_a_conversation(options, longest):
    env = TurnEnv(**arguments(max_turn_tokens=8, context_length=64, **options))
    assert env.max_new_tokens == longest


def test_control_tokens_in_a_text_for_as_turns_are_text():
    tokenizer = TOKENIZERS["chatml"]()
    env = TextGenerationEnv(tokenizer, ["hi"], Recorder(), max_new_tokens=40)
    world = llm_gym.as_turns(env)
    world.reset(seed=0)
    *_, info = world.step("a</s>b<|im_end|>c")
    assert info["completion"] == "a</s>b<|im_end|>c"
    assert info["stop_reason"] == "eos"


def test_a_turn_is_paid_for_each_of_its_tokens():
    """Where a wrapper, or a scorer of tokens, pays on the way, as at the end."""
    paid = []
    for bonus in (0.0, 1.0, -0.25):
        env = TransformReward(TextGenerationEnv(**of_texts()), lambda r, b=bonus: r + b)
        world = llm_gym.as_turns(env)
        world.reset(seed=0)
        paid.append(world.step("w3 w4")[1])
    assert paid[1:] == [paid[0] + 3.0, paid[0] - 0.75]  # two words and the end


def test_as_turns_refuses_what_has_no_tokens():
    with pytest.raises(TypeError, match=r"must be a single environment of tokens"):
        llm_gym.as_turns(Guess())
    with pytest.raises(ValueError, match="a token ends a turn"):
        llm_gym.as_turns(TextGenerationEnv(**of_texts(eos_token_id=())))


def test_a_start_can_be_chosen_and_comes_again():
    env = gym.make("llm_gym/Turns-v0", **arguments())
    first, info = env.reset(seed=5)
    again, chosen = env.reset(options={"prompt_index": info["prompt_index"]})
    assert_same(first, again, "the start")
    assert chosen["prompt_index"] == info["prompt_index"]
    assert env.reset()[1]["prompt_index"] != info["prompt_index"]
    for bad, error in ((-1, ValueError), (2**31, ValueError), (True, TypeError), ("x", TypeError)):
        with pytest.raises(error, match="prompt_index"):
            env.reset(options={"prompt_index": bad})
    with pytest.raises(ValueError, match="unknown reset option 'prompt'"):
        env.reset(options={"prompt": "w1"})


def test_rows_of_a_group_begin_alike():
    env = TurnVectorEnv(**arguments(), num_envs=6, group_size=3, autoreset_mode="SameStep")
    _, infos = env.reset(seed=0)
    for _ in range(2):
        starts = infos["prompt_index"]
        assert starts[0] == starts[1] == starts[2] != starts[3] == starts[4] == starts[5]
        ended = np.zeros(6, dtype=bool)
        while not ended.all():
            *_, terminated, truncated, infos = env.step(np.where(ended, word(1), EOS))
            ended |= terminated | truncated
            if ended.all():
                break
        _, infos = env.reset()


def test_rows_of_processes_are_rows_of_one():
    whole = TurnVectorEnv(**arguments(), num_envs=4, group_size=2)
    expected = whole.reset(seed=5)[1]["prompt_index"].tolist()
    found = []
    for rank in range(2):
        env = TurnVectorEnv(**arguments(), num_envs=2, group_size=2, shard=(rank, 2))
        found += env.reset(seed=5)[1]["prompt_index"].tolist()
    assert found == expected
    with pytest.raises(ValueError, match=r"shard=\(2, 2\) needs"):
        TurnVectorEnv(**arguments(), shard=(2, 2))


def test_rendering_shows_the_conversation():
    env = TurnEnv(**arguments(world=Scripted("w1"), render_mode="ansi"))
    with pytest.raises(ResetNeeded):
        env.render()
    env.reset(seed=0)
    play(env, [word(7), EOS, word(8)])
    assert env.render().splitlines() == [
        "prompt    | w1 w7 <eos> w2",
        "completion| «w8»",
        "tokens    | 1 of 4",
    ]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_a_saved_conversation_goes_on(mode):
    """Worlds are told again what they were told; all that follows is the same."""
    options = arguments(max_turns=4, turns_in_context=1) if mode == "SameStep" else arguments()
    options["max_episode_steps"] = 9
    make = lambda: TurnVectorEnv(**options, num_envs=3, autoreset_mode=mode)  # noqa: E731
    env, other = make(), make()
    rng = np.random.default_rng(0)

    def step(envs):
        actions = rng.integers(1, 32, 3)
        results = [each.step(actions) for each in envs]
        if mode == "Disabled" and (ended := results[0][2] | results[0][3]).any():
            results += [each.reset(options={"reset_mask": ended}) for each in envs]
        return results

    env.reset(seed=3)
    for _ in range(9):
        step([env])
    observation = env._episodes.observation()
    assert_same(other.set_state(env.get_state()), observation, "the observation")
    for _ in range(30):
        first, second, *_ = step([env, other])
        assert_same(first, second, "the step")


def test_a_conversation_that_goes_on_is_worth_all_its_turns():
    def make():
        return TurnEnv(
            **arguments(
                world=Scripted("w1", [("w2", 0.5, False, False, {}), ("w3", 2.0, True, False, {})])
            )
        )

    env, other = make(), make()
    env.reset(seed=0)
    env.step(EOS)
    other.set_state(env.get_state())
    info = other.step(EOS)[4]
    assert (info["score"], info["turn"]) == (2.5, 2)
    assert [message["content"] for message in info["messages"]] == ["w1", "", "w2", "", "w3"]


def test_a_state_that_does_not_fit_is_refused():
    env = TurnEnv(**arguments())
    env.reset(seed=0)
    state = env.get_state()
    with pytest.raises(ValueError, match="rows must be"):
        TurnVectorEnv(**arguments(), num_envs=2).set_state(
            {**TurnVectorEnv(**arguments(), num_envs=2).get_state(), "episodes": state["episodes"]}
        )
    with pytest.raises(ValueError, match="when the state was saved it said"):
        TurnEnv(**arguments(world=Scripted)).set_state(state)
    longer = json.loads(json.dumps(state))
    longer["episodes"]["rows"][0]["by_agent"].append(0)
    with pytest.raises(ValueError, match="is no conversation"):
        env.set_state(longer)
    state["episodes"]["rows"][0]["said"] = []
    with pytest.raises(ValueError, match="is no conversation"):
        env.set_state(state)
