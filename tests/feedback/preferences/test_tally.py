"""Votes to preferences, and the way through a file and back."""

from __future__ import annotations

import pytest

from llm_gym.feedback.preferences import (
    Choice,
    Comparison,
    Preference,
    PreferenceStore,
    Vote,
    read_preferences,
    write_preferences,
)
from llm_gym.feedback.preferences.tally import to_preferences, to_votes


def votes(number: int, **choices: str) -> list[Vote]:
    return [
        Vote(number, rater, Choice(choice), 2.0, index % 2, f"2026-01-0{number}", index)
        for index, (rater, choice) in enumerate(choices.items())
    ]


COMPARISONS = [Comparison(f"p{n}", ("a", "b"), {"n": n}, n) for n in range(1, 7)]
VOTES = [
    *votes(1, ann="first", bob="first", cyd="second", dee="tie"),  # a, 2 : 1 of 4
    *votes(2, ann="second", bob="skip"),  # b, 1 : 0
    *votes(3, ann="first", bob="second"),  # even
    *votes(4, ann="tie"),  # even
    *votes(5, ann="skip"),  # nothing
]


def preferred(rows: list[Preference]) -> list[tuple[str, str]]:
    return [(row.prompt, row.chosen) for row in rows]


def test_the_majority_decides():
    rows = to_preferences(COMPARISONS, VOTES)
    assert preferred(rows) == [("p1", "a"), ("p2", "b")]
    assert rows[0].columns == {
        "n": 1,
        "raters": ["ann", "bob", "cyd", "dee"],
        "votes_for": 2,
        "votes_against": 1,
        "votes_tied": 1,
        "vote_margin": 0.25,
    }
    assert rows[1].columns["vote_margin"] == 1.0


def test_what_is_tied_may_count_both_ways():
    rows = to_preferences(COMPARISONS, VOTES, ties="both")
    tied = [("p3", "a"), ("p3", "b"), ("p4", "a"), ("p4", "b")]
    assert preferred(rows) == [("p1", "a"), ("p2", "b"), *tied]
    assert [row.columns.get("tie") for row in rows] == [None, None, True, True, True, True]
    assert {row.columns["vote_margin"] for row in rows[2:]} == {0.0}


def test_comparisons_in_conflict_may_be_dropped():
    assert preferred(to_preferences(COMPARISONS, VOTES, conflicts="drop")) == [("p2", "b")]


def test_every_vote_may_be_a_row():
    rows = to_preferences(COMPARISONS, VOTES, conflicts="all")
    first_comparison = [("p1", "a"), ("p1", "a"), ("p1", "b")]
    assert preferred(rows) == [*first_comparison, ("p2", "b"), ("p3", "a"), ("p3", "b")]
    assert rows[0].columns == {
        "n": 1,
        "rater": "ann",
        "seconds": 2.0,
        "created_at": "2026-01-01",
        "shown_first": "chosen",
    }
    # Of the second rater the second answer stood first; bob chose the other, cyd saw it second.
    assert [row.columns["shown_first"] for row in rows[1:3]] == ["rejected", "rejected"]
    assert len(to_preferences(COMPARISONS, VOTES, conflicts="all", ties="both")) == 6 + 2 * 2


@pytest.mark.parametrize("wrong", [{"ties": "half"}, {"conflicts": "minority"}])
def test_other_policies_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        to_preferences(COMPARISONS, VOTES, **wrong)


def test_no_column_of_ours_changes_how_trl_trains():
    """TRL's RewardTrainer takes a column `margin` as the margin of its loss."""
    for conflicts in ("majority", "all"):
        for row in to_preferences(COMPARISONS, VOTES, conflicts=conflicts, ties="both"):
            assert "margin" not in row.columns


def test_columns_of_ours_replace_those_of_the_same_name():
    comparison = Comparison("p", ("a", "b"), {"tie": True, "rater": 3, "kept": 1}, 1)
    (row,) = to_preferences([comparison], votes(1, ann="first"), conflicts="all")
    assert "tie" not in row.columns
    assert (row.columns["rater"], row.columns["kept"]) == ("ann", 1)


def test_rows_of_a_foreign_file_become_votes():
    rows = [
        Preference("p", "a", "b", {"seconds": "long", "created_at": 5, "x": 1}),
        Preference("p", "a", "b"),
        Preference("p", "b", "a"),
        Preference("q", "a", "b", {"rater": "ann", "seconds": 3, "shown_first": "rejected"}),
    ]
    made = to_votes(rows, "web")
    assert [vote.rater for _, vote in made] == ["web", "web (2)", "web (3)", "ann"]
    assert {vote.choice for _, vote in made} == {Choice.FIRST}
    assert made[0][0] == Comparison("p", ("a", "b"), {"x": 1})
    assert (made[0][1].seconds, made[0][1].created_at) == (0.0, "")
    assert (made[3][1].seconds, made[3][1].shown_first) == (3, 1)


