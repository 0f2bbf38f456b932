"""The record of an answer."""

from __future__ import annotations

import pytest

from llm_gym.text.answer import Answer, pack_answers, scores_of


def test_a_batch_of_answers_begins_each_answer_behind_its_prompt():
    batch = pack_answers(
        [
            Answer(prompt_ids=(4, 5), completion_ids=(6, 1)),
            Answer(prompt_ids=(7,), completion_ids=(8,)),
        ],
        pad_token_id=1,
    )
    assert batch.input_ids.tolist() == [[4, 5, 6, 1], [7, 8, 1, 1]]
    assert batch.answer_rows.tolist() == [0, 0, 1]
    assert batch.answer_slots.tolist() == [2, 3, 1]


def test_scores_are_refused_where_one_is_missing():
    answers = [Answer(score=0.5), Answer()]
    assert scores_of(answers[:1]).tolist() == [0.5]
    with pytest.raises(ValueError, match=r"answers\[1\] has no score"):
        scores_of(answers)
