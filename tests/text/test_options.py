from __future__ import annotations

import dataclasses
import inspect
import re

import pytest

from llm_gym import TextGenerationEnv
from llm_gym.testing.tiny import tiny_tokenizer
from llm_gym.text import options as options_module
from llm_gym.text.options import TextOptions
from tests.text.helpers import arguments


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens=0 must be at least 1"),
        ({"max_new_tokens": 2.5}, TypeError, "max_new_tokens=2.5 must be an integer"),
        ({"max_new_tokens": True}, TypeError, "max_new_tokens=True"),
        ({"max_prompt_tokens": 0}, ValueError, "max_prompt_tokens=0"),
        ({"vocab_size": 1}, ValueError, "vocab_size=1"),
        ({"pad_token_id": -1}, ValueError, "pad_token_id=-1"),
        ({"min_new_tokens": 6}, ValueError, "min_new_tokens=6 is more than max_new_tokens=5"),
        ({"on_max_length": "stop"}, ValueError, "on_max_length='stop' is not one of"),
        ({"prompt_order": "random"}, ValueError, "prompt_order='random' is not one of"),
        ({"on_scorer_error": "ignore"}, ValueError, "on_scorer_error='ignore' is not one of"),
        ({"missing_eos_penalty": float("nan")}, ValueError, "missing_eos_penalty=nan"),
        ({"scorer_error_penalty": "0"}, TypeError, "scorer_error_penalty='0'"),
        ({"stop_strings": "end"}, TypeError, r"pass a list of strings: \['end'\]"),
        ({"stop_strings": [""]}, ValueError, "non-empty"),
        ({"shard": (2, 2)}, ValueError, r"shard=\(2, 2\)"),
        ({"shard": 3}, ValueError, "shard=3 must be a pair"),
        ({"render_mode": "svg"}, ValueError, "render_mode='svg' is not one of"),
        (
            {"max_tokens": 3},
            TypeError,
            "'max_tokens'.*did you mean 'max_new_tokens'",
        ),
        ({"zzz": 3}, TypeError, "got an unexpected keyword argument 'zzz'; known are"),
        ({"eos_token_id": 32}, ValueError, "eos_token_id contains 32.*vocab_size"),
        ({"eos_token_id": ["a"]}, TypeError, "eos_token_id must be integers"),
        ({"scorer": 3}, TypeError, "scorer must be callable"),
        ({"scorer": None}, TypeError, "scorer must be callable"),
        ({"tokenizer": 3}, TypeError, "tokenizer must be a Hugging Face tokenizer"),
        ({"tokenizer": {}}, TypeError, "tokenizer must be a Hugging Face tokenizer"),
    ],
)
def test_bad_arguments(keywords, error, message):
    with pytest.raises(error, match=message):
        TextGenerationEnv(**arguments(**keywords))


def test_tokenizer_without_eos():
    tokenizer = tiny_tokenizer(with_eos=False)
    with pytest.raises(ValueError, match="no EOS token: pass eos_token_id="):
        TextGenerationEnv(**arguments(tokenizer=tokenizer))
    TextGenerationEnv(**arguments(tokenizer=tokenizer, eos_token_id=1))


def test_tokenizer_without_pad():
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="no pad token: pass pad_token_id="):
        TextGenerationEnv(**arguments(tokenizer=tokenizer))
    assert TextGenerationEnv(**arguments(tokenizer=tokenizer, pad_token_id=1)).reset()
    assert tokenizer.pad_token is None  # the user's tokenizer is never changed


def test_pad_id_beyond_the_vocabulary_is_in_the_observation_space():
    env = TextGenerationEnv(**arguments(pad_token_id=50))
    observation, _ = env.reset()
    assert observation["input_ids"][-1] == 50
    assert env.observation_space.contains(observation)
    assert env.action_space.n == 32


def test_tokenizer_by_path(tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path)
    for path in (str(tmp_path), tmp_path):
        env = TextGenerationEnv(**arguments(tokenizer=path))
        assert len(env.tokenizer) == 32


def test_tokenizer_by_a_path_that_does_not_exist(tmp_path):
    with pytest.raises((ValueError, OSError), match="nowhere"):
        TextGenerationEnv(**arguments(tokenizer=str(tmp_path / "nowhere")))


def test_type_checkers_know_every_option():
    """The typed keywords and the data class name the same options."""
    source = inspect.getsource(options_module)
    typed = source.split("class OptionKeywords")[1].split("_CHOICES")[0]
    names = re.findall(r"^        (\w+): ", typed, flags=re.MULTILINE)
    assert names == [field.name for field in dataclasses.fields(TextOptions)]
