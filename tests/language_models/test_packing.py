"""Packing: the batch equals one made cell by cell, whatever the lengths and the pad token."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from llm_gym.language_models.packing import IGNORED, by_length, pack, pad, pad_inputs


@pytest.mark.parametrize("pad_token_id", [0, 1, 9])
def test_a_batch_equals_the_one_made_cell_by_cell(pad_token_id):
    rng = np.random.default_rng(0)
    rows = [rng.integers(10, size=n).tolist() for n in (5, 1, 7, 3)]
    prompt_lengths = [2, 0, 7, 1]  # the third is all prompt
    batch = pack(rows, prompt_lengths, pad_token_id=pad_token_id)
    places = []
    for row, ids in enumerate(rows):
        for column in range(7):
            is_token = column < len(ids)
            is_answer = is_token and column >= prompt_lengths[row]
            assert batch.input_ids[row, column] == (ids[column] if is_token else pad_token_id)
            assert batch.attention_mask[row, column] == int(is_token)
            assert batch.labels[row, column] == (ids[column] if is_answer else IGNORED)
            places += [(row, column)] if is_answer else []
    assert list(zip(batch.answer_rows.tolist(), batch.answer_slots.tolist(), strict=True)) == places
    assert batch.answer_ids.tolist() == [rows[row][column] for row, column in places]
    assert batch.lengths.tolist() == [5, 1, 7, 3]
    assert {tensor.dtype for tensor in (*batch, batch.attention_mask, batch.labels)} == {
        torch.int64
    }


def test_without_prompt_lengths_every_token_is_an_answers():
    batch = pack([np.array([4, 5]), (6,)])
    assert batch.labels.tolist() == [[4, 5], [6, IGNORED]]


@pytest.mark.parametrize("prompt_lengths", [[1], [1, 3], [-1, 0], [1, 1, 1]])
def test_a_prompt_length_that_does_not_fit_its_row_is_refused(prompt_lengths):
    with pytest.raises(ValueError, match="prompt_lengths="):
        pack([[3, 4], [5, 6]], prompt_lengths)


@pytest.mark.parametrize("make", [pack, pad, lambda rows: pad_inputs(rows, 0)])
def test_no_rows_are_no_batch(make):
    with pytest.raises(ValueError, match="rows is empty"):
        make([])


def test_which_id_fills_and_where_a_batch_goes_are_given_by_name():
    with pytest.raises(TypeError):
        pack([[1, 2]], None, 0)
    with pytest.raises(TypeError):
        pad([[1, 2]], 0, "cpu")
    with pytest.raises(TypeError):
        pad_inputs([{"input_ids": [1, 2]}], 0, "cpu")


def test_only_ids_are_padded_with_the_pad_token():
    rows = [
        {"input_ids": [5], "attention_mask": [1]},
        {"input_ids": [6, 7], "attention_mask": [1, 1]},
    ]
    padded = pad_inputs(rows, 3)
    assert padded["input_ids"].tolist() == [[5, 3], [6, 7]]
    assert padded["attention_mask"].tolist() == [[1, 0], [1, 1]]


def test_batches_by_length_hold_every_row_once_from_short_to_long():
    assert list(by_length([5, 2, 5, 1, 2], 2)) == [[3, 1], [4, 0], [2]]
    assert list(by_length([], 2)) == []


def test_what_is_no_target_is_what_torch_and_transformers_ignore():
    parameters = inspect.signature(torch.nn.functional.cross_entropy).parameters
    assert parameters["ignore_index"].default == IGNORED
