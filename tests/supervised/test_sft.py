"""Supervised fine-tuning: the loss is on the answers and nothing else."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from llm_gym.language_models import load_tokenizer
from llm_gym.supervised.pairs import InstructionPair, cut_answer, encode_pair
from llm_gym.supervised.sft import SFTConfig, answer_perplexity, fine_tune, read_pairs

PLAIN = "{prompt}"
PAIRS = [InstructionPair(f"w{n} w{n + 1}", f"w{n} w{n} w{n}") for n in range(20)]


@pytest.fixture
def tokenizer(tiny_dir):
    return load_tokenizer(tiny_dir("gpt2"))


def test_perplexity_is_that_of_each_answer_alone(tiny_dir, tokenizer):
    """Against a loop over answers and positions, whatever is padded together."""
    model = AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2"))
    answers = [encode_pair(tokenizer, pair, PLAIN) for pair in PAIRS[:5]]
    answers.append(encode_pair(tokenizer, InstructionPair("w1", "w2 w3 w4 w5 w6 w7"), PLAIN))
    total, count = 0.0, 0
    for answer in answers:
        log_probs = model(torch.tensor([answer.ids])).logits[0].log_softmax(-1)
        for t in range(len(answer.prompt_ids), len(answer.ids)):
            total -= log_probs[t - 1, answer.ids[t]].item()
            count += 1
    for batch_size in (1, 4, 6):
        assert answer_perplexity(model, answers, batch_size) == pytest.approx(
            math.exp(total / count), rel=1e-5
        )


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_fine_tuning_learns_the_answers(tiny_dir, tmp_path, architecture):
    config = SFTConfig(
        prompt_template=PLAIN, epochs=8, batch_size=4, learning_rate=1e-2, held_out_share=0.2
    )
    pairs = [InstructionPair(pair.prompt, "w5 w6 w7") for pair in PAIRS]
    metrics = fine_tune(tiny_dir(architecture), pairs, tmp_path / "out", config, quiet=True)
    assert (
        metrics["held_out_answer_perplexity"] < 0.7 * metrics["held_out_answer_perplexity_before"]
    )
    assert metrics["pairs"] == 16
    assert metrics["answer_tokens"] == 16 * 4
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.model_type == architecture


def test_the_same_seed_gives_the_same_weights(tiny_dir, tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        config = SFTConfig(prompt_template=PLAIN, batch_size=4, learning_rate=1e-2, seed=seed)
        fine_tune(tiny_dir("gpt2"), PAIRS, tmp_path / name, config, held_out=PAIRS[:2], quiet=True)
    one, two, other = (
        load_file(tmp_path / n / "model.safetensors") for n in ("one", "two", "other")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_a_prompt_with_several_answers_is_held_out_as_a_whole(tiny_dir, tmp_path, monkeypatch):
    """Else the held-out prompts would have been seen."""
    pairs = [InstructionPair(f"w{n % 5}", f"w{n}") for n in range(20)]
    seen = []

    def spy(tokenizer, pair, template):
        seen.append(pair.prompt)
        return encode_pair(tokenizer, pair, template)

    monkeypatch.setattr("llm_gym.supervised.pairs.encode_pair", spy)
    config = SFTConfig(prompt_template=PLAIN, held_out_share=0.2)
    metrics = fine_tune(tiny_dir("gpt2"), pairs, tmp_path / "out", config, quiet=True)
    assert metrics["pairs"] == 16
    assert not set(seen[:16]) & set(seen[16:])


def test_a_jsonl_file_of_ones_own_works(tiny_dir, tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": p.prompt, "completion": p.completion, "more": 1} for p in PAIRS]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read_pairs(path) == PAIRS
    config = SFTConfig(prompt_template=PLAIN, held_out_share=0.2)
    metrics = fine_tune(tiny_dir("gpt2"), path, tmp_path / "out", config, quiet=True)
    assert metrics["pairs"] == 16


def test_bad_pairs_are_named(tiny_dir, tmp_path, tokenizer):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "w1"}\n')
    with pytest.raises(ValueError, match='line 1: needs "prompt" and "completion"'):
        read_pairs(bad)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_pairs(tmp_path / "no.jsonl")
    config = SFTConfig(prompt_template=PLAIN)
    with pytest.raises(ValueError, match="at least 2 different prompts, got 1"):
        fine_tune(tiny_dir("gpt2"), PAIRS[:1], tmp_path / "out", config, quiet=True)
    long = [InstructionPair("w1 " * 60, "w2 " * 10), *PAIRS]
    with pytest.raises(ValueError, match=r"pairs\[0\] has 71 tokens, more than .* context of 64"):
        fine_tune(tiny_dir("gpt2"), long, tmp_path / "out", config, held_out=PAIRS[:2], quiet=True)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no EOS token"):
        encode_pair(tokenizer, PAIRS[0], PLAIN)


def test_pairs_that_are_too_long_are_named_left_out_or_cut(tiny_dir, tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": p.prompt, "completion": p.completion} for p in PAIRS]
    rows.insert(1, {"prompt": "w1 " * 60, "completion": "w2 " * 10})
    path.write_text("\n".join(map(json.dumps, rows)))

    def tuned(name, **settings):
        config = SFTConfig(prompt_template=PLAIN, **settings)
        pairs, out = path, tmp_path / name
        return fine_tune(tiny_dir("gpt2"), pairs, out, config, held_out=PAIRS[:2], quiet=True)

    with pytest.raises(ValueError, match=r"pairs\.jsonl, line 2 has 71 tokens, more than"):
        tuned("error")
    with pytest.warns(UserWarning, match=r"1 of 21 pairs are too long and are left out .*line 2"):
        metrics = tuned("drop", too_long="drop")
    assert (metrics["pairs"], metrics["too_long"]) == (20, 1)
    with pytest.warns(UserWarning, match="1 of 21 pairs are too long and are cut"):
        metrics = tuned("cut", too_long="truncate")
    assert (metrics["pairs"], metrics["too_long"]) == (21, 0)
    (tmp_path / "pairs.jsonl").write_text(path.read_text() + '\n{"prompt": "w1"}\n')
    with pytest.warns(UserWarning, match="1 of 22 rows cannot be read"):
        assert tuned("skip", too_long="drop", bad_rows="skip")["pairs"] == 20


def test_a_pair_loses_the_beginning_of_its_prompt_and_then_the_end_of_its_answer(tokenizer):
    pair = InstructionPair("w1 w2 w3 w4", "w5 w6")
    whole = encode_pair(tokenizer, pair, "{prompt}")  # 4 tokens, and 3 with the end
    for limit, prompt, completion in ((5, 2, 3), (4, 1, 3), (3, 1, 2)):
        cut = cut_answer(whole, limit)
        assert cut.prompt_ids == whole.prompt_ids[-prompt:]
        assert cut.completion_ids == whole.completion_ids[:completion]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs=0 must be a .*number of at least 1"),
        ({"prompt_template": "no slot"}, "prompt_template must contain {prompt}"),
        ({"held_out_share": 0.0}, "held_out_share=.* must be a number above 0 and below 1"),
        ({"weights": "int4"}, "weights='int4' must be one of 'float32'"),
        ({"learning_rate": -1.0}, "learning_rate=.* must be a finite number above 0"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        SFTConfig(**change)


def test_tokens_that_the_model_has_no_embedding_for_are_named(tiny_dir, tmp_path):
    """Somebody added tokens to the tokenizer and did not resize the model."""
    model, tokenizer = tmp_path / "model", load_tokenizer(tiny_dir("gpt2"))
    AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2")).save_pretrained(model)
    tokenizer.add_tokens(["<think>"])
    tokenizer.save_pretrained(model)
    pairs = [*PAIRS[:6], InstructionPair("w1", "w2 <think> w3")]
    message = r"row 6 has the token '<think>' \(id 32\).*32 ids.*resize_token_embeddings\(33\)"
    with pytest.raises(ValueError, match=message):
        fine_tune(
            model, pairs, tmp_path / "out", SFTConfig(prompt_template=PLAIN), held_out=PAIRS[:2]
        )