# ------------------------------------------------------------------ store -> file -> store


@pytest.fixture
def store(tmp_path):
    with PreferenceStore(tmp_path / "votes.db") as opened:
        opened.add(COMPARISONS)
        opened.add_votes(VOTES)
        yield opened


def judgements(store: PreferenceStore) -> set[tuple]:
    """What was said, told apart from how the store numbers and orders it; skips left out."""
    said = set()
    for vote in store.votes():
        comparison = store.comparison(vote.comparison_id)
        preferred = {Choice.FIRST: 0, Choice.SECOND: 1}.get(vote.choice)
        said.add(
            (
                comparison.prompt,
                frozenset(comparison.answers),
                comparison.columns["n"],
                None if preferred is None else comparison.answers[preferred],
                vote.rater,
                vote.seconds,
                vote.created_at,
                comparison.answers[vote.shown_first],
            )
            if vote.choice is not Choice.SKIP
            else None
        )
    return said - {None}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_store_to_file_to_store_loses_no_vote(store, tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"votes.{suffix}"
    assert store.export_file(path, conflicts="all", ties="both") == 10
    with PreferenceStore(tmp_path / "other.db") as other:
        # The other store has one of the pairs already, the other way round.
        other.add([Comparison("p2", ("b", "a"), {"n": 2})])
        assert other.import_file(path) == 8
        assert judgements(other) == judgements(store)
        assert other.import_file(path) == 0
        assert len(list(other.votes())) == 8

        # And what a reader of TRL's columns sees is the same.
        again = tmp_path / f"again.{suffix}"
        other.export_file(again)
        store.export_file(path)
        plain = [
            {(row.prompt, row.chosen, row.rejected) for row in read_preferences(file)}
            for file in (path, again)
        ]
        assert plain[0] == plain[1] == {("p1", "a", "b"), ("p2", "b", "a")}


@pytest.mark.parametrize("conflicts", ["majority", "all"])
def test_arrow_which_trl_reads_files_with_understands_both_formats(store, tmp_path, conflicts):
    """`datasets` reads .jsonl with pyarrow.json and .parquet with pyarrow.parquet."""
    json_reader = pytest.importorskip("pyarrow.json")
    parquet_reader = pytest.importorskip("pyarrow.parquet")
    store.export_file(tmp_path / "x.jsonl", conflicts=conflicts, ties="both")
    store.export_file(tmp_path / "x.parquet", conflicts=conflicts, ties="both")
    expected = store.preferences(conflicts=conflicts, ties="both")
    for table in (
        json_reader.read_json(tmp_path / "x.jsonl"),
        parquet_reader.read_table(tmp_path / "x.parquet"),
    ):
        assert table.column_names[:3] == ["prompt", "chosen", "rejected"]
        rows = [(row["prompt"], row["chosen"], row["rejected"]) for row in table.to_pylist()]
        assert rows == [(row.prompt, row.chosen, row.rejected) for row in expected]


def test_a_file_without_raters_becomes_votes_once(tmp_path):
    rows = [Preference("p", "a", "b"), Preference("p", "a", "b"), Preference("q", "c", "d")]
    path = write_preferences(tmp_path / "x.jsonl", rows)
    with PreferenceStore(tmp_path / "votes.db") as store:
        assert store.import_file(path, rater="web") == 3
        assert store.import_file(path, rater="web") == 0
        assert store.progress().by_rater == {"web": 2, "web (2)": 1}


def test_a_file_that_contradicts_the_store_is_refused_whole(tmp_path):
    path = write_preferences(
        tmp_path / "x.jsonl", [Preference("q", "a", "b"), Preference("p", "b", "a")]
    )
    with PreferenceStore(tmp_path / "votes.db") as store:
        store.add([Comparison("p", ("a", "b"))])
        store.vote(1, "imported", "first", seconds=1, shown_first=0)
        with pytest.raises(ValueError, match=r"contradicts the store: .*nothing was imported"):
            store.import_file(path)
        assert store.progress().comparisons == 1
        assert store.import_file(path, rater="someone else") == 2


def test_a_contradictory_file_is_imported_as_told(tmp_path):
    path = write_preferences(
        tmp_path / "x.jsonl", [Preference("p", "a", "b"), Preference("p", "b", "a")]
    )
    with PreferenceStore(tmp_path / "votes.db") as store:
        with pytest.raises(ValueError, match="says the opposite"):
            store.import_file(path)
        assert store.import_file(path, contradictions="keep") == 2
        assert store.preferences() == []
        assert len(store.preferences(conflicts="all")) == 2


def test_nothing_to_export_is_said(tmp_path):
    with (
        PreferenceStore(tmp_path / "votes.db") as store,
        pytest.raises(ValueError, match="has no vote that says which answer is better"),
    ):
        store.export_file(tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()
