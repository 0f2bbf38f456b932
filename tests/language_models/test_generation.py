"""End tokens that a model's files declare, wherever they stand and whatever they say."""

from __future__ import annotations

import json
import warnings

import pytest
from transformers import AutoConfig, GenerationConfig

from benchmarks.architectures.tiny import tiny_model
from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.language_models.chat import PromptFormat
from llm_gym.language_models.generation import generation_end_ids, unheard_end_ids
from llm_gym.text import TextGenerationEnv
from tests.chat_tokenizers import save_model


@pytest.fixture
def written(tmp_path):
    """Writes the files given by name, and gives the directory."""

    def write(**files):
        for name in ("generation_config", "config"):
            (tmp_path / f"{name}.json").unlink(missing_ok=True)
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return tmp_path

    return write


def heard(directory):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return generation_end_ids(name_or_path=directory)


@pytest.mark.parametrize(
    ("config", "ids"),
    [
        ({"eos_token_id": 3}, (3,)),
        ({"eos_token_id": [3, 4]}, (3, 4)),
        ({"text_config": {"eos_token_id": [1, 106]}}, (1, 106)),
        ({"eos_token_id": None, "text_config": {"eos_token_id": 2}}, (2,)),
        ({"eos_token_id": 5, "text_config": {"eos_token_id": 2}}, (5,)),
        ({"decoder": {"eos_token_id": 2}, "encoder": {"eos_token_id": 9}}, (2,)),
        ({"thinker_config": {"text_config": {"eos_token_id": 7}}}, (7,)),
        ({"vision_config": {"eos_token_id": 9}}, ()),
        ({"text_config": None}, ()),
        ({"text_config": {}}, ()),
        ({}, ()),
    ],
)
def test_composite_configurations_are_read_where_they_speak_of_text(written, config, ids):
    assert heard(written(config=config)) == ids
    assert heard(written(config={"eos_token_id": 1}, generation_config=config)) == ids


@pytest.mark.parametrize("architecture", ["gemma3", "qwen3_5", "llama4"])
def test_the_file_of_a_composite_model_says_what_transformers_reads_in_it(tmp_path, architecture):
    model = tiny_model(architecture)
    model.config.get_text_config().eos_token_id = [3, 7]
    model.config.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert GenerationConfig.from_model_config(config).eos_token_id == [3, 7]
    assert heard(tmp_path) == (3, 7)


@pytest.mark.parametrize("file", ["generation_config", "config"])
def test_an_empty_list_leaves_the_end_to_the_tokenizer_and_it_is_said(tmp_path, file):
    directory = save_model("chatml", tmp_path)
    (tmp_path / "generation_config.json").unlink(missing_ok=True)
    path = tmp_path / f"{file}.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(kept | {"eos_token_id": []}))
    tokenizer = load_tokenizer(directory)
    for place in (directory, tokenizer):
        with pytest.warns(UserWarning, match=rf"{file}\.json has an empty list of end tokens"):
            env = TextGenerationEnv(place, ["hi"], lambda p, c: [0.0])
        assert tokenizer.eos_token_id in env.eos_token_ids
        assert PromptFormat(tokenizer).end_token_id in env.eos_token_ids
    with pytest.warns(UserWarning, match="empty list of end tokens"):
        assert unheard_end_ids(directory, env.eos_token_ids, 999) == []


def test_a_loaded_model_with_an_empty_list_says_so(tiny_dir):
    model = load_causal_lm(tiny_dir())
    model.generation_config.eos_token_id = []
    with pytest.warns(UserWarning, match="generation config has an empty list of end tokens"):
        assert unheard_end_ids(model, [1], 32) == []
    model.generation_config.eos_token_id = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert unheard_end_ids(model, [1], 32) == []


@pytest.mark.parametrize("ids", ["2", [True], [[2]], {"a": 2}, 2.0, [None]])
def test_what_are_no_ids_is_named_with_its_file(written, ids):
    for files in (
        {"generation_config": {"eos_token_id": ids}},
        {"config": {"text_config": {"eos_token_id": ids}}},
    ):
        with pytest.raises(ValueError, match=r"config\.json: eos_token_id=.* must be a token id"):
            heard(written(**files))


@pytest.mark.parametrize("content", [[], 3, "text", None])
def test_a_file_that_is_no_object_is_named(written, content):
    with pytest.raises(ValueError, match=r"generation_config\.json is no JSON object"):
        heard(written(generation_config=content))
