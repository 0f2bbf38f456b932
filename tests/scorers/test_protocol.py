"""The protocol: what goes in, what comes out, and what an error says."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from llm_gym.scorers import Scorer, ScorerError, Scores, as_scorer
from llm_gym.scorers.protocol import shorten


def length(prompts, completions):
    return [len(text) for text in completions]


def test_a_callable_becomes_a_checked_scorer():
    scores = as_scorer(length).score(["a", "b"], ["x", "yy"])
    assert scores.values.dtype == np.float64
    assert scores.values.tolist() == [1.0, 2.0]
    assert scores.parts == {}


def test_a_scorer_is_returned_as_it_is():
    scorer = as_scorer(length)
    assert as_scorer(scorer) is scorer


def test_another_name_makes_a_copy_and_leaves_the_scorer_alone():
    scorer = as_scorer(length)
    renamed = as_scorer(scorer, name="long")
    assert (renamed.name, scorer.name) == ("long", "length")
    assert renamed(["p"], ["abc"]) == [3.0]


def test_a_scorer_is_a_trl_reward_function():
    """TRL calls by keyword, with further keywords, and reads the name."""
    scorer = as_scorer(length, name="long")
    assert scorer(prompts=["p"], completions=["abc"], completion_ids=[[1]], trainer_state=None) == [
        3.0
    ]
    assert scorer.__name__ == "long"


@pytest.mark.parametrize("thing", [None, 3, ["f"]])
def test_what_is_not_callable_is_refused(thing):
    with pytest.raises(TypeError, match="must be callable"):
        as_scorer(thing)


def test_a_class_is_refused():
    class Judge:
        def __call__(self, prompts, completions):
            return [1.0]

    with pytest.raises(TypeError, match="class Judge; pass an instance"):
        as_scorer(Judge)
    assert as_scorer(Judge()).name == "Judge"


def test_a_function_may_return_parts():
    def judged(prompts, completions):
        return Scores([3.0], {"style": [1], "content": [2]})

    scores = as_scorer(judged).score(["p"], ["c"])
    assert {name: part.tolist() for name, part in scores.parts.items()} == {
        "style": [1.0],
        "content": [2.0],
    }


@pytest.mark.parametrize(
    ("parts", "problem"),
    [({"style": [1, 2]}, "2 scores for 1 .* its part 'style'"), ([1.0], "parts of type list")],
)
def test_parts_are_checked_too(parts, problem):
    with pytest.raises(ScorerError, match=problem):
        as_scorer(lambda prompts, completions: Scores([3.0], parts)).score(["p"], ["c"])


def test_an_exception_is_wrapped_with_its_cause():
    def broken(prompts, completions):
        raise KeyError("lost")

    with pytest.raises(
        ScorerError, match=r"'broken' raised KeyError: 'lost' .*'a prompt'.*'a text'"
    ) as caught:
        as_scorer(broken).score(["a prompt"], ["a text"])
    assert isinstance(caught.value.__cause__, KeyError)


def test_ctrl_c_is_not_an_error_of_the_scorer():
    def interrupted(prompts, completions):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        as_scorer(interrupted).score(["p"], ["c"])


def test_the_error_names_scorer_prompt_and_completion_of_the_row():
    def worst(prompts, completions):
        return [1.0, float("nan")]

    with pytest.raises(ScorerError) as caught:
        as_scorer(worst).score(["one", "two"], ["fine", "bad\x1b[2J" + "z" * 500])
    error = caught.value
    assert (error.scorer, error.prompt) == ("worst", "two")
    assert error.completion.endswith("z" * 500)
    message = str(error)
    assert "'worst' returned the score nan" in message
    assert "row 1 of 2: prompt 'two'" in message
    assert "\x1b" not in message
    assert len(message) < 250


def test_errors_cross_process_borders():
    """AsyncVectorEnv and SubprocVecEnv pickle what a worker raises."""
    error = as_scorer(length).error("went wrong", ["p"], ["c"])
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.scorer, again.prompt) == (str(error), "length", "p")


def test_shorten_keeps_both_ends_and_escapes():
    text = "start\n" + "x" * 200 + "end"
    short = shorten(text)
    assert len(short) == 80
    assert short.startswith(r"'start\nxx")
    assert short.endswith("xend'")
    assert shorten("brief") == "'brief'"


def test_an_empty_batch_does_not_call_the_scorer():
    def never(prompts, completions):
        raise AssertionError

    assert as_scorer(never).score([], []).values.shape == (0,)


def test_prompts_and_completions_must_match():
    with pytest.raises(ValueError, match="2 prompts and 1 completions"):
        as_scorer(length).score(["a", "b"], ["c"])


def test_a_lone_text_is_no_batch():
    with pytest.raises(TypeError, match="lists of str"):
        as_scorer(length).score("ab", "cd")


@pytest.mark.parametrize("reserved", ["prompts", "completions"])
def test_reserved_column_names_are_refused(reserved):
    with pytest.raises(ValueError, match=f"{reserved!r}; rename"):
        as_scorer(length).score(["a"], ["b"], {reserved: ["x"]})


def test_a_scorer_cannot_spoil_the_batch_of_its_caller():
    def spoil(prompts, completions):
        completions.clear()
        return [float("nan")]

    completions = ["c"]
    with pytest.raises(ScorerError, match="completion 'c'"):
        as_scorer(spoil).score(["p"], completions)
    assert completions == ["c"]


def test_a_subclass_needs_only_compute():
    class Half(Scorer):
        name = "half"

        def compute(self, prompts, completions, columns):
            return [0.5] * len(prompts)

    assert Half()(["p"], ["c"]) == [0.5]
    assert Half().__name__ == "half"
    assert Half.__name__ == "Half"


def test_scorers_can_be_copied():
    scorer = copy.deepcopy(as_scorer(length))
    assert scorer(["p"], ["abc"]) == [3.0]
