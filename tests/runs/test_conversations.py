"""Conversations with a world are evaluated by returns and turns, and shown with both sides."""

from __future__ import annotations

import json

import numpy as np
import pytest

import llm_gym
from llm_gym import GymVecEnv
from llm_gym.runs.callbacks import SampleCallback
from llm_gym.runs.callbacks.samples import SHOWN
from llm_gym.text.answer import Conversation
from tests.turns.test_learning import FRESH, settings, turn_env
from tests.turns.worlds import Words, arguments


def talk(model, num_envs=3, **overrides):
    return llm_gym.evaluate(
        model, arguments(**overrides), max_prompts=5, num_envs=num_envs, deterministic=True
    )


@pytest.mark.parametrize("options", [{"max_turns": 3}, FRESH], ids=["whole", "anew"])
def test_each_seed_is_one_conversation_whatever_the_batch(tiny_dir, options):
    found = talk(tiny_dir(), **options)
    assert [row.prompt_index for row in found.rows] == [0, 1, 2, 3, 4]
    assert found.rows == talk(tiny_dir(), num_envs=1, **options).rows
    for row in found.rows:
        assert isinstance(row, Conversation)
        world, paid = Words(), 0.0
        said = [world.reset(seed=row.prompt_index)]
        for message in [m for m in row.messages if m["role"] == "assistant"]:
            text, reward, *ends, _ = world.step(message["content"])
            said.append(text)
            paid += reward
        assert row.score == paid
        assert [m["content"] for m in row.messages if m["role"] == "user"] == said
        assert row.end_reason == ("world" if any(ends) else "max_turns")
        assert row.turns == len(said) - 1 <= row.tokens <= 4 * row.turns
    turns = [row.turns for row in found.rows]
    assert found.mean_score == np.mean([row.score for row in found.rows])
    assert found.mean_turns == np.mean(turns)
    assert found.turns_low <= found.mean_turns <= found.turns_high
    assert found.mean_length == np.mean([row.tokens for row in found.rows])
    assert found.share_ended == np.mean([row.end_reason == "world" for row in found.rows])
    rows = json.loads(json.dumps(found.to_dict()))["rows"]
    assert rows[2]["messages"] == list(found.rows[2].messages)
    assert rows[2]["turns"] == turns[2]


def test_answers_have_no_turns(tiny_dir):
    task = {"tokenizer": tiny_dir(), "prompts": ["w1", "w2"], "max_new_tokens": 3}
    found = llm_gym.evaluate(tiny_dir(), {**task, "scorer": lambda p, c: [0.0] * len(p)})
    assert found.mean_turns is None
    assert "mean_turns" not in found.to_dict()


def test_samples_have_both_sides(tiny_dir, tmp_path):
    path = tmp_path / "samples.jsonl"
    env = GymVecEnv(turn_env(2, world_kwargs={"turns": 60}, max_turns=60, turns_in_context=1))
    ppo = llm_gym.PPO("TransformerPolicy", env, **settings(tiny_dir, n_steps=160, batch_size=160))
    callback = SampleCallback(path=path)
    ppo.learn(320, callback=callback)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        assert roles[:2] == ["user", "assistant"]
        assert len(roles) <= SHOWN + 1
        assert ("note" in roles) == (2 * row["turns"] + 1 > SHOWN)
        assert row["end_reason"] in ("world", "max_turns")
    assert callback.latest[-1].completion.startswith("agent: ")
