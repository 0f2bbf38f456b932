from __future__ import annotations

import pytest

from llm_gym.feedback.labelling.questions import ConflictError
from llm_gym.feedback.labelling.store_desk import StoreDesk
from llm_gym.feedback.preferences.records import Choice, Comparison
from tests.feedback.labelling.conftest import fill, reply_to


def answer_all(desk, rater, verdict="left"):
    questions = []
    while (question := desk.next(rater)) is not None:
        questions.append(question)
        desk.answer(rater, reply_to(question, verdict))
    return questions


def test_a_vote_is_for_the_answer_that_stood_there(desk, store):
    for verdict in ("left", "right", "tie", "skip"):
        question = desk.next("Ada")
        desk.answer("Ada", reply_to(question, verdict, seconds=3.5))
        vote = list(store.votes())[-1]
        stored = store.comparison(vote.comparison_id).answers
        assert vote.shown_first == question.shown_first
        assert question.answers[0] == stored[vote.shown_first]
        assert (vote.rater, vote.seconds) == ("Ada", 3.5)
        if verdict in ("left", "right"):
            chosen = {Choice.FIRST: stored[0], Choice.SECOND: stored[1]}[vote.choice]
            assert chosen == question.answers[verdict == "right"]
        else:
            assert vote.choice.value == verdict


def test_order_is_random_but_the_same_for_one_rater_and_comparison(store):
    fill(store, 40)

    def order(rater, seed=0):
        desk = StoreDesk(store, seed=seed, votes_per_comparison=9)
        return [question.shown_first for question in answer_all(desk, f"{rater} {seed}")]

    ada = order("Ada")
    assert 8 <= sum(ada) <= 32  # mean 20, standard deviation 3.2
    assert ada != order("Bob")
    assert ada != order("Ada", seed=1)
    desk = StoreDesk(store, votes_per_comparison=9)
    assert desk.next("Cy") == StoreDesk(store, votes_per_comparison=9).next("Cy")


def test_the_order_that_was_shown_counts_even_if_the_seed_has_changed_since(store):
    number = fill(store, 1)[0]
    shown = StoreDesk(store, seed=0).next("Ada")
    other = next(
        desk
        for desk in (StoreDesk(store, seed=seed) for seed in range(1, 50))
        if desk.next("Ada").shown_first != shown.shown_first
    )
    other.answer("Ada", reply_to(shown, "left"))
    chosen = next(store.votes()).choice is Choice.SECOND
    assert store.comparison(number).answers[chosen] == shown.answers[0]


def test_a_repeated_reply_counts_once(desk, store):
    reply = reply_to(desk.next("Ada"), "left")
    desk.answer("Ada", reply)
    desk.answer("Ada", reply)
    assert len(list(store.votes())) == 1
    assert desk.summary("Ada").done == 1


def test_a_second_reply_of_the_same_rater_is_a_conflict(desk, store):
    question = desk.next("Ada")
    desk.answer("Ada", reply_to(question, "left"))
    with pytest.raises(ConflictError, match="already voted"):
        desk.answer("Ada", reply_to(question, "right"))
    assert desk.summary("Ada").done == 1


def test_a_reply_to_a_question_of_another_store_is_refused(desk, store, tmp_path):
    from llm_gym.feedback.preferences.store import PreferenceStore

    with PreferenceStore(tmp_path / "other.db") as other:
        other.add([Comparison("Another prompt", ("a", "b"))])
        foreign = StoreDesk(other).next("Ada")
    with pytest.raises(ConflictError, match="another"):
        desk.answer("Ada", reply_to(foreign, "left"))
    with pytest.raises(ConflictError, match="no such comparison"):
        desk.answer("Ada", reply_to(foreign.__class__(99, "p", ("a", "b")), "left"))
    assert not list(store.votes())


def test_a_comparison_takes_no_score(desk):
    with pytest.raises(ConflictError, match="no score"):
        desk.answer("Ada", reply_to(desk.next("Ada"), 70))


def test_undo_gives_the_same_question_again(desk, store):
    first = desk.next("Ada")
    desk.answer("Ada", reply_to(first, "left"))
    second = desk.next("Ada")
    undo_id = desk.summary("Ada").undo_id
    assert desk.undo("Ada", undo_id) == first
    assert not list(store.votes())
    assert desk.summary("Ada").undo_id is None
    desk.answer("Ada", reply_to(first, "right"))
    assert desk.next("Ada") == second


