from __future__ import annotations

import sys
import warnings
from importlib.metadata import EntryPoint

import gymnasium as gym
import numpy as np
import pytest

import llm_gym
from llm_gym import registration
from tests.text.helpers import EOS, Recorder, arguments, byte_tokenizer


@pytest.fixture
def clean_registry():
    before = dict(gym.registry)
    yield
    gym.registry.clear()
    gym.registry.update(before)


def test_text_generation_is_made_by_its_id():
    env = gym.make("llm_gym/TextGeneration-v0", **arguments())
    assert isinstance(env.unwrapped, llm_gym.TextGenerationEnv)
    vector = gym.make_vec("llm_gym/TextGeneration-v0", num_envs=3, **arguments())
    assert isinstance(vector, llm_gym.TextGenerationVectorEnv)
    assert vector.spec.id == "llm_gym/TextGeneration-v0"


@pytest.mark.parametrize("split", ["train", "test"])
def test_polite_email_is_made_by_its_id(split):
    env = gym.make("llm_gym/PoliteEmail-v0", split=split, max_new_tokens=3)
    _, info = env.reset(seed=0)
    assert info["prompt"]
    vector = gym.make_vec("llm_gym/PoliteEmail-v0", 2, split=split, max_new_tokens=3)
    _, infos = vector.reset(seed=0)
    assert infos["prompt"][0] == info["prompt"]


def test_polite_email_splits_share_no_prompt():
    prompts = {}
    for split in ("train", "test"):
        env = gym.make("llm_gym/PoliteEmail-v0", split=split, tokenizer=byte_tokenizer())
        env.reset(seed=0)
        prompts[split] = {env.reset()[1]["prompt"] for _ in range(200)}
        assert len(prompts[split]) > 50
    assert not prompts["train"] & prompts["test"]


def test_unknown_split():
    with pytest.raises(ValueError, match="validation"):
        gym.make("llm_gym/PoliteEmail-v0", split="validation")


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_unknown_id_names_the_nearest(make):
    with pytest.raises(gym.error.NameNotFound, match="Did you mean: `TextGeneration`"):
        make("llm_gym/TextGenerator-v0")


def test_register_task(clean_registry):
    """A task is data; its scorer is shared, not copied, and `make` may override arguments."""
    scorer = Recorder()
    llm_gym.register_task("tests/Words-v0", **arguments(scorer=scorer))
    env = gym.make("tests/Words-v0")
    env.reset(seed=0)
    env.step(EOS)
    vector = gym.make_vec("tests/Words-v0", num_envs=2, max_new_tokens=2)
    vector.reset(seed=0)
    vector.step(np.array([EOS, EOS]))
    assert [len(batch[0]) for batch in scorer.batches] == [1, 2]
    assert vector.single_observation_space["input_ids"].shape == (6,)


def test_register_task_with_a_stream(clean_registry):
    """An iterator cannot be copied, so nothing may try to."""
    stream = (f"w{n}" for n in range(20))
    llm_gym.register_task("tests/Stream-v0", **arguments(prompts=stream, max_prompt_tokens=1))
    assert gym.make("tests/Stream-v0").reset()[1]["prompt"] == "w0"


def sums(split: str = "train", digits: int = 1, **overrides):
    """A task with arguments of its own."""
    return arguments(prompts=[f"w{digits} {split}"], **overrides)


@pytest.mark.parametrize("kwargs_of", [sums, "tests.test_registration:sums"])
def test_register_task_with_arguments_of_its_own(clean_registry, kwargs_of):
    llm_gym.register_task("tests/Sums-v0", kwargs_of, split="train")
    assert gym.spec("tests/Sums-v0").kwargs["split"] == "train"
    env = gym.make("tests/Sums-v0", digits=2, max_new_tokens=2)
    assert env.reset(seed=0)[1]["prompt"] == "w2 train"
    vector = gym.make_vec("tests/Sums-v0", num_envs=2, split="test")
    assert list(vector.reset(seed=0)[1]["prompt"]) == ["w1 test"] * 2
    if isinstance(kwargs_of, str):  # such a specification can be written down
        assert "tests.test_registration:sums" in gym.spec("tests/Sums-v0").to_json()


@pytest.mark.parametrize(
    ("kwargs_of", "error"), [("tests.test_registration", ValueError), (3, TypeError)]
)
def test_register_task_says_what_it_takes(clean_registry, kwargs_of, error):
    with pytest.raises(error, match=r"kwargs_of=.* must be \"module:function\" or a function"):
        llm_gym.register_task("tests/Sums-v0", kwargs_of)


def test_register_task_with_a_malformed_id():
    with pytest.raises(gym.error.Error, match="Malformed environment ID"):
        llm_gym.register_task("what is this", **arguments())


def test_plugin_that_fails_is_left_out_with_a_warning(monkeypatch, tmp_path):
    (tmp_path / "broken_plugin_of_tests.py").write_text("raise RuntimeError('no wings')")
    (tmp_path / "good_plugin_of_tests.py").write_text("LOADED = True")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins = [
        EntryPoint("broken", "broken_plugin_of_tests", registration.PLUGIN_GROUP),
        EntryPoint("missing", "missing_plugin_of_tests", registration.PLUGIN_GROUP),
        EntryPoint("good", "good_plugin_of_tests", registration.PLUGIN_GROUP),
    ]
    monkeypatch.setattr(
        registration,
        "entry_points",
        lambda group: plugins if group == "llm_gym.envs" else [],
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        registration.load_plugins()
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert "'broken' (broken_plugin_of_tests)" in messages[0]
    assert "RuntimeError: no wings" in messages[0]
    assert "ModuleNotFoundError" in messages[1]
    assert sys.modules["good_plugin_of_tests"].LOADED
