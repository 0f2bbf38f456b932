"""The tabular language model: the right row everywhere, cached or not, saved and loaded."""

from __future__ import annotations

import pytest
import torch
from llm_gym_known_optimum import AnswerTree, TabularConfig, TabularLM, make_reference
from transformers import AutoModelForCausalLM

from llm_gym.language_models import load_causal_lm
from llm_gym.policy.trunk import Trunk


@pytest.fixture
def model():
    return make_reference("tabular", AnswerTree(3, 3, True), 4, spread=1.0, seed=0)


def row(model, words):
    """The table's logits after a prompt of two words and these, by hand; `None` outside."""
    prompt, said = words[:2], words[2:]
    if len(prompt) < 2 or len(said) > 2 or max(words) > 2 or prompt[0] * 3 + prompt[1] > 3:
        return torch.zeros(4)
    index = (prompt[0] * 3 + prompt[1]) * 13 + [0, 1, 4][len(said)]
    for place, word in enumerate(reversed(said)):
        index += word * 3**place
    return model.lm_head.weight[:, index]


def test_every_prefix_has_its_own_row(model):
    assert model.config.hidden_size == 4 * 13
    generator = torch.Generator().manual_seed(0)
    sequences = torch.randint(0, 4, (200, 5), generator=generator)
    logits = model(input_ids=sequences).logits
    for words, by_position in zip(sequences.tolist(), logits, strict=True):
        for length in range(1, 6):
            assert torch.equal(by_position[length - 1], row(model, words[:length]))


def test_left_padding_is_passed_over(model):
    ids = torch.tensor([[2, 2, 0, 1, 2], [0, 2, 1, 0, 0]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    logits = model(input_ids=ids, attention_mask=mask).logits
    assert torch.equal(logits[0, -1], row(model, [0, 1, 2]))
    assert torch.equal(logits[1, -1], row(model, [0, 2, 1, 0, 0]))


def test_the_prefix_cache_changes_nothing(model):
    """Rows that start, grow and pause at different times, as a policy reads them."""
    cached = Trunk(model.base_model)
    plain = Trunk(model.base_model, use_cache=False)
    generator = torch.Generator().manual_seed(1)
    ids = torch.zeros(5, 5, dtype=torch.int64)
    lengths = torch.full((5,), 2)
    with torch.no_grad():
        for _ in range(40):
            ends = (lengths == 5) | (torch.rand(5, generator=generator) < 0.2)
            fresh = torch.randint(0, 3, (5, 5), generator=generator)
            ids = torch.where(ends[:, None], fresh, ids)
            ids[torch.arange(5), lengths.clamp(max=4)] = fresh[:, 0]
            lengths = torch.where(ends, 2, lengths + 1)
            visible = torch.arange(5) < lengths[:, None]
            seen = ids.where(visible, 0)
            assert torch.equal(cached.last_hidden(seen, lengths), plain.last_hidden(seen, lengths))


def test_generate_with_and_without_a_cache(model):
    prompt = torch.tensor([[0, 1], [1, 0]])
    torch.manual_seed(0)
    with_cache = model.generate(prompt, max_new_tokens=3, do_sample=True, pad_token_id=3)
    torch.manual_seed(0)
    without = model.generate(
        prompt, max_new_tokens=3, do_sample=True, pad_token_id=3, use_cache=False
    )
    assert torch.equal(with_cache, without)


def test_its_directory_loads_like_any_models(model, tmp_path):
    model.save_pretrained(tmp_path)
    for loaded in (AutoModelForCausalLM.from_pretrained(tmp_path), load_causal_lm(tmp_path)):
        assert isinstance(loaded, TabularLM)
        ids = torch.tensor([[0, 1, 2, 2]])
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
        assert loaded.model.one.item() == 1


def test_it_goes_to_double_precision(model):
    model = model.double()
    assert model(input_ids=torch.tensor([[0, 1]])).logits.dtype == torch.float64


def test_a_new_table_is_uniform():
    model = TabularLM(TabularConfig(vocab_size=3, n_words=3, answer_length=2))
    assert torch.equal(model(input_ids=torch.tensor([[0, 1]])).logits, torch.zeros(1, 2, 3))
