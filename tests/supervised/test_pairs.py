"""Instruction/answer pairs: encoding, and where the gradient goes."""

from __future__ import annotations

import pytest
import torch

from llm_gym.language_models import load_tokenizer
from llm_gym.supervised.loop import next_token_loss
from llm_gym.supervised.pairs import InstructionPair, encode_pair, read_pairs
from llm_gym.text.answer import pack_answers

PLAIN = "{prompt}"


@pytest.fixture
def tokenizer(tiny_dir):
    return load_tokenizer(tiny_dir("gpt2"))


def test_a_pair_is_prompt_answer_and_eos_encoded_apart(tokenizer):
    encoded = encode_pair(tokenizer, InstructionPair("w0 w1", "w2 w3"), "{prompt} w9")
    prompt = tokenizer("w0 w1 w9")["input_ids"]
    answer = [*tokenizer("w2 w3")["input_ids"], tokenizer.eos_token_id]
    assert list(encoded.prompt_ids) == prompt
    assert list(encoded.completion_ids) == answer


@pytest.mark.parametrize("pad", [0, 1, 5])
def test_the_gradient_on_logits_is_zero_exactly_outside_the_answers(tokenizer, pad):
    """Whatever id pads: EOS (1) as pad masks no real EOS, and a word (5) as pad is no target."""
    answers = [
        encode_pair(tokenizer, InstructionPair("w0 w1 w2", "w3"), PLAIN),
        encode_pair(tokenizer, InstructionPair("w2", "w2 w2 w2 w3 w4"), PLAIN),
    ]
    batch = pack_answers(answers, pad_token_id=pad)
    logits = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    next_token_loss(logits, batch.labels).backward()
    predicts_answer = torch.tensor([[0, 0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0]], dtype=torch.bool)
    touched = logits.grad.abs().sum(-1) > 0
    assert torch.equal(touched, predicts_answer)
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1, 0, 0], [1] * 7]
    assert batch.input_ids[0, -2:].tolist() == [pad, pad]


def test_a_line_separator_inside_a_text_is_text(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "one\u2028two", "completion": "three"}\n', encoding="utf-8")
    assert read_pairs(path)[0].prompt == "one\u2028two"
