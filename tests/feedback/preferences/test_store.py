"""The store: adding, asking, voting, undoing, counting."""

from __future__ import annotations

import itertools

import pytest

from llm_gym.feedback.preferences import Choice, Comparison, PreferenceStore, Vote
from llm_gym.feedback.preferences import store as store_module


@pytest.fixture
def store(tmp_path):
    with PreferenceStore(tmp_path / "votes.db") as opened:
        yield opened


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told to."""

    class Clock:
        now = 1000.0

        def time(self) -> float:
            return self.now

    made = Clock()
    monkeypatch.setattr(store_module, "time", made)
    return made


def pairs(number: int) -> list[Comparison]:
    return [Comparison(f"prompt {n}", (f"good {n}", f"bad {n}"), {"n": n}) for n in range(number)]


def say(store, number, rater, choice, **kwargs):
    return store.vote(number, rater, choice, **{"seconds": 1.0, "shown_first": 0, **kwargs})


# ------------------------------------------------------------------ comparisons


def test_comparisons_come_back_as_they_went_in(store):
    odd = Comparison("p\u2028\x00 <b>é𝄞", ("a\r\n", " a"), {"list": [1, None, {"k": "ü"}]})
    numbers = store.add([odd, *pairs(2)])
    assert numbers == [1, 2, 3]
    back = list(store.comparisons())
    assert [comparison.id for comparison in back] == numbers
    assert (back[0].prompt, back[0].answers, back[0].columns) == (
        odd.prompt,
        odd.answers,
        odd.columns,
    )
    assert store.comparison(3) == back[2]


def test_the_same_pair_is_there_once_in_whatever_order(store):
    first, second = store.add([Comparison("p", ("a", "b")), Comparison("p", ("c", "a"))])
    again = store.add([Comparison("p", ("b", "a"), {"new": 1}), Comparison("q", ("a", "b"))])
    assert again == [first, second + 1]
    assert store.comparison(first).answers == ("a", "b")
    assert store.comparison(first).columns == {}
    # Texts that only look alike when joined are different pairs.
    assert store.add([Comparison("p", ("ab", "c"))]) != store.add([Comparison("p", ("a", "bc"))])


def test_adding_is_all_or_nothing(store):
    def broken():
        yield from pairs(3)
        yield Comparison("p", ("same", "same"))

    with pytest.raises(ValueError, match="identical"):
        store.add(broken())
    with pytest.raises(ValueError, match="no such comparison"):
        store.add_votes([Vote(store.add(pairs(1))[0], "ann", Choice.TIE, 0, 0), *bad_votes()])
    assert list(store.votes()) == []
    assert len(list(store.comparisons())) == 1


def bad_votes():
    return [Vote(99, "ann", Choice.TIE, 0, 0)]


def test_an_unknown_comparison_is_a_clear_error(store):
    with pytest.raises(ValueError, match="comparison_id=7: there is no such comparison"):
        store.comparison(7)
    with pytest.raises(ValueError, match="comparison_id=7: there is no such comparison"):
        say(store, 7, "ann", "first")


# ------------------------------------------------------------------ who is asked what


def test_a_rater_is_asked_everything_once_and_then_nothing(store):
    store.add(pairs(3))
    asked = []
    while (comparison := store.next_for("ann")) is not None:
        asked.append(comparison.id)
        say(store, comparison.id, "ann", "skip" if comparison.id == 2 else "first")
    assert asked == [1, 2, 3]


def test_two_raters_never_have_the_same_pair_unless_two_votes_are_wanted(store):
    store.add(pairs(2))
    assert [store.next_for(name).id for name in ("ann", "bob")] == [1, 2]
    assert store.next_for("cyd") is None
    # With two votes wanted, cyd gets the pair that has the fewest raters at it.
    assert store.next_for("cyd", votes_per_comparison=2).id == 1
    assert store.next_for("dee", votes_per_comparison=2).id == 2
    assert store.next_for("eve", votes_per_comparison=2) is None


def test_asking_again_gives_the_same_pair_until_it_is_voted_on(store):
    store.add(pairs(2))
    assert [store.next_for("ann").id for _ in range(3)] == [1, 1, 1]
    say(store, 1, "ann", "tie")
    assert store.next_for("ann").id == 2


def test_a_rater_who_closes_the_page_does_not_keep_the_pair(store, clock):
    store.add(pairs(1))
    assert store.next_for("ann", lease_seconds=60).id == 1
    clock.now += 59
    assert store.next_for("bob", lease_seconds=60) is None
    clock.now += 2
    assert store.next_for("bob", lease_seconds=60).id == 1
    # Ann comes back late: her work is not thrown away.
    assert say(store, 1, "ann", "first").choice is Choice.FIRST
    assert say(store, 1, "bob", "second").choice is Choice.SECOND


def test_the_fewest_votes_come_first(store):
    store.add(pairs(3))
    say(store, 1, "ann", "first")
    say(store, 2, "ann", "skip")
    assert store.next_for("bob", votes_per_comparison=2).id == 2
    say(store, 2, "bob", "first")
    say(store, 3, "bob", "first")
    assert store.next_for("bob", votes_per_comparison=2).id == 1


def test_a_skip_is_no_vote_and_another_rater_is_asked(store):
    store.add(pairs(1))
    say(store, 1, "ann", "skip")
    assert store.next_for("ann") is None
    assert store.next_for("bob").id == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"votes_per_comparison": 0}, "votes_per_comparison must be a whole number from 1 on"),
        ({"votes_per_comparison": 1.5}, "votes_per_comparison"),
        ({"lease_seconds": 0}, "lease_seconds must be above 0"),
        ({"rater": " "}, "rater is empty"),
    ],
)
def test_bad_questions_are_refused(store, arguments, problem):
    with pytest.raises(ValueError, match=problem):
        store.next_for(**{"rater": "ann", **arguments})


# ------------------------------------------------------------------ votes


def test_a_vote_comes_back_with_who_when_and_how_long(store):
    store.add(pairs(1))
    vote = say(store, 1, "ann", "second", seconds=2.5, shown_first=1)
    assert list(store.votes()) == [vote]
    assert (vote.rater, vote.choice, vote.seconds, vote.shown_first) == (
        "ann",
        Choice.SECOND,
        2.5,
        1,
    )
    assert vote.created_at.endswith("+00:00")
    assert vote.id == 1


def test_a_second_vote_of_the_same_rater_is_refused(store):
    store.add(pairs(1))
    say(store, 1, "ann", "first")
    with pytest.raises(ValueError, match="'ann' has already voted 'first' on comparison 1"):
        say(store, 1, "ann", "second")
    say(store, 1, "bob", "second")
    assert [vote.rater for vote in store.votes()] == ["ann", "bob"]


def test_a_request_repeated_with_its_key_counts_once(store):
    store.add(pairs(2))
    vote = say(store, 1, "ann", "first", key="k1")
    assert say(store, 1, "ann", "first", key="k1") == vote
    assert len(list(store.votes())) == 1
    with pytest.raises(ValueError, match="key='k1' belongs to another vote"):
        say(store, 2, "ann", "first", key="k1")
    with pytest.raises(ValueError, match="key='k1' belongs to another vote"):
        say(store, 1, "ann", "second", key="k1")


def test_a_late_repetition_does_not_bring_back_what_was_undone(store):
    store.add(pairs(1))
    say(store, 1, "ann", "first", key="k1")
    store.undo("ann")
    with pytest.raises(ValueError, match="taken back"):
        say(store, 1, "ann", "first", key="k1")
    say(store, 1, "ann", "first", key="k2")
    with pytest.raises(ValueError, match="taken back"):
        say(store, 1, "ann", "first", key="k1")
    assert len(list(store.votes())) == 1


def test_undo_takes_back_the_last_vote_of_that_rater_only_and_keeps_it_on_record(store):
    store.add(pairs(3))
    first = say(store, 1, "ann", "first")
    second = say(store, 2, "ann", "skip")
    other = say(store, 3, "bob", "tie")
    assert store.undo("ann") == second
    assert store.undo("ann") == first
    assert store.undo("ann") is None
    assert list(store.votes()) == [other]
    assert list(store.votes(undone=True)) == [first, second]


def test_what_was_undone_is_asked_next_and_of_nobody_else(store):
    store.add(pairs(3))
    say(store, store.next_for("ann").id, "ann", "first")
    assert store.next_for("ann").id == 2
    store.undo("ann")
    assert store.next_for("bob").id == 2
    assert store.next_for("ann").id == 1
    say(store, 1, "ann", "second")
    assert [vote.choice for vote in store.votes()] == [Choice.SECOND]


def test_what_a_rater_has_on_the_table_comes_before_what_is_older(store):
    store.add(pairs(2))
    assert store.next_for("bob").id == 1
    say(store, store.next_for("ann").id, "ann", "first")
    say(store, 1, "bob", "skip")
    store.undo("ann")
    assert store.next_for("ann").id == 2


def test_many_votes_at_once(store):
    numbers = store.add(pairs(3))
    made = store.add_votes(Vote(n, "sim", Choice.FIRST, 0, 1, "2020-01-01") for n in numbers)
    assert made == list(store.votes())
    assert {vote.created_at for vote in made} == {"2020-01-01"}
    with pytest.raises(ValueError, match="already voted"):
        store.add_votes([Vote(1, "new", Choice.TIE, 0, 0), Vote(1, "sim", Choice.TIE, 0, 0)])
    assert len(list(store.votes())) == 3


# ------------------------------------------------------------------ progress


def test_progress_counts(store):
    store.add(pairs(4))
    empty = store.progress()
    assert (empty.comparisons, empty.voted, empty.votes, empty.remaining) == (4, 0, 0, 4)
    assert (empty.seconds, empty.by_rater) == (0.0, {})
    say(store, 1, "ann", "first", seconds=2)
    say(store, 1, "bob", "second", seconds=3)
    say(store, 2, "ann", "tie", seconds=4)
    say(store, 3, "bob", "skip", seconds=5)
    say(store, 4, "ann", "first", seconds=100)
    store.undo("ann")

    both = store.progress(votes_per_comparison=2)
    assert (both.voted, both.votes, both.ties, both.skips, both.seconds) == (2, 3, 1, 1, 14)
    assert both.by_rater == {"ann": 2, "bob": 1}
    assert both.remaining == 0 + 1 + 2 + 2
    assert store.progress().remaining == 2

    bob = store.progress("bob", votes_per_comparison=2)
    assert (bob.voted, bob.votes, bob.ties, bob.skips, bob.seconds) == (1, 1, 0, 1, 8)
    assert bob.by_rater == {"bob": 1}
    assert bob.remaining == 2  # comparisons 2 and 4
    assert store.progress("bob").remaining == 1  # 2 has the one vote wanted


def test_progress_agrees_with_what_is_asked(store):
    """`remaining` of a rater is the number of questions that the rater will still get."""
    store.add(pairs(6))
    choices = itertools.cycle(["first", "skip", "tie"])
    for rater, count in (("ann", 4), ("bob", 3)):
        for _ in range(count):
            say(store, store.next_for(rater, votes_per_comparison=2).id, rater, next(choices))
    expected = store.progress("cyd", votes_per_comparison=2).remaining
    asked = 0
    while (comparison := store.next_for("cyd", votes_per_comparison=2)) is not None:
        say(store, comparison.id, "cyd", "first")
        asked += 1
    assert asked == expected > 0


def test_a_closed_store_says_so(tmp_path):
    store = PreferenceStore(tmp_path / "deep" / "er" / "votes.db")
    store.add(pairs(1))
    store.close()
    store.close()
    with pytest.raises(ValueError, match="closed; open it again"):
        store.next_for("ann")
    with PreferenceStore(store.path) as again:
        assert len(list(again.comparisons())) == 1


# ------------------------------------------------------------------ numbers beyond SQLite


@pytest.mark.parametrize("number", [2**63, -1, 10**30, -(10**30), 10**1000])
@pytest.mark.parametrize(
    "call",
    [
        lambda store, n: store.comparison(n),
        lambda store, n: say(store, n, "Ada", "tie"),
        lambda store, n: store.add_votes([Vote(n, "Ada", "tie", 1.0, 0)]),
        lambda store, n: store.next_for("Ada", votes_per_comparison=n),
        lambda store, n: store.progress(votes_per_comparison=n),
        lambda store, n: store.preferences(last_vote=n),
        lambda store, n: say(store, 1, "Ada", "tie", shown_first=n),
    ],
)
def test_a_number_that_the_file_cannot_hold_is_refused_by_every_method(store, call, number):
    store.add(pairs(1))
    with pytest.raises(ValueError, match=r"^(comparison_id|votes_per|last_vote|shown_first)"):
        call(store, number)
    assert not list(store.votes())


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 10**400])
def test_a_lease_that_is_no_length_of_time_is_refused(store, seconds):
    store.add(pairs(1))
    say(store, 1, "Ada", "tie")
    for call in (store.next_for, store.undo):
        with pytest.raises(ValueError, match="lease_seconds"):
            call("Ada", lease_seconds=seconds)
    assert len(list(store.votes())) == 1


@pytest.mark.parametrize("key", ["", "\0" * 20, "a\nb", "\u202eabc", "\ud800", 7])
def test_a_key_that_nobody_can_see_is_refused(store, key):
    store.add(pairs(1))
    with pytest.raises((TypeError, ValueError), match="key"):
        say(store, 1, "Ada", "tie", key=key)
    assert not list(store.votes())


@pytest.mark.parametrize("wrong", [5, [5], ["text"], [None]])
def test_what_is_added_is_comparisons_or_votes(store, wrong):
    with pytest.raises(TypeError, match=r"must be a (list of )?Comparison"):
        store.add(wrong)
    with pytest.raises(TypeError, match=r"must be a (list of )?Vote"):
        store.add_votes(wrong)
    assert not list(store.comparisons())
