"""Plain text: reading, holding a part out, and the tokenizer trained on it."""

from __future__ import annotations

import pytest

from llm_gym.polite_email import documents
from llm_gym.supervised.documents import read_documents, split_held_out, train_tokenizer


@pytest.mark.parametrize("text", ["Grüße, 漢字 🙂\n\ttab", "  two  spaces ", "a\r\nb", ""])
def test_any_text_survives_the_tokenizer(text):
    tokenizer = train_tokenizer(documents("train", 30), vocab_size=300, context=32)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_tokenizer_has_chat_tokens_and_a_template():
    tokenizer = train_tokenizer(documents("train", 30), vocab_size=300, context=32)
    chat = [{"role": "user", "content": "Hello"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<|user|>Hello<|assistant|>"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]) == ["<|user|>", "<|assistant|>"]
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Hello"


def test_the_held_out_part_of_one_document_is_its_end():
    text = "".join(f"line {n}\n" for n in range(100))
    (kept,), (held_out,) = split_held_out([text], 0.1)
    assert kept + held_out == text
    assert kept.endswith("\n")
    assert 0.05 < len(held_out) / len(text) < 0.15


def test_of_several_documents_whole_ones_are_held_out():
    many = [f"document {n}" for n in range(40)]
    kept, held_out = split_held_out(many, 0.1, seed=3)
    assert len(held_out) == 4
    assert sorted(kept + held_out) == sorted(many)
    assert split_held_out(many, 0.1, seed=4)[1] != held_out


def test_jsonl_documents_are_read(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "one", "id": 1}\n\n{"text": "two"}\n')
    assert read_documents(path) == ["one", "two"]


def test_bad_text_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_documents(tmp_path / "no.txt")
    (tmp_path / "empty.txt").write_text("  \n")
    with pytest.raises(ValueError, match="is empty: there is nothing to read"):
        read_documents(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"latin.txt, line 1: not UTF-8 \(byte 0xe9 at column 4\)"):
        read_documents(tmp_path / "latin.txt")
    (tmp_path / "bad.jsonl").write_text('{"text": "one"}\n{"txt": "two"}\n')
    with pytest.raises(ValueError, match=r"line 2: needs a column \"text\", has \['txt'\]"):
        read_documents(tmp_path / "bad.jsonl")
    (tmp_path / "worse.jsonl").write_text("{")
    with pytest.raises(ValueError, match="line 1: not JSON"):
        read_documents(tmp_path / "worse.jsonl")
    with pytest.raises(ValueError, match="there is no document"):
        split_held_out([], 0.1)
