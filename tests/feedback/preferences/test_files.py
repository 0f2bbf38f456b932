"""Preference files: TRL's format, in JSONL and Parquet, and everything that can be wrong there."""

from __future__ import annotations

import json
import math
import sys
from datetime import datetime, timezone
from decimal import Decimal

import pytest

from llm_gym.feedback.preferences import Preference, read_preferences, write_preferences

ROWS = [
    Preference("Say\u2028it\nthus", "yes\r", "ñö 𝄞", {"n": 1, "tags": ["x", "y"]}),
    Preference("p", "b", "a"),
    Preference("p", "b", "c", {"who": "ann", "n": 2}),
]


def write_lines(path, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def row(prompt="p", chosen="a", rejected="b", **columns):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **columns}


@pytest.fixture(params=["jsonl", "parquet"])
def path(request, tmp_path):
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return tmp_path / "deep" / f"preferences.{request.param}"


def test_what_is_written_is_read(path):
    assert write_preferences(path, ROWS) == path
    assert read_preferences(path) == ROWS
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_file_is_replaced_whole_or_not_at_all(path):
    write_preferences(path, ROWS)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="there are no preferences to write"):
        write_preferences(path, [])
    assert path.read_bytes() == before
    write_preferences(path, ROWS[1:])
    assert read_preferences(path) == ROWS[1:]


def test_trl_reads_the_columns_it_needs_first(tmp_path):
    line = write_preferences(tmp_path / "x.jsonl", ROWS).read_text(encoding="utf-8").split("\n")[0]
    assert list(json.loads(line)) == ["prompt", "chosen", "rejected", "n", "tags"]
    assert "ñö 𝄞" in line


@pytest.mark.parametrize("name", ["preferences.json", "preferences", "preferences.csv"])
def test_other_endings_are_not_written(tmp_path, name):
    with pytest.raises(ValueError, match=r"ends in \.jsonl or \.parquet"):
        write_preferences(tmp_path / name, ROWS)


def test_a_missing_file_is_said_to_be_missing(path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_preferences(path)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"prompt": "p", "chosen": "a"}, "line 3: has no 'rejected'"),
        ({"chosen": "a", "rejected": "b"}, "line 3: has no 'prompt'"),
        (row(chosen=None), "line 3: has no 'chosen'"),
        (row(prompt=" "), "line 3: prompt is empty"),
        (row(rejected=""), "line 3: rejected is empty"),
        (row(chosen=7), "line 3: chosen must be a text"),
        (row(chosen="b"), "line 3: chosen and rejected are identical"),
        (row(chosen="\ud800"), "line 3: chosen has a lone surrogate"),
        ([1, 2], "line 3: needs an object"),
        ("{", "line 3: not JSON"),
        ("[" * 100_000, "line 3: not JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path, bad, problem):
    path = write_lines(tmp_path / "x.jsonl", row(), "", bad, row(prompt="q"))
    with pytest.raises(ValueError, match=problem):
        read_preferences(path)


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(json.dumps(row()).encode() + b"\n\xff\n")
    with pytest.raises(ValueError, match="line 2: not UTF-8"):
        read_preferences(path)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(row()).encode() + b"\r\n\r\n")
    assert read_preferences(path) == [Preference("p", "a", "b")]


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_refused(tmp_path, content):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is empty: there is nothing to read"):
        read_preferences(path)


# ------------------------------------------------------------------ contradictions


def test_contradictions_are_reported_kept_or_dropped(tmp_path):
    path = write_lines(
        tmp_path / "x.jsonl",
        row("p", "a", "b"),
        row("q", "a", "b"),
        row("p", "b", "a"),
        row("p", "a", "b"),
        row("p", "a", "c"),
    )
    with pytest.raises(ValueError, match=r"line 3 says the opposite of line 1 \(3 such rows"):
        read_preferences(path)
    assert len(read_preferences(path, contradictions="keep")) == 5
    kept = read_preferences(path, contradictions="drop")
    assert [(each.prompt, each.rejected) for each in kept] == [("q", "b"), ("p", "c")]
    with pytest.raises(ValueError, match="contradictions='ignore' must be"):
        read_preferences(path, contradictions="ignore")


def test_raters_may_differ_and_a_tie_is_no_contradiction(tmp_path):
    path = write_lines(
        tmp_path / "x.jsonl",
        row("p", "a", "b", rater="ann"),
        row("p", "b", "a", rater="bob"),
        row("q", "a", "b", tie=True),
        row("q", "b", "a", tie=True),
    )
    assert len(read_preferences(path)) == 4


# ------------------------------------------------------------------ messages


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": [user("p")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
        # TRL's implicit prompt: what chosen and rejected have in common at the beginning.
        {"chosen": [user("p"), assistant("a")], "rejected": [user("p"), assistant("b")]},
        {
            "prompt": [user("p")],
            "chosen": [user("p"), assistant("a")],
            "rejected": [user("p"), assistant("b")],
        },
        {
            "prompt": "p",
            "chosen": [user("p"), assistant("a")],
            "rejected": [user("p"), assistant("b")],
        },
    ],
)
def test_messages_become_texts(path, tmp_path, fields):
    written = write_lines(tmp_path / "x.jsonl", {**fields, "n": 1})
    if path.suffix == ".parquet":
        written = write_table(tmp_path, **{name: [value] for name, value in fields.items()}, n=[1])
    assert read_preferences(written) == [Preference("p", "a", "b", {"n": 1})]