def test_a_repeated_undo_takes_back_one_vote(desk, store):
    for _ in range(2):
        desk.answer("Ada", reply_to(desk.next("Ada"), "left"))
    undo_id = desk.summary("Ada").undo_id
    desk.undo("Ada", undo_id)
    assert desk.undo("Ada", undo_id) is None
    assert len(list(store.votes())) == 1


def test_undo_is_for_the_raters_own_votes(store):
    fill(store)
    desk = StoreDesk(store, votes_per_comparison=2)
    desk.answer("Ada", reply_to(desk.next("Ada"), "left"))
    assert desk.summary("Bob").undo_id is None
    assert desk.undo("Bob", desk.summary("Ada").undo_id) is None
    assert len(list(store.votes())) == 1


def test_undo_sees_votes_of_another_page(store):
    fill(store)
    here, there = StoreDesk(store), StoreDesk(store)
    here.answer("Ada", reply_to(here.next("Ada"), "left"))
    stale = here.summary("Ada").undo_id
    there.answer("Ada", reply_to(there.next("Ada"), "left"))
    assert here.undo("Ada", stale) is None
    assert len(list(store.votes())) == 2
    assert here.undo("Ada", here.summary("Ada").undo_id) is not None


def test_it_resumes_where_it_stopped(store):
    fill(store)
    desk = StoreDesk(store)
    desk.answer("Ada", reply_to(desk.next("Ada"), "left"))
    open_question = desk.next("Ada")
    again = StoreDesk(store)
    assert again.next("Ada") == open_question
    assert (again.summary("Ada").done, again.summary("Ada").total) == (1, 5)


def test_budget_counts_skips_and_earlier_sessions(store):
    fill(store)
    assert len(answer_all(StoreDesk(store, budget=2), "Ada", "skip")) == 2
    desk = StoreDesk(store, budget=3)
    assert (desk.summary("Ada").done, desk.summary("Ada").total) == (2, 3)
    assert len(answer_all(desk, "Ada")) == 1
    assert desk.next("Ada") is None
    assert desk.summary("Ada").seconds_left == 0
    assert desk.next("Bob") is not None


def test_two_raters_get_different_pairs_until_more_votes_are_wanted(store):
    fill(store, 2)
    desk = StoreDesk(store)
    assert desk.next("Ada").id != desk.next("Bob").id
    assert desk.next("Cy") is None
    both = StoreDesk(store, votes_per_comparison=2)
    assert {question.id for question in answer_all(both, "Ada")} == {1, 2}
    assert {question.id for question in answer_all(both, "Bob")} == {1, 2}


def test_time_left_is_at_the_median_pace(desk):
    for seconds in (10.0, 12.0, 4000.0):
        desk.answer("Ada", reply_to(desk.next("Ada"), "left", seconds=seconds))
    assert desk.summary("Ada").seconds_left == 12.0 * 2
    assert desk.summary("Bob").seconds_left is None


def test_notes_tell_agreement_and_effort(store):
    fill(store, 4)
    desk = StoreDesk(store, votes_per_comparison=2)
    assert desk.summary("Ada").notes == (
        "One small training run wants 2,326 judgements: 19.4 hours if each took 30 s",
    )
    verdicts = {}
    for rater in ("Ada", "Bob"):
        for _ in range(4):
            question = desk.next(rater)
            preferred = verdicts.setdefault(question.id, question.answers[0])
            if rater == "Bob" and question.id == 1:  # he disagrees on one of four
                preferred = next(answer for answer in question.answers if answer != preferred)
            verdict = "left" if question.answers[0] == preferred else "right"
            desk.answer(rater, reply_to(question, verdict, seconds=45.0))
    assert desk.summary("Ada").notes == (
        "2 raters say the same on 75 % of 4 shared pairs",
        "8 votes so far: 6 min of people's time",
        "One small training run wants 2,326 judgements: 29.1 hours at this pace",
    )


@pytest.mark.parametrize("option", [{"votes_per_comparison": 0}, {"budget": 0}])
def test_numbers_out_of_range(store, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        StoreDesk(store, **option)
