"""Each way of writing a scorer is called the way its author expects."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor

import pytest

from llm_gym.scorers import ScorerSignatureError, as_scorer

PROMPTS, COMPLETIONS = ["2+2=", "1+1="], ["4", "3"]
COLUMNS = {"answer": ["4", "2"], "level": [1, 1]}


def exact(prompts, completions, answer):
    assert prompts == PROMPTS
    return [float(a == c) for a, c in zip(answer, completions, strict=True)]


def exact_with_keywords(completions, answer, **kwargs):
    assert kwargs == {"prompts": PROMPTS, "level": [1, 1]}
    return exact(kwargs["prompts"], completions, answer)


def exact_positional(prompts, completions, /, **columns):
    assert columns == COLUMNS
    return exact(prompts, completions, columns["answer"])


def exact_keyword_only(*, completions, answer, prompts):
    return exact(prompts, completions, answer)


def exact_swapped(completions, prompts, answer):
    return exact(prompts, completions, answer)


def exact_all_keywords(**kwargs):
    return exact(kwargs["prompts"], kwargs["completions"], kwargs["answer"])


def exact_own_names(questions, replies, answer):
    return exact(questions, replies, answer)


def exact_starred(*texts, answer):
    return exact(*texts, answer)


def exact_column_first(answer, **kwargs):
    return exact(kwargs["prompts"], kwargs["completions"], answer)


def exact_two_columns_first(answer, level, **kwargs):
    return exact(kwargs["prompts"], kwargs["completions"], answer)


def exact_with_default(prompts, completions, answer, strictness=1.0):
    assert strictness == 1.0
    return exact(prompts, completions, answer)


async def exact_async(completions, prompts, answer):
    await asyncio.sleep(0)
    return exact(prompts, completions, answer)


@functools.wraps(exact)
def exact_decorated(*args, **kwargs):
    return exact(*args, **kwargs)


class Judge:
    def __call__(self, prompts, completions, answer):
        return exact(prompts, completions, answer)

    def method(self, completions, **kwargs):
        return exact(kwargs["prompts"], completions, kwargs["answer"])


@pytest.mark.parametrize(
    "scorer",
    [
        exact,
        exact_with_keywords,
        exact_positional,
        exact_keyword_only,
        exact_swapped,
        exact_all_keywords,
        exact_own_names,
        exact_starred,
        exact_column_first,
        exact_two_columns_first,
        exact_with_default,
        exact_async,
        exact_decorated,
        Judge(),
        Judge().method,
        lambda p, c, answer: exact(p, c, answer),
        functools.partial(exact_with_default, strictness=1.0),
        functools.partial(lambda weight, p, c, answer: exact(p, c, answer), 2.0),
    ],
    ids=lambda scorer: getattr(scorer, "__name__", type(scorer).__name__),
)
def test_every_signature_gets_what_it_asks_for(scorer):
    assert as_scorer(scorer).score(PROMPTS, COMPLETIONS, COLUMNS).values.tolist() == [1.0, 0.0]


def test_columns_that_are_not_accepted_are_left_out():
    scorer = as_scorer(lambda prompts, completions: [1.0, 2.0])
    assert scorer.score(PROMPTS, COMPLETIONS, COLUMNS).values.tolist() == [1.0, 2.0]


def test_a_builtin_without_a_signature_gets_prompts_and_completions(monkeypatch):
    def no_signature(function):
        raise ValueError("no signature found")

    monkeypatch.setattr("llm_gym.scorers.calling.inspect.signature", no_signature)
    scorer = as_scorer(lambda prompts, completions: [len(c) for c in completions])
    assert scorer.score(PROMPTS, COMPLETIONS, COLUMNS).values.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("columns", [{}, {"level": [1, 1]}])
def test_a_missing_column_is_named(columns):
    with pytest.raises(ScorerSignatureError, match="'exact' requires 'answer', which is not"):
        as_scorer(exact).score(PROMPTS, COMPLETIONS, columns)


def test_a_parameter_bound_by_partial_is_not_missing():
    scorer = as_scorer(functools.partial(exact, answer=["4", "2"]))
    assert scorer.name == "exact"
    assert scorer.score(PROMPTS, COMPLETIONS).values.tolist() == [1.0, 0.0]


def test_a_prompt_parameter_by_another_name_is_named():
    """`f(prompt, completions)` looks like a TRL function that wants a column called prompt."""
    with pytest.raises(ScorerSignatureError, match="requires 'prompt'"):
        as_scorer(lambda prompt, completions: [1.0, 1.0]).score(PROMPTS, COMPLETIONS)


def test_a_column_named_like_a_positional_parameter_is_ambiguous():
    scorer = as_scorer(lambda question, answer: [1.0, 1.0])
    assert scorer(PROMPTS, COMPLETIONS) == [1.0, 1.0]
    with pytest.raises(ScorerSignatureError, match="'answer' would take the completions"):
        scorer.score(PROMPTS, COMPLETIONS, COLUMNS)


@pytest.mark.parametrize("scorer", [lambda: [1.0], lambda texts: [1.0], lambda p, /, **k: [1.0]])
def test_a_signature_without_room_for_completions_is_refused_at_once(scorer):
    with pytest.raises(TypeError, match="cannot take the completions"):
        as_scorer(scorer)


def test_an_async_scorer_works_inside_a_running_loop():
    """Notebooks have one; in a thread of its own, since this one may have one already."""

    async def notebook():
        return as_scorer(exact_async).score(PROMPTS, COMPLETIONS, COLUMNS).values.tolist()

    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(asyncio.run, notebook()).result() == [1.0, 0.0]
