"""Scorers by name, wherever a scorer is taken."""

from __future__ import annotations

import json

import gymnasium as gym
import pytest

import llm_gym
from llm_gym import scorers
from llm_gym.scorers.by_name import scorer_from_name
from tests.text.helpers import EOS, arguments, word


def test_scorers_by_name(tmp_path):
    assert isinstance(scorer_from_name("length:20"), scorers.LengthScorer)
    assert scorer_from_name("regex:a:b")(["p"], ["a:b"]) == [1.0]  # colons belong to the pattern
    assert isinstance(scorer_from_name("http://localhost:1/x"), scorers.HTTPScorer)
    assert scorer_from_name("tests.tiny_runs:count_w1")(["p"], ["w1 w1"]) == [2.0]
    file = tmp_path / "c:d.py"  # a colon in the path
    file.write_text("def f(prompts, completions): return [3.0] * len(prompts)")
    assert scorer_from_name(f"{file}:f")(["p"], ["x"]) == [3.0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kindness", "there is no scorer 'kindness'"),
        ("length:long", "length:WORDS needs a number"),
        ("politeness:", "there is no scorer 'politeness:'"),
        ("length:", "there is no scorer 'length:'"),
        ("classifier:some/model", "name the label too"),
        ("no_such_module:f", "cannot be imported"),
        ("tests.tiny_runs:nothing", "has no 'nothing'"),
        ("{file}:nothing", "has no 'nothing'"),
        ("{broken}:f", "cannot be run: ZeroDivisionError"),
    ],
)
def test_scorer_that_cannot_be_had_is_named(name, message, tmp_path):
    (tmp_path / "s.py").write_text("x = 1")
    (tmp_path / "b.py").write_text("1 / 0")
    with pytest.raises(ValueError, match=message):
        scorer_from_name(name.format(file=tmp_path / "s.py", broken=tmp_path / "b.py"))


def test_scorer_that_is_not_callable_is_refused(tmp_path):
    (tmp_path / "s.py").write_text("x = 1")
    with pytest.raises(TypeError, match="callable"):
        scorer_from_name(f"{tmp_path / 's.py'}:x")


@pytest.fixture
def registry():
    before = dict(gym.registry)
    yield
    gym.registry.clear()
    gym.registry.update(before)


def test_a_name_is_a_scorer_wherever_one_is_taken(registry):
    def reward(env):
        env.reset(seed=0)
        env.step(word(1))
        return env.step(EOS)[1]

    assert scorers.as_scorer("length:4")(["p"], ["two words"]) == [0.5]
    assert scorers.as_scorer("length:4", name="brief").name == "brief"
    assert isinstance(scorers.as_scorer("politeness"), llm_gym.PolitenessScorer)
    assert reward(gym.make("llm_gym/TextGeneration-v0", **arguments(scorer="length:2"))) == 0.5
    llm_gym.register_task("tests/Named-v0", **arguments(scorer="regex:^w1$"))
    assert reward(gym.make("tests/Named-v0")) == 1.0
    assert gym.make_vec("tests/Named-v0", num_envs=2).num_envs == 2
    total = scorers.WeightedSum(
        {"long": ("length:4", 2.0), "w": (scorers.Clip("length:2", 0, 0.5), 1)}
    )
    assert total(["p"], ["two words"]) == [1.5]


def test_the_specification_of_an_environment_with_a_named_scorer_is_json():
    env = gym.make("llm_gym/PoliteEmail-v0", scorer="length:20", max_new_tokens=3)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.spec.kwargs["scorer"] == "length:20"
    steps = []
    for made in (env, again):
        made.reset(seed=0)
        steps.append([made.step(10)[1:3] for _ in range(3)])
    assert steps[0] == steps[1]
    assert steps[0][-1][0] > 0  # a word or more of 20
    vector = gym.make_vec("llm_gym/PoliteEmail-v0", num_envs=2, scorer="length:20")
    assert json.loads(vector.spec.to_json())["kwargs"]["scorer"] == "length:20"


def test_the_specification_of_a_task_of_plain_data_is_json(registry):
    """What `register_task` is given by name and path can be written down and made again."""
    task = {"tokenizer": "llm_gym/email-sft", "prompts": ["Say hello."], "scorer": "politeness"}
    llm_gym.register_task("tests/Plain-v0", **task, max_new_tokens=4)
    written = gym.make("tests/Plain-v0", max_new_tokens=3).spec.to_json()
    del gym.registry["tests/Plain-v0"]
    env = gym.make(gym.envs.registration.EnvSpec.from_json(written))
    assert env.reset(seed=0)[1]["prompt"] == "Say hello."
    assert env.unwrapped.max_new_tokens == 3


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(
        ValueError, match=r"no scorer 'distilbert'.*\n(?s:.*)classifier:MODEL#LABEL"
    ):
        gym.make("llm_gym/PoliteEmail-v0", scorer="distilbert")
