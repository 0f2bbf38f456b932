"""`llm-gym train` and `evaluate` on conversations with a world."""

from __future__ import annotations

import json

import gymnasium as gym
import pytest

from llm_gym.stages.by_name import has_turns
from llm_gym.stages.environment import TurnConfig
from llm_gym.stages.train import TrainConfig, build_algorithm, load_config, train

WORLD = """
class Echo:
    def __init__(self, words=2):
        self.words = words

    def reset(self, *, seed):
        self.turns = 0
        return f"w{seed % self.words}"

    def step(self, text):
        self.turns += 1
        return "w3", float(text.startswith("w")), self.turns == 3, False, {}
"""


@pytest.fixture
def config(tiny_dir, tmp_path):
    (tmp_path / "world.py").write_text(WORLD)

    def make(**overrides):
        usual = {
            "world": f"{tmp_path / 'world.py'}:Echo",
            "model": tiny_dir(),
            "num_envs": 4,
            "max_turn_tokens": 3,
            "context_length": 24,
            "total_tokens": 48,
            "eval_conversations": 3,
            "checkpoint_every": 1,
            "kl_coef": 0.1,
        }
        return TrainConfig(**usual | overrides)

    return make


def test_a_run_on_a_world_is_evaluated_shown_and_resumed(config, tmp_path):
    given = config(turn_gamma=0.9, world_kwargs=["words=3"], max_turns=2)
    assert given.env == "llm_gym/Turns-v0"
    train(tmp_path / "whole", given)
    run = train(tmp_path / "parts", config(**{**vars(given), "total_tokens": 24}))
    assert run.evaluations["after"].mean_turns == 2
    resumed = TrainConfig(**{**vars(load_config(tmp_path / "parts")), "total_tokens": 48})
    assert resumed.turn_gamma == 0.9
    train(tmp_path / "parts", resumed, resume=True)
    samples = [(tmp_path / name / "samples.jsonl").read_text() for name in ("whole", "parts")]
    assert samples[0] == samples[1]
    sample = json.loads(samples[0].splitlines()[0])
    assert [message["role"] for message in sample["messages"][:2]] == ["user", "assistant"]
    found = json.loads((tmp_path / "whole" / "evaluation.json").read_text())["after"]
    assert len(found["rows"]) == 3
    assert found["rows"][1]["messages"][0]["content"] == "w1"


@pytest.mark.parametrize("algorithm", ["ppo", "rloo"])
def test_a_registered_environment_is_trained_on_by_its_id(config, algorithm):
    id = "test/Echo-v0"
    if id not in gym.registry:
        gym.register(
            id,
            entry_point="llm_gym.turns:TurnEnv",
            vector_entry_point="llm_gym.turns:TurnVectorEnv",
            kwargs={"world": config().world, "context_length": 20, "max_turns": 2},
        )
    assert has_turns(id)
    assert not has_turns("llm_gym/PoliteEmail-v0")
    options = {"on_max_length": "terminate"}
    model = build_algorithm(
        config(env=id, world=None, context_length=None, algorithm=algorithm, **options)
    )
    assert model.env.get_attr("max_turns")[0] == 2
    assert model.observation_space["input_ids"].shape == (20,)
    model.learn(12)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"scorer": "length:3"}, "scorer='length:3' is of prompts"),
        ({"env": "llm_gym/PoliteEmail-v0"}, "world=.* is of conversations, but .*PoliteEmail"),
        ({"world": None, "env": "llm_gym/PoliteEmail-v0"}, "max_turn_tokens=3 is of conv"),
        ({"world_kwargs": ["words"]}, "world_kwargs='words' must be NAME=VALUE"),
        ({"eval_conversations": -1}, "eval_conversations=-1"),
    ],
)
def test_settings_of_worlds_and_of_prompts_do_not_mix(config, overrides, message):
    with pytest.raises(ValueError, match=message):
        config(**overrides)


def test_what_a_world_needs_is_said(config):
    with pytest.raises(ValueError, match=r"Turns-v0 needs world: give --world"):
        build_algorithm(config(env="llm_gym/Turns-v0", world=None))
    with pytest.raises(ValueError, match=r"world file 'nowhere.py' does not exist"):
        build_algorithm(config(world="nowhere.py:Echo"))


def test_arguments_of_a_world_are_json_or_text():
    told = TurnConfig(world_kwargs=["n=3", "level=light", 'names=["a"]', "on=true", "x=a=b"])
    assert told.world_arguments() == {
        "n": 3,
        "level": "light",
        "names": ["a"],
        "on": True,
        "x": "a=b",
    }
