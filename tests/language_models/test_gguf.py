from __future__ import annotations

import struct

import pytest
import torch

from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.language_models.chat import PromptFormat
from llm_gym.language_models.gguf import TokenizerWarning, WeightsWarning, load_gguf
from llm_gym.language_models.gguf_header import read_header
from tests.tiny_gguf import TEMPLATE, vocabulary, write_gguf

pytest.importorskip("gguf", reason="GGUF files need gguf: pip install 'llm-gym[real]'")
pytest.importorskip("accelerate", reason="GGUF files need accelerate")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tiny.gguf"


def logits(model):
    with torch.no_grad():
        return model(torch.arange(20)[None]).logits


def test_the_weights_are_those_that_were_written(path):
    original = write_gguf(path)
    model, _ = load_gguf(path)
    assert torch.equal(logits(model), logits(original))
    assert not model.training
    assert not hasattr(model.config, "quantization_config")


def test_quantised_weights_are_transformers_numbers(path, tmp_path):
    from transformers import AutoModelForCausalLM

    original = write_gguf(path, kind="Q8_0")
    model, _ = load_gguf(path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype="float32")
    assert torch.equal(logits(model), logits(theirs))
    apart = (logits(model) - logits(original)).abs().max()
    assert 0 < apart < 0.2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_saved_model_is_loaded_as_it_was(path, tmp_path, dtype):
    write_gguf(path)
    model, tokenizer = load_gguf(path, dtype=dtype)
    model.save_pretrained(tmp_path / "plain")
    tokenizer.save_pretrained(tmp_path / "plain")
    again = load_causal_lm(tmp_path / "plain", dtype="auto")
    assert again.dtype == getattr(torch, dtype)
    assert torch.equal(logits(again), logits(model))
    text = "he  said 42\n 7"
    assert load_tokenizer(tmp_path / "plain")(text) == tokenizer(text)


def test_answers_end_where_the_template_ends_a_turn(path):
    write_gguf(path)
    model, tokenizer = load_gguf(path)
    assert tokenizer.convert_ids_to_tokens([3, 2]) == ["<|endoftext|>", "<|im_end|>"]
    assert model.generation_config.eos_token_id == [3, 2]
    assert tokenizer.pad_token_id == 3
    assert tokenizer.model_max_length == 64
    shown = PromptFormat(tokenizer)
    assert shown.render("hi") == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.chat_template == TEMPLATE


def test_text_is_split_as_the_file_says(path):
    write_gguf(path, pre="smollm")
    spaces = "\u0120"
    tokens = load_gguf(path)[1].tokenize("he  4\n 7")
    assert tokens == ["he", spaces * 2, "4", "\u010a" + spaces, "7"]
    write_gguf(path, pre="gpt-2")
    assert load_gguf(path)[1].tokenize("he  4") == ["he", spaces, spaces, "4"]


@pytest.mark.parametrize("pre", ["qwen2", "llama-bpe"])
def test_other_splits_lose_nothing(path, pre):
    write_gguf(path, pre=pre)
    tokenizer = load_gguf(path)[1]
    text = "He's 1234,  you'LL\n\n see \u00e9"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_an_unknown_split_is_said(path):
    write_gguf(path, pre="tomorrow")
    with pytest.warns(TokenizerWarning, match="'tomorrow'"):
        load_gguf(path)


