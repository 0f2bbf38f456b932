"""What gives an adapter's base away, on a few tokens and numbers."""

from __future__ import annotations

import json

import pytest
import torch

from llm_gym.language_models.adapter_bases import (
    _are_equal,
    _other_tokenizer,
    _vocabulary,
    is_same,
    other_vocabulary,
    take_base_out,
)
from llm_gym.language_models.trained_types import is_coarse
from llm_gym.testing.tiny import tiny_model

OURS = {"a": 0, "b": 1, "c": 2}


def write(directory, vocabulary):
    directory.mkdir(exist_ok=True)
    (directory / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    return directory


@pytest.mark.parametrize(
    ("theirs", "differs"),
    [
        (OURS, False),
        (OURS | {"d": 3}, False),
        ({"a": 0, "b": 1}, False),  # a token that one of them alone has says nothing
        ({"a": 0, "b": 1, "renamed": 2}, False),
        ({"a": 0, "b": 2, "c": 1}, True),
        ({"a": 1}, True),
        ([["a", -1.0], ["b", -2.0], ["c", -3.0]], False),  # as Unigram models list them
        ([["a", -1.0], ["c", -2.0], ["b", -3.0]], True),
        ([], False),
        ("nonsense", False),
    ],
    ids=str,
)
def test_a_token_with_another_id_tells_another_tokenizer(theirs, differs, tmp_path):
    ours, base = write(tmp_path / "adapter", OURS), write(tmp_path / "base", theirs)
    assert _other_tokenizer(ours, base) == differs
    assert _other_tokenizer(base, ours) == differs
    assert not _other_tokenizer(ours, tmp_path / "none")


def test_many_tokens_are_compared_as_a_few_are(tmp_path):
    vocabulary = {f"token {number}": number for number in range(300)}
    ours, base = write(tmp_path / "adapter", vocabulary), write(tmp_path / "base", vocabulary)
    assert not _other_tokenizer(ours, base)
    assert _other_tokenizer(ours, write(base, vocabulary | {"token 299": 300}))


def test_another_name_is_another_model_whichever_comes_first(tmp_path):
    first, second = str(tmp_path / "a"), str(tmp_path / "b")
    assert is_same(first, "".join(first))
    assert not is_same(first, second)
    assert not is_same(second, first)


def test_listed_tokens_are_numbered_from_zero(tmp_path):
    assert _vocabulary(write(tmp_path, [["a", -1.0], ["b", -2.0]])) == {"a": 0, "b": 1}


@pytest.mark.parametrize("name", ["model.embed_tokens", "lm_head"])
@pytest.mark.parametrize("inside", ["", ".modules_to_save", ".original_module", ".base_layer"])
@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((32, 32), None),
        ((31, 32), 31),
        ((40, 32), 40),
        ((40, 16), None),
        ((40, 48), None),
        ((40,), None),
    ],
)
def test_a_vocabulary_of_another_size_is_told(name, inside, shape, told):
    """Of tensors that are as wide as the embeddings, under whatever name PEFT has put them."""
    model = tiny_model("llama")
    weights = {f"{name}{inside}.weight": torch.zeros(shape)}
    assert other_vocabulary(model, weights) == told
    assert other_vocabulary(model, {f"model.layers.0{inside}.weight": torch.zeros(shape)}) is None


def test_large_vocabularies_of_one_size_are_the_same():
    model = tiny_model("llama", vocab_size=300)
    for rows, told in ((300, None), (301, 301)):
        weights = {"lm_head.weight": torch.zeros(rows, 32)}
        assert other_vocabulary(model, weights) == told


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_numbers_that_were_rounded_are_the_same(dtype):
    exact = torch.tensor([1.0, 1 / 3, -2.7])
    assert _are_equal(exact, exact.to(dtype))
    assert _are_equal(exact.to(dtype), exact.to(dtype).to(torch.float32))
    assert _are_equal(exact.to(dtype), exact)
    assert not _are_equal(exact, exact.to(dtype) + 0.25)
    assert not _are_equal(exact, exact[:2].to(dtype))


def test_what_peft_saves_of_the_base_is_taken_out_and_compared():
    model = tiny_model("llama")
    own = model.get_input_embeddings().weight.detach()
    trained = {"model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 32)}
    for key in ("model.embed_tokens.weight", "model.embed_tokens.base_layer.weight"):
        weights = trained | {key: own.clone()}
        assert take_base_out(model, weights, []) is None
        assert weights.keys() == trained.keys()
        assert take_base_out(model, trained | {key: own + 1.0}, []) == key
    whole = {"model.embed_tokens.weight": own + 1.0}
    kept = dict(whole)
    assert take_base_out(model, kept, ["embed_tokens"]) is None
    assert kept.keys() == whole.keys()
    twice = whole | {"model.embed_tokens.modules_to_save.weight": own + 1.0}
    assert take_base_out(model, twice, ["embed_tokens"]) is None
    assert twice.keys() == whole.keys()
    replaced = whole | {"model.embed_tokens.original_module.weight": own}
    assert take_base_out(model, replaced, ["embed_tokens"]) is None
    assert replaced.keys() == whole.keys()


@pytest.mark.parametrize(
    ("kind", "dtype", "coarse"),
    [
        ("bfloat16", "auto", True),
        ("bfloat16", "float32", False),
        ("bfloat16", "bfloat16", True),
        ("float32", "auto", False),
        ("float32", "bfloat16", True),
    ],
)
def test_steps_are_coarse_where_a_whole_model_is_trained_in_bfloat16(kind, dtype, coarse, tmp_path):
    model = tiny_model().to(getattr(torch, kind))
    model.save_pretrained(tmp_path / "model")
    assert is_coarse(tmp_path / "model", dtype) == coarse
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"base_model_name_or_path": str(tmp_path / "model"), "peft_type": "LORA"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert not is_coarse(adapter, dtype)  # which is trained in float32, whatever it is on
