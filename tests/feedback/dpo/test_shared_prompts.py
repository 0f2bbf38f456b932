"""DPO reads the prompt of a pair once: the same log-probabilities, gradients and bits before."""

from __future__ import annotations

import warnings

import pytest
import torch

from llm_gym.feedback.dpo.dpo import DPOConfig, train_dpo
from llm_gym.feedback.dpo.preference_pairs import encode_preferences, pair_log_probs, trunk_of
from llm_gym.feedback.preferences import Preference
from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.policy import chunked_likelihood
from llm_gym.policy.trunk import Trunk

LONG = {"n_positions": 512}
LLAMA = {"max_position_embeddings": 512}


def rows(number, prompt_tokens=150):
    """Two short answers each to a long prompt of its own, which share a beginning, too."""
    return [
        Preference(
            " ".join(f"w{(n + place * (1 + n % 3)) % 25}" for place in range(prompt_tokens)),
            " ".join(["w1"] * (2 + n % 4)),
            " ".join(["w1", f"w{2 + n % 20}"] * (1 + n % 3)),
        )
        for n in range(number)
    ]


def encoded_by(directory, number=6, **options):
    return encode_preferences(load_tokenizer(directory), rows(number, **options), None, None)


def gradients(model, pairs, trunk):
    chosen, rejected = pair_log_probs(model, pairs, trunk)
    model.zero_grad(set_to_none=True)
    (chosen * torch.arange(1.0, 1 + len(chosen)) - rejected.square()).sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return (chosen.detach(), rejected.detach()), found


def tokens_read(monkeypatch, work):
    """Tokens that trunks read while something is done."""
    read, full, packed = [], Trunk.full, Trunk.packed

    def counted(self, input_ids, *layout, **asked):
        read.append(input_ids.numel())
        return full(self, input_ids, *layout, **asked)

    def counted_packed(self, rows):
        read.append(int(rows.lengths.sum()))
        return packed(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Trunk, "full", counted)
        patch.setattr(Trunk, "packed", counted_packed)
        result = work()
    return sum(read), result


@pytest.mark.parametrize(("architecture", "size"), [("gpt2", LONG), ("llama", LLAMA)])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.usefixtures("norms_as_wide_as_the_model")
def test_shared_prompts_give_the_plain_log_probabilities_and_gradients(
    tiny_dir, monkeypatch, architecture, size, chunked
):
    directory = tiny_dir(architecture, **size)
    pairs = encoded_by(directory)
    model = load_causal_lm(directory, dtype="float64")
    if chunked:
        monkeypatch.setattr(chunked_likelihood, "WHOLE_BYTES", 200)
        monkeypatch.setattr(chunked_likelihood, "CHUNK_BYTES", 400)
    plain = gradients(model, pairs, None)
    trunk = trunk_of(model, "auto")
    gradients(model, pairs, trunk)  # asks whether sharing is right
    read, shared = tokens_read(monkeypatch, lambda: gradients(model, pairs, trunk))
    assert 0 < read < 0.6 * sum(len(row.chosen.ids) + len(row.rejected.ids) for row in pairs)
    for ours, theirs in zip(shared[0], plain[0], strict=True):
        assert (ours - theirs).abs().max() < 1e-10
    assert shared[1].keys() == plain[1].keys()
    for name, gradient in plain[1].items():
        assert (shared[1][name] - gradient).abs().max() < 1e-10 * max(1.0, gradient.abs().max())


def test_prompts_of_a_word_are_read_with_each_answer_to_the_bit(tiny_dir, monkeypatch):
    short = [Preference(f"w{n}", " w1" * 9, " w2" * 9) for n in range(3, 9)]
    pairs = encode_preferences(load_tokenizer(tiny_dir()), short, None, None)
    model = load_causal_lm(tiny_dir())
    trunk = trunk_of(model, True)
    plain = pair_log_probs(model, pairs)
    read, shared = tokens_read(monkeypatch, lambda: pair_log_probs(model, pairs, trunk))
    assert read == 0
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(shared, plain, strict=True))


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_before_training_the_margin_is_zero_to_the_bit(tiny_dir, tmp_path, monkeypatch, lora_rank):
    directory = tiny_dir("llama", **LLAMA)

    def trained(shared, output):
        config = DPOConfig(
            model=directory, batch_size=4, epochs=1, learning_rate=1e-2, lora_rank=lora_rank,
            shared_prompts=shared,
        )  # fmt: skip
        return tokens_read(
            monkeypatch,
            lambda: train_dpo(rows(18), tmp_path / output, config, held_out=rows(5), quiet=True),
        )

    read, metrics = trained("auto", "shared")
    nothing, plain = trained("off", "plain")
    assert read > nothing == 0
    assert metrics["held_out_before"]["margin"] == 0
    assert metrics["held_out"]["loss"] == pytest.approx(plain["held_out"]["loss"], abs=1e-4)
    assert metrics["held_out"]["loss"] < metrics["held_out_before"]["loss"]


def test_an_architecture_that_cannot_share_reads_every_answer_and_says_so_once(tiny_dir, tmp_path):
    directory = tiny_dir("bloom")
    config = {"model": directory, "epochs": 1, "batch_size": 4}
    with pytest.warns(UserWarning, match="prompts cannot be shared in models of type 'bloom'"):
        train_dpo(rows(12), tmp_path / "a", DPOConfig(**config), held_out=rows(5), quiet=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        off = DPOConfig(**config, shared_prompts="off")
        train_dpo(rows(12), tmp_path / "b", off, held_out=rows(5), quiet=True)
    on = DPOConfig(**config, shared_prompts="on")
    with pytest.raises(ValueError, match="prompts cannot be shared"):
        train_dpo(rows(12), tmp_path / "c", on, held_out=rows(5), quiet=True)
    with pytest.raises(ValueError, match="shared_prompts='maybe'"):
        DPOConfig(shared_prompts="maybe")