def test_a_template_that_shows_no_prompt_is_left_out(path):
    write_gguf(path, template="{{ raise_exception('no') }}")
    with pytest.warns(TokenizerWarning, match="chat template"):
        _, tokenizer = load_gguf(path)
    assert tokenizer.chat_template is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"architecture": "clip"}, "architecture 'clip'"),
        ({"leave_out": "blk.1.ffn_up.weight"}, "1 tensors are missing"),
        ({"metadata": {"split.count": 3}}, "llama-gguf-split --merge"),
        ({"metadata": {"block_count": 2**31}}, "2,147,483,648 layers"),
        ({"metadata": {"block_count": 1}}, "says 1 layers and has weights of 2"),
        ({"metadata": {"attention.head_count": 0}}, "makes no configuration .*; get the model"),
        ({"metadata": {"attention.head_count_kv": 3}}, "shapes are not those that it says"),
        ({"metadata": {"embedding_length": 2**30}}, "damaged"),
        ({"metadata": {"feed_forward_length": 2**31}}, "damaged"),
        ({"tokens": [f"t{n}" for n in range(20_000)]}, "damaged"),
    ],
)
def test_a_file_that_cannot_be_a_model_is_one_sentence(path, options, sentence):
    write_gguf(path, **options)
    with pytest.raises(ValueError, match=sentence) as caught:
        load_gguf(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_part_is_known_by_its_name(tmp_path):
    path = tmp_path / "tiny-00002-of-00003.gguf"
    write_gguf(path)
    with pytest.raises(ValueError, match="one part of a model"):
        load_gguf(path)


def test_a_file_that_is_cut_off_anywhere_says_so(path):
    write_gguf(path)
    whole = path.read_bytes()
    weights = read_header(path).data_start
    for length in (0, 3, 10, 23, 40, 200, weights // 2, weights, len(whole) - 40_000):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut off|no GGUF file|damaged"):
            load_gguf(path)


def test_no_byte_of_a_header_takes_memory_or_breaks_the_reader(path):
    write_gguf(path)
    whole = path.read_bytes()
    places = range(4, min(read_header(path).data_start, len(whole)), 97)
    for place in places:
        path.write_bytes(whole[:place] + b"\xff" * 8 + whole[place + 8 :])
        try:
            read_header(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017 - some bytes are free to be anything


def test_what_is_no_gguf_file_says_what_it_is(path):
    path.write_bytes(b"\x80\x02pickled")
    with pytest.raises(ValueError, match="is no GGUF file"):
        load_gguf(path)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 1, 0, 0))
    with pytest.raises(ValueError, match="v1, and v2 and v3"):
        load_gguf(path)
    path.write_bytes(b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
    with pytest.raises(ValueError, match="byte order"):
        load_gguf(path)
    with pytest.raises(FileNotFoundError, match="no file"):
        load_gguf(path.with_name("other.gguf"))


def test_a_quantisation_that_cannot_be_undone_is_named(path):
    write_gguf(path)
    whole = path.read_bytes()
    name = b"blk.0.attn_q.weight"
    kind = whole.index(name) + len(name) + 4 + 16
    path.write_bytes(whole[:kind] + struct.pack("<I", 99) + whole[kind + 4 :])
    with pytest.raises(ValueError, match="quantised as type 99"):
        load_gguf(path)


def test_missing_libraries_are_named(path, monkeypatch):
    import importlib.util

    write_gguf(path)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name)
    )
    with pytest.raises(ImportError, match=r"pip install 'llm-gym\[real\]'"):
        load_gguf(path)


def test_a_file_given_as_a_model_is_told_what_to_do(path):
    write_gguf(path)
    for load in (load_causal_lm, load_tokenizer):
        with pytest.raises(ValueError, match=r"llm-gym fetch .*tiny\.gguf --output DIR"):
            load(path)


def test_dtype_is_one_of_three(path):
    with pytest.raises(ValueError, match="dtype='int8' must be one of 'float32'"):
        load_gguf(path, dtype="int8")


def test_the_vocabulary_is_the_models(path):
    write_gguf(path)
    model, tokenizer = load_gguf(path)
    assert len(tokenizer) == model.config.vocab_size == len(vocabulary())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_that_are_no_numbers_are_not_converted(path, tmp_path, dtype):
    from llm_gym.stages.fetch import fetch

    write_gguf(path)
    whole = bytearray(path.read_bytes())
    whole[-404:-400] = struct.pack("<f", float("nan"))
    path.write_bytes(bytes(whole))
    with pytest.raises(ValueError, match=f"are not numbers in {dtype} .* download it again"):
        fetch(str(path), tmp_path / "output", dtype=dtype)
    assert not (tmp_path / "output").exists()


def test_weights_beyond_float16_want_another_type(path):
    write_gguf(path)
    whole = bytearray(path.read_bytes())
    whole[-404:-400] = struct.pack("<f", 1e6)
    path.write_bytes(bytes(whole))
    assert load_gguf(path)[0].dtype == torch.float32
    with pytest.raises(ValueError, match=r"in float16 .* take --dtype bfloat16"):
        load_gguf(path, dtype="float16")


@pytest.mark.filterwarnings("error::llm_gym.language_models.gguf.WeightsWarning")
def test_what_transformers_has_no_place_for_is_counted(path):
    import numpy as np

    write_gguf(path)
    load_gguf(path)
    write_gguf(path, more={"output.weight": np.ones((len(vocabulary()), 32), np.float32)})
    load_gguf(path)
    write_gguf(path, more={"blk.0.attn_q_norm.weight": np.ones(8, np.float32)})
    with pytest.warns(WeightsWarning, match=r"holds 8 numbers, 0.03% of all, for which Llama"):
        load_gguf(path)