def test_a_longer_conversation_is_written_out_and_kept(tmp_path):
    talk = [
        {"role": "system", "content": "Be kind."},
        user("Hi"),
        assistant("Hello"),
        user("Well?"),
    ]
    path = write_lines(
        tmp_path / "x.jsonl",
        {"prompt": talk, "chosen": [assistant("a")], "rejected": [assistant("b")]},
    )
    (read,) = read_preferences(path)
    assert read.prompt == "system: Be kind.\n\nuser: Hi\n\nassistant: Hello\n\nuser: Well?"
    assert read.columns == {"prompt_messages": talk}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"prompt": [user("p")], "chosen": [assistant("a")], "rejected": "b"},
            "rejected must be a list",
        ),
        (
            {"prompt": [user("p")], "chosen": "a", "rejected": "b"},
            "chosen must be a list of messages, since another field is one, got 'a'",
        ),
        (
            {"chosen": [user("p"), assistant("a")], "rejected": [user("q"), assistant("b")]},
            "no prompt, and chosen and rejected do not begin alike",
        ),
        (
            {
                "prompt": [user("p")],
                "chosen": [assistant("a"), user("b"), assistant("c")],
                "rejected": [assistant("b")],
            },
            "chosen must be one message of the assistant after the prompt",
        ),
        (
            {"prompt": [user("p")], "chosen": [user("a")], "rejected": [assistant("b")]},
            r"got the roles \['user'\]",
        ),
        (
            {
                "prompt": "p",
                "chosen": [{"role": "x", "content": [1]}],
                "rejected": [assistant("b")],
            },
            "chosen has a message that is not",
        ),
        ({"prompt": "p", "chosen": ["a"], "rejected": ["b"]}, "chosen has a message that is not"),
        ({"prompt": "p", "chosen": [], "rejected": []}, "chosen must be a list of messages"),
        (
            {"chosen": [user("p"), assistant("a")], "rejected": [user("p"), assistant("a")]},
            "chosen and rejected are identical",
        ),
    ],
)
def test_bad_messages_are_named(tmp_path, fields, problem):
    with pytest.raises(ValueError, match=f"line 1: .*{problem}"):
        read_preferences(write_lines(tmp_path / "x.jsonl", fields))


# ------------------------------------------------------------------ Parquet


def test_a_bad_row_of_parquet_is_named(tmp_path):
    path = write_table(tmp_path, prompt=["p", "q"], chosen=["a", "a"], rejected=["b", None])
    with pytest.raises(ValueError, match="row 2: has no 'rejected'"):
        read_preferences(path)


def test_columns_as_pandas_writes_them_are_read(tmp_path):
    moment = datetime(2026, 1, 2, 3, tzinfo=timezone.utc)
    path = write_table(
        tmp_path,
        prompt=["p", "q"],
        chosen=["a", "a"],
        rejected=["b", "b"],
        score=[0.5, math.nan],
        at=[moment, None],
    )
    assert [row.columns for row in read_preferences(path)] == [
        {"score": 0.5, "at": "2026-01-02T03:00:00+00:00"},
        {},
    ]


def test_a_column_that_json_cannot_hold_is_left_out_and_named(tmp_path):
    path = write_table(
        tmp_path,
        prompt=["p"],
        chosen=["a"],
        rejected=["b"],
        image=[b"x"],
        price=[Decimal("1.5")],
        embedding=[[0.5, math.nan]],
        n=[1],
    )
    with pytest.warns(UserWarning, match="is left out, since JSON") as told:
        assert read_preferences(path) == [Preference("p", "a", "b", {"n": 1})]
    names = [str(warning.message).split("column ")[1].split(" is")[0] for warning in told]
    assert names == ["'image'", "'price'", "'embedding'"]


def write_table(directory, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), directory / "x.parquet")
    return directory / "x.parquet"


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_half_a_parquet_file_is_refused(tmp_path, share):
    pytest.importorskip("pyarrow")
    path = write_preferences(tmp_path / "x.parquet", ROWS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match="not a whole Parquet file"):
        read_preferences(path)


@pytest.mark.parametrize("values", [(1, "one"), ({}, {}), (10**30, 1)])
def test_columns_that_parquet_cannot_hold_are_refused(tmp_path, values):
    pytest.importorskip("pyarrow")
    rows = [
        Preference("p", "a", "b", {"x": values[0]}),
        Preference("q", "a", "b", {"x": values[1]}),
    ]
    with pytest.raises(ValueError, match=r"write a \.jsonl file"):
        write_preferences(tmp_path / "x.parquet", rows)
    assert list(tmp_path.iterdir()) == []
    assert read_preferences(write_preferences(tmp_path / "x.jsonl", rows)) == rows


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'llm-gym\[parquet\]'"):
        write_preferences(tmp_path / "x.parquet", ROWS)
    (tmp_path / "y.parquet").write_bytes(b"PAR1")
    with pytest.raises(ImportError, match="parquet"):
        read_preferences(tmp_path / "y.parquet")
    assert read_preferences(write_preferences(tmp_path / "x.jsonl", ROWS)) == ROWS
