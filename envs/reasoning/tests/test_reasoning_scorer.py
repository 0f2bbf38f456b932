"""The scorer gives reasoning-gym's own verdict."""

from __future__ import annotations

import ast
import inspect
import textwrap

import numpy as np
import pytest
from llm_gym_reasoning.questions import draw_questions, make_dataset
from llm_gym_reasoning.scorer import RUNS_ANSWERS, ReasoningScorer

from llm_gym import ScorerError

TASKS = [
    "chain_sum",
    "spell_backward",
    "letter_counting",
    "gcd",
    "word_sorting",
    "basic_arithmetic",
]


def rows_of(task, number=8):
    dataset, rows = draw_questions(task, size=number, test_size=1)
    return dataset, rows["train"]


def score(scorer, rows, completions):
    return scorer.score(
        [row["prompt"] for row in rows], completions, {"entry": [row["entry"] for row in rows]}
    )


@pytest.mark.parametrize("task", TASKS)
def test_scores_are_the_datasets_own_verdicts(task):
    dataset, rows = rows_of(task)
    scorer = ReasoningScorer(dataset)
    right = [row["entry"]["answer"] for row in rows]
    wrong = right[1:] + right[:1]
    partial = [f"the answer is {text}" for text in right]
    for completions in (right, wrong, partial, [""] * len(rows)):
        expected = [
            dataset.score_answer(text, row["entry"])
            for text, row in zip(completions, rows, strict=True)
        ]
        assert score(scorer, rows, completions).values.tolist() == expected
    assert score(scorer, rows, right).values.tolist() == [1.0] * len(rows)
    assert score(scorer, rows, wrong).values.min() < 1.0


def test_partial_credit_by_hand():
    scorer = ReasoningScorer(make_dataset("chain_sum"))
    entry = {"question": "6 + 6 =", "answer": "12"}
    rows = [{"prompt": entry["question"], "entry": entry}] * 4
    scores = score(scorer, rows, [" 12\n", "12.0", "12 12", "13"])
    # "12 12" contains the answer: 2 of its 5 characters.
    assert scores.values.tolist() == [1.0, 1.0, 0.4, 0.0]
    assert scores.parts["correct"].tolist() == [1.0, 1.0, 0.0, 0.0]


def test_answer_formats():
    dataset, rows = rows_of("chain_sum", 1)
    right = rows[0]["entry"]["answer"]
    completion = f"I think <answer> {right} </answer>, or\n {right} \n"
    for answer_format, expected in (
        ("answer_tag", 1.0),
        ("last_line", 1.0),
        (lambda text: text.split()[-1], 1.0),
        (lambda text: None, 0.0),
    ):
        scorer = ReasoningScorer(dataset, answer_format=answer_format)
        assert score(scorer, rows, [completion]).values.tolist() == [expected]
    assert score(ReasoningScorer(dataset), rows, [completion]).values[0] < 1.0
    untagged = score(ReasoningScorer(dataset, answer_format="answer_tag"), rows, [right])
    assert untagged.values.tolist() == [0.0]
    assert untagged.parts["unreadable"].tolist() == [1.0]


def test_what_the_dataset_cannot_read_is_worth_nothing():
    dataset, rows = rows_of("prime_factorization", 2)
    with pytest.raises(ValueError):
        dataset.score_answer("hello", rows[0]["entry"])
    scores = score(ReasoningScorer(dataset), rows, ["hello", rows[1]["entry"]["answer"]])
    assert scores.values.tolist() == [0.0, 1.0]
    assert scores.parts["unreadable"].tolist() == [1.0, 0.0]


def test_a_batch_is_the_loop():
    dataset, rows = rows_of("spell_backward", 6)
    scorer = ReasoningScorer(dataset)
    completions = [row["entry"]["answer"][:3] for row in rows]
    loop = [
        score(scorer, [row], [text]).values[0] for row, text in zip(rows, completions, strict=True)
    ]
    assert np.array_equal(score(scorer, rows, completions).values, loop)


def test_a_prompt_without_its_entry_is_refused():
    scorer = ReasoningScorer(make_dataset("gcd"))
    with pytest.raises(ScorerError, match='no column "entry"'):
        scorer.score(["?"], ["1"])


def test_the_list_of_scorers_that_run_answers_is_complete():
    make_dataset("gcd")
    from reasoning_gym.factory import DATASETS

    running = set()
    for name, (dataset_class, _) in DATASETS.items():
        source = textwrap.dedent(inspect.getsource(dataset_class.score_answer))
        called = {
            getattr(node.func, "id", getattr(node.func, "attr", ""))
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Call)
        }
        # number_sorting evaluates its own answer, propositional_logic has a parser of that name.
        if called & {"eval", "exec", "parse_expr", "sympify"}:
            running.add(name)
    assert running - {"number_sorting", "propositional_logic"} <= RUNS_ANSWERS
    assert running | {"composite"} >= RUNS_ANSWERS
