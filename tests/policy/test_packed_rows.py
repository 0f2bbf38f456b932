"""Rows read one behind the other have the states and gradients of rows read apart."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from benchmarks.architectures.tiny import tiny_model as any_tiny_model
from llm_gym.language_models.architecture import decoder_of
from llm_gym.language_models.packing import pack
from llm_gym.policy import EpisodeBatch, packed_rows
from llm_gym.policy.shared_rows import share
from llm_gym.policy.trunk import Trunk
from llm_gym.testing.tiny import tiny_model
from tests.policy.test_shared_prompts import apart, counted, groups, hidden_and_gradients

IN_FLOAT64 = ["gpt2", "gpt_neox", "llama", "opt"]  # others round to float32 somewhere
PACKED = [*IN_FLOAT64, "gemma", "qwen3"]
NOT_PACKED = ["bamba", "bloom", "gpt_neo"]


def ragged(lengths: list[tuple[int, int]], seed: int = 0) -> EpisodeBatch:
    """Prompts and answers of these lengths."""
    rng = random.Random(seed)
    rows = [[rng.randrange(32) for _ in range(sum(both))] for both in lengths]
    return EpisodeBatch.of(pack(rows, [prompt for prompt, _ in lengths]))


BATCH = ragged([(2, 3), (11, 4), (3, 1), (6, 8), (1, 1)])


@pytest.fixture(autouse=True)
def passes_cost_nothing(monkeypatch):
    """So that rows of different lengths are never padded into one pass."""
    monkeypatch.setattr("llm_gym.policy.trunk.price_of_a_pass", lambda device: 0)


def both(model) -> tuple[Trunk, Trunk]:
    """A trunk that packs, and one that reads every row in a pass of its own."""
    packs = Trunk(decoder_of(model), shared_prompts=False)
    plain = Trunk(decoder_of(model), shared_prompts=False)
    plain.packing._passed = False
    return packs, plain


def one_pass(trunk: Trunk, batch: EpisodeBatch, tokens: int | None = None) -> bool:
    """Whether all tokens are read at once, once the model has been asked."""
    with torch.no_grad():
        trunk.of_episodes(batch)
        read = counted(trunk)
        trunk.of_episodes(batch)
    return read == [batch.lengths_read.sum() if tokens is None else tokens]


@pytest.mark.parametrize("name", IN_FLOAT64)
def test_states_and_gradients_are_those_of_rows_apart(name):
    packs, plain = both(any_tiny_model(name).double())
    assert one_pass(packs, BATCH)
    found, gradients = hidden_and_gradients(packs, BATCH)
    expected, others = hidden_and_gradients(plain, BATCH)
    assert apart(found, expected) < 1e-12
    assert gradients.keys() == others.keys()
    assert max(apart(gradients[name], others[name]) for name in gradients) < 1e-11


@pytest.mark.parametrize("name", [*PACKED, *NOT_PACKED])
def test_what_cannot_be_packed_is_read_as_before(name):
    packs, plain = both(any_tiny_model(name))
    assert one_pass(packs, BATCH) == (name in PACKED)
    with torch.no_grad():
        assert apart(packs.of_episodes(BATCH), plain.of_episodes(BATCH)) < 1e-5


@pytest.mark.parametrize("price", [0, 700, 10**9])
@pytest.mark.parametrize("name", IN_FLOAT64)
@pytest.mark.usefixtures("norms_as_wide_as_the_model")
def test_answers_that_share_a_prompt_are_packed_however_attention_is_parted(
    name, price, monkeypatch
):
    monkeypatch.setattr(packed_rows, "_CALL", 32 * price)  # over a width of 32
    model, batch = any_tiny_model(name, hidden_size=32).double(), groups()
    shares, plain = Trunk(decoder_of(model), shared_prompts=True), both(model)[1]
    assert one_pass(shares, batch, tokens=share(batch, 32, packed=True).lengths.sum())
    expected, others = hidden_and_gradients(plain, batch)
    found, gradients = hidden_and_gradients(shares, batch)
    assert apart(found, expected) < 1e-12
    assert gradients.keys() == others.keys()
    assert max(apart(gradients[name], others[name]) for name in gradients) < 1e-11


@pytest.mark.parametrize(("large", "learns"), [(True, True), (True, False), (False, True)])
def test_large_frozen_weights_share_by_masks_where_gradients_are_recorded(
    large, learns, monkeypatch
):
    model = tiny_model("llama").requires_grad_(not large)
    monkeypatch.setattr("llm_gym.policy.computed_again.LARGE_BYTES", 10_000)
    shares, plain = Trunk(decoder_of(model), shared_prompts=True), both(model)[1]
    packed = []
    monkeypatch.setattr(shares, "packed", lambda rows: packed.append(1) or read(rows))
    read = Trunk.packed.__get__(shares)
    with torch.set_grad_enabled(learns):
        found, expected = (trunk.of_episodes(groups()) for trunk in (shares, plain))
    assert apart(found.detach(), expected.detach()) < 1e-5
    assert bool(packed) is not (large and learns)


def test_sharing_asks_in_its_own_way_where_rows_cannot_be_packed():
    model = any_tiny_model("mistral", sliding_window=6, max_position_embeddings=64)
    shares, plain = Trunk(decoder_of(model), shared_prompts=True), both(model)[1]
    with torch.no_grad():
        assert apart(shares.of_episodes(groups()), plain.of_episodes(groups())) < 1e-5
        read = counted(shares)
        shares.of_episodes(groups())
    assert not shares.packing._passed
    assert sum(read) < groups().context.numel() * 0.7


@pytest.mark.parametrize(
    ("row", "price", "calls"),
    [
        ([5], 0, [(True, ())]),
        ([5, 2, 3], 0, [(True, ()), (False, (2,)), (False, (3,))]),
        ([5, 2, 3], 9, [(True, ()), (False, (2,)), (False, (3,))]),
        ([5, 2, 3], 10, [(True, (2,)), (False, (3,))]),  # 2 x 5 that nobody may see
        ([5, 2, 3], 26, [(True, (2,)), (False, (3,))]),
        ([5, 2, 3], 27, [(True, (2, 3))]),  # 3 x 5, and twice 2 x 3
        ([9, 2, 3, 1, 4], 12, [(True, ()), (False, (2, 3, 1)), (False, (4,))]),
        ([0], 0, [(True, ())]),
        ([3, 0, 2], 0, [(True, (0,)), (False, (2,))]),
    ],
)
def test_what_is_cheaper_together_is_computed_together(row, price, calls):
    found = packed_rows._calls(row, price)
    assert [(call.first, call.answers) for call in found] == calls
    assert all(call.shared == row[0] for call in found)
    assert sum(call.length for call in found) == sum(row)


def test_an_answer_sees_what_is_shared_and_itself():
    like, out = torch.zeros(1, dtype=torch.float64), -torch.inf
    first = packed_rows._Call(2, True, (1, 2))
    assert first.mask(like)[0, 0].tolist() == [
        [0, out, out, out, out],
        [0, 0, out, out, out],
        [0, 0, 0, out, out],
        [0, 0, out, 0, out],
        [0, 0, out, 0, 0],
    ]
    later = first._replace(first=False)
    assert torch.equal(later.mask(like), first.mask(like)[:, :, 2:])
    assert later.mask(like).dtype == torch.float64
    assert packed_rows._Call(4, True, ()).mask(like) is None


def test_answers_of_all_lengths_have_one_mask_to_a_prompt():
    calls = [packed_rows._Call(2, False, (own,)) for own in (3, 5, 1, 5)]
    calls += [packed_rows._Call(2, True, (4,)), packed_rows._Call(2, False, (2, 2))]
    calls += [packed_rows._Call(3, False, (4,)), packed_rows._Call(2, True, ())]
    like = torch.zeros(1)
    masks = packed_rows._masks(calls, like)
    for call in calls:
        expected = call.mask(like)
        assert masks[call] is expected is None or torch.equal(masks[call], expected)
    kept = {masks[call].untyped_storage().data_ptr() for call in calls[:4]}
    assert len(kept) == 1


def test_rows_beyond_a_sliding_window_are_not_packed():
    model = any_tiny_model("mistral", sliding_window=6, max_position_embeddings=64)
    packs, plain = both(model)
    within, outside = ragged([(2, 3), (1, 4), (3, 2), (2, 1)]), BATCH
    assert one_pass(packs, within)
    with torch.no_grad():
        assert apart(packs.of_episodes(outside), plain.of_episodes(outside)) < 1e-5
    assert not one_pass(packs, outside)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_batch_may_have_more_tokens_than_the_context(name):
    model = tiny_model(name)
    packs, plain = both(model)
    longest = model.config.max_position_embeddings
    many = ragged([(longest // 2 - k, k + 1) for k in range(5)] + [(2, longest - 2)])
    assert many.lengths_read.sum() > longest
    assert one_pass(packs, many)
    with torch.no_grad():
        assert apart(packs.of_episodes(many), plain.of_episodes(many)) < 1e-5


def test_rows_without_an_action_are_left_out():
    packs, plain = both(tiny_model("gpt2").double())
    some = replace(
        BATCH,
        action_rows=BATCH.action_rows[BATCH.action_rows != 1],
        action_slots=BATCH.action_slots[BATCH.action_rows != 1],
    )
    assert one_pass(packs, some)
    with torch.no_grad():
        assert apart(packs.of_episodes(some), plain.of_episodes(some)) < 1e-12


def test_the_model_is_as_it_was_afterwards():
    model = tiny_model("llama")
    packs, _ = both(model)
    before = model.config._attn_implementation
    assert one_pass(packs, BATCH)
    assert model.config._attn_implementation == before
    ids = BATCH.input_ids[:2]
    with torch.no_grad():
        expected = decoder_of(model)(input_ids=ids, use_cache=False).last_hidden_state
        assert torch.equal(packs.full(ids), expected)


def test_checkpointed_layers_eager_attention_and_bfloat16_passes_are_not_packed():
    packs, _ = both(tiny_model("llama"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not one_pass(packs, BATCH)
    assert one_pass(packs, BATCH)
    packs.decoder.gradient_checkpointing_enable()
    assert not one_pass(packs, BATCH)
    eager, _ = both(tiny_model("llama"))
    eager.config._attn_implementation = "eager"
    assert not one_pass(eager, BATCH)


def test_the_widest_window_that_rows_outgrow_is_the_one_to_ask_about(monkeypatch):
    monkeypatch.setattr("llm_gym.policy.packed_rows.windows", lambda config: [2, 6, 60])
    model = any_tiny_model("mistral", sliding_window=6, max_position_embeddings=64)
    packs, _ = both(model)
    assert not one_pass(packs, BATCH)


def test_a_model_that_refuses_more_than_its_context_is_asked_before():
    model = tiny_model("llama")
    context = model.config.max_position_embeddings
    packs, plain = both(model)

    def refuse(module, args, kwargs):
        if kwargs["input_ids"].shape[1] > context:
            raise IndexError("beyond the context")

    packs.decoder.register_forward_pre_hook(refuse, with_kwargs=True)
    assert one_pass(packs, BATCH)
    many = ragged([(context // 2 - k, 1) for k in range(5)])
    assert not one_pass(packs, many)
    with torch.no_grad():
        assert apart(packs.of_episodes(many), plain.of_episodes(many)) < 1e-5


@pytest.mark.parametrize(("context", "asked"), [(2048, True), (2049, False), (8, True), (7, False)])
def test_what_would_be_dear_or_cannot_be_asked_is_not(context, asked, monkeypatch):
    model = tiny_model("llama", max_position_embeddings=context)
    packs, _ = both(model)
    many = ragged([(context // 2 - k, k + 1) for k in range(3)])
    questions = []
    monkeypatch.setattr(
        "llm_gym.policy.packed_rows._reads_alike", lambda *_: bool(questions.append(1)) or True
    )
    assert packs.packing.may_read(many, packs) == asked
    assert bool(questions) == asked


def test_on_other_devices_rows_are_read_side_by_side():
    packs, _ = both(tiny_model("gpt2"))
    elsewhere = replace(BATCH, input_ids=BATCH.input_ids.to("meta"))
    assert not packs.packing.may_read(elsewhere, packs)
    assert packs.packing.may_read(BATCH, packs)


def test_rows_of_one_length_are_read_as_they_are():
    packs, _ = both(tiny_model("gpt2"))
    packs.packing.may_read = None  # is not asked
    assert one_pass(packs, ragged([(2, 3), (3, 2), (1, 4)]))


@pytest.mark.parametrize(("tokens", "may"), [(2049, True), (2050, False)])
def test_a_batch_as_long_as_the_context_is_not_beyond_it(tokens, may, monkeypatch):
    packs, _ = both(tiny_model("llama", max_position_embeddings=2049))
    monkeypatch.setattr("llm_gym.policy.packed_rows._reads_alike", lambda *_: True)
    batch = ragged([(1000, 1), (tokens - 1000, 1)])
    assert batch.lengths_read.sum() == tokens
    assert packs.packing.may_read(batch, packs) == may


@pytest.mark.parametrize(("longest", "asked"), [(5, 1), (6, 5)])
def test_a_window_as_wide_as_the_longest_row_is_not_outgrown(longest, asked, monkeypatch):
    packs, _ = both(tiny_model("llama"))
    seen = []
    monkeypatch.setattr("llm_gym.policy.packed_rows.windows", lambda config: [5, 60])
    monkeypatch.setattr("llm_gym.policy.packed_rows._reads_alike", lambda *_: True)
    monkeypatch.setattr(
        "llm_gym.policy.packed_rows._question", lambda trunk, window, *_: seen.append(window)
    )
    assert packs.packing.may_read(ragged([(longest, 1), (2, 1)]), packs)
    assert seen == [asked]


@pytest.mark.parametrize(("context", "read"), [(None, 7), (100, 7), (8, 7), (7, 6)])
def test_the_question_outgrows_a_window_as_far_as_the_context_has_room(context, read):
    packs, _ = both(tiny_model("llama"))
    question = packed_rows._question(packs, 5, context, beyond=False)
    assert question.lengths_read.tolist() == [read, 1, read - 1, 2]
    assert question.input_ids.shape == (4, read + 1)


@pytest.mark.parametrize("more", [0.0, 1e-6])
def test_states_as_far_apart_as_the_tolerance_are_alike(more, monkeypatch):
    packs, _ = both(tiny_model("llama"))
    states = packs.full(BATCH.context)[BATCH.action_rows, BATCH.action_slots - 1]
    recorded = []
    packs.packed = lambda batch: recorded.append(torch.is_grad_enabled()) or states + more
    monkeypatch.setattr("llm_gym.policy.packed_rows.tolerance", lambda *_: 0.0)
    assert packed_rows._reads_alike(packs, BATCH) == (more == 0.0)
    assert recorded == [False]


@pytest.mark.parametrize(
    ("attention", "may"),
    [("".join(["sd", "pa"]), True), ("eager", False), ("tiled", False), ("flex_attention", False)],
)
def test_attention_of_another_name_is_left_alone(attention, may, monkeypatch):
    packs, _ = both(tiny_model("llama"))
    monkeypatch.setattr("llm_gym.policy.packed_rows._reads_alike", lambda *_: True)
    monkeypatch.setattr(packs.config, "_attn_implementation_internal", attention)
    assert packs.config._attn_implementation == attention
    assert packs.packing.may_read(BATCH, packs) == may
