"""The environments of reasoning-gym's tasks: their contract, arguments and registration."""

from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from llm_gym_reasoning import SMALL_TASKS
from llm_gym_reasoning.task import environment_kwargs

from llm_gym.language_models import SFT_MODEL, load_tokenizer
from llm_gym.testing.conformance import EnvironmentConformance, VectorEnvironmentConformance
from llm_gym.testing.tiny import tiny_tokenizer
from llm_gym.text import TextGenerationEnv

FEW = {"size": 24, "test_size": 6}
GENERAL = {"task": "gcd", "settings": {"max_value": 30}, "max_new_tokens": 6, **FEW}
CASES = [("llm_gym/Reasoning-v0", GENERAL)] + [(t.env_id, FEW) for t in SMALL_TASKS.values()]


class Rules(EnvironmentConformance):
    env_id: str
    kwargs: dict

    max_steps = 10

    def make_env(self):
        return gym.make(self.env_id, **self.kwargs)


class VectorRules(VectorEnvironmentConformance):
    env_id: str
    kwargs: dict

    num_steps = 20

    def make_env(self, row, num_rows):
        return gym.make(self.env_id, **self.kwargs)

    def make_vector_env(self, num_envs, autoreset_mode):
        return gym.make_vec(
            self.env_id, num_envs=num_envs, autoreset_mode=autoreset_mode, **self.kwargs
        )


class TestReasoning(Rules):
    env_id, kwargs = CASES[0]


class TestChainSum(Rules):
    env_id, kwargs = CASES[1]


class TestSpellBackward(Rules):
    env_id, kwargs = CASES[2]


class TestReasoningVector(VectorRules):
    env_id, kwargs = CASES[0]


class TestChainSumVector(VectorRules):
    env_id, kwargs = CASES[1]


class TestSpellBackwardVector(VectorRules):
    env_id, kwargs = CASES[2]


def answer(env, text):
    """Play an episode that answers `text`; returns reward and the last info."""
    tokenizer = load_tokenizer(SFT_MODEL)
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    for token in ids:
        _, reward, terminated, _, info = env.step(token)
    assert terminated
    return reward, info


def test_a_right_answer_earns_1_and_a_wrong_one_0():
    env = gym.make("llm_gym/ReasoningChainSum-v0", **FEW)
    _, info = env.reset(seed=0)
    problem = info["prompt"].removeprefix(
        "State the final answer to the following arithmetic problem: "
    )
    first, *rest = problem.removesuffix(" =").split()
    total = int(first)
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        total += int(number) if sign == "+" else -int(number)
    reward, info = answer(env, str(total))
    assert reward == 1.0
    assert info["score_parts"] == {"correct": 1.0, "unreadable": 0.0}
    env.reset(seed=0)
    reward, info = answer(env, "x")
    assert reward == 0.0
    assert info["score_parts"]["correct"] == 0.0


def test_a_group_gets_the_same_question():
    env = gym.make_vec("llm_gym/ReasoningSpellBackward-v0", num_envs=6, group_size=3, **FEW)
    _, infos = env.reset(seed=1)
    prompts = infos["prompt"]
    assert prompts[0] == prompts[1] == prompts[2]
    assert prompts[3] == prompts[4] == prompts[5]
    assert prompts[0] != prompts[3]


def test_both_splits_have_the_same_spaces():
    train, test = (
        gym.make("llm_gym/ReasoningChainSum-v0", split=split, **FEW) for split in ("train", "test")
    )
    assert train.observation_space == test.observation_space
    assert train.action_space == test.action_space


def test_named_tasks_have_the_settings_they_say():
    for small in SMALL_TASKS.values():
        kwargs = gym.spec(small.env_id).kwargs
        assert kwargs["task"] == small.task
        assert kwargs["settings"] == small.settings
        assert kwargs["split"] == "train"


def test_questions_are_shown_by_the_chat_template_where_there_is_one():
    def shown(**kwargs):
        return TextGenerationEnv(**environment_kwargs(**GENERAL, **kwargs)).prompt_format.shown

    assert shown() == "<|user|>{prompt}<|assistant|>"
    assert shown(tokenizer=tiny_tokenizer()) == "{prompt}"
    assert shown(prompt_template="Q: {prompt} A:") == "Q: {prompt} A:"


def test_own_prompts_need_the_entry():
    prompts = [{"prompt": "2 + 3 =", "entry": {"answer": "5"}}]
    env = gym.make("llm_gym/ReasoningChainSum-v0", prompts=prompts)
    env.reset(seed=0)
    assert answer(env, "5")[0] == 1.0
    env = gym.make("llm_gym/ReasoningChainSum-v0", prompts=["2 + 3 ="])
    env.reset(seed=0)
    with pytest.raises(ValueError, match="draw_questions"):
        answer(env, "5")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"task": "chain_summ"}, "'chain_summ' is no dataset .* 'chain_sum'"),
        ({}, "task is missing"),
        ({"task": "gcd", "split": "valid"}, "split must be"),
        ({"task": "gcd", "answer_format": "xml"}, "answer_format='xml'"),
        ({"task": "gcd", "settings": {"max_valu": 3}}, "no setting 'max_valu'.*'max_value'"),
        ({"task": "gcd", "settings": {"seed": 3}}, "give seed="),
        ({"task": "gcd", "settings": {"max_value": -3}}, "do not fit task='gcd'"),
        ({"task": "gcd", "size": 0}, "size=0 must be at least 1"),
        ({"task": "puzzle24"}, "run_answers=True"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        environment_kwargs(**kwargs)


def test_run_answers_opens_what_evaluates_answers():
    assert environment_kwargs(task="puzzle24", run_answers=True, size=4, test_size=1)["prompts"]


def test_an_answer_that_never_ends_is_worth_nothing():
    """`time_limit` has a default, so that `run_answers=True` cannot stop a run for good."""
    few = {"run_answers": True, "size": 2, "test_size": 1}
    assert environment_kwargs("countdown", **few)["scorer"].time_limit == 5.0
    task = environment_kwargs("countdown", **few, time_limit=0.5)
    entry = task["prompts"][0]["entry"]
    right = entry["metadata"]["expression"]
    for answer in ("9**9**9**9", "10**10**10", "exit()", "(" * 300):
        scores = task["scorer"].score(["?"] * 2, [answer, right], {"entry": [entry] * 2})
        assert scores.values[0] < 0.1
        assert scores.parts["correct"].tolist() == [0.0, 1.0]
    assert environment_kwargs("gcd", size=2, test_size=1)["scorer"].time_limit is None


def test_without_reasoning_gym_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ImportError, match="pip install reasoning-gym"):
        gym.make("llm_gym/ReasoningChainSum-v0")


def test_importing_the_package_is_light_and_registers():
    code = (
        "import sys, llm_gym_reasoning, gymnasium; "
        "assert 'llm_gym/Reasoning-v0' in gymnasium.registry; "
        "assert not {'torch', 'transformers', 'reasoning_gym'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_observations_hold_the_question():
    env = gym.make("llm_gym/ReasoningSpellBackward-v0", **FEW)
    observation, info = env.reset(seed=3)
    length = int(observation["attention_mask"].sum())
    text = load_tokenizer(SFT_MODEL).decode(np.asarray(observation["input_ids"])[:length])
    assert info["prompt"] in text
