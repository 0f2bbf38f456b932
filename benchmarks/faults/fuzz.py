"""Files that nobody would write: each is read, or refused by name.

Hypothesis makes them: rows in every container, JSON of any shape, whole files with a part of them
changed. A reader may return, or raise `ValueError`, `TypeError` or `FileNotFoundError` with the
file's name in it, within seconds. Anything else is a failure.
"""

from __future__ import annotations

import csv
import io
import json
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import hypothesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.faults.rows import Row

SECONDS = 600  # of a whole measurement
LONGEST = 10  # seconds that a reader may take

KEYS = (
    "prompt", "chosen", "rejected", "completion", "completions", "response", "answer", "answers",
    "messages", "conversations", "role", "content", "from", "value", "instruction", "input",
    "output", "text", "ratings", "label", "rater", "tie", "question", "system",
)  # fmt: skip

_TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", " ", "user", "assistant", "\ud800", "\x00", "\u2028", "[", '[{"role": "user"}]', "{}"]
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | _TEXTS
    | st.sampled_from([10**400, -1, 2**63, 1e308])
)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | _TEXTS, inner, max_size=5)
    ),
    max_leaves=12,
)
_ROWS = st.lists(st.dictionaries(st.sampled_from(KEYS), _JSON, max_size=4) | _JSON, max_size=4)
_JUNK = st.binary(max_size=60) | st.sampled_from(
    [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"\xef\xbb\xbf", b'"' * 9, b"\r", b"9" * 5000]
)


class Target(NamedTuple):
    """Something that reads files.

    Attributes:
        file: Name of the file.
        read: Takes its path.
        contents: Makes what is in it.
    """

    file: str
    read: Callable[[Path], Any]
    contents: st.SearchStrategy[bytes]


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _as_csv(rows: list[Any]) -> bytes:
    table = io.StringIO()
    writer = csv.writer(table, escapechar="\\")
    for row in rows:
        cells = list(row.values()) if isinstance(row, dict) else [row]
        keys = list(row) if isinstance(row, dict) else []
        for line in (keys, cells):
            writer.writerow([str(cell) for cell in line])
    return table.getvalue().encode("utf-8", "surrogatepass")


@st.composite
def changed(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with a few bytes of it replaced, left out or put in."""
    start = draw(st.integers(0, len(content)))
    length = draw(st.integers(0, 8))
    return content[:start] + draw(st.binary(max_size=8)) + content[start + length :]


@st.composite
def changed_value(draw: st.DrawFn, content: Any) -> bytes:
    """JSON with one value of it replaced, left out or joined by another."""
    content = json.loads(json.dumps(content))
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], (dict, list)) and place[key] and draw(st.integers(0, 3)):
            place = place[key]
            continue
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                place[key] = draw(_JSON)
            case "remove":
                del place[key]
            case "add" if isinstance(place, dict):
                place[draw(_TEXTS)] = draw(_JSON)
            case "add":
                place.append(draw(_JSON))
        break
    return _dumped(content)


def of_rows(name: str) -> st.SearchStrategy[bytes]:
    """Contents of a file of rows, by the ending of its name."""
    lines = _ROWS.map(lambda rows: b"\n".join(map(_dumped, rows)))
    as_written = {
        ".jsonl": lines,
        ".json": _ROWS.map(_dumped) | _JSON.map(_dumped),
        ".csv": _ROWS.map(_as_csv),
        ".tsv": _ROWS.map(lambda rows: _as_csv(rows).replace(b",", b"\t")),
    }
    whole = as_written.get(Path(name).suffix, lines)
    return whole | _JUNK | st.tuples(whole, _JUNK).map(b"\n".join)


def readers() -> dict[str, Target]:
    """All readers of rows, in all containers."""
    from llm_gym.feedback.preferences.files import read_comparisons, read_preferences
    from llm_gym.feedback.reward_model.rated_texts import read_rated_texts
    from llm_gym.supervised.documents import read_documents
    from llm_gym.supervised.pairs import read_pairs
    from llm_gym.text.prompts import read_prompts

    kinds: Mapping[str, Callable[[Path], Any]] = {
        "prompts": read_prompts,
        "pairs": read_pairs,
        "texts": read_documents,
        "preferences": read_preferences,
        "comparisons": read_comparisons,
        "ratings": read_rated_texts,
    }
    return {
        f"{kind}{suffix}": Target(f"file{suffix}", read, of_rows(f"file{suffix}"))
        for kind, read in kinds.items()
        for suffix in (".jsonl", ".json", ".csv", ".tsv", ".txt")
    }


def records(root: Path) -> dict[str, Target]:
    """Files that runs write and read again.

    Args:
        root: Directory for what is changed.
    """
    from typer.main import get_command

    from benchmarks.faults.checkpoints import Target as Checkpoint
    from llm_gym.cli.app import app
    from llm_gym.cli.config_file import read_config
    from llm_gym.files.owned import read_marker
    from llm_gym.runs.checkpoint import METADATA, read_metadata
    from llm_gym.runs.directory import RunDirectory
    from llm_gym.stages.train import load_config

    metadata = json.loads((Checkpoint(root).whole / METADATA).read_text(encoding="utf-8"))
    marker = {
        "format": 1,
        "kind": "model",
        "llm_gym": "0",
        "files": {"a": {"bytes": 1, "sha256": "0"}},
    }
    train = get_command(app).commands["train"]  # type: ignore[attr-defined]
    kinds = {parameter.name: str for parameter in train.params}
    record = {"stage": "sft", "fingerprint": "x", "figures": {"a": 1.0}, "seconds": 2.0}
    config = {"seed": 3, "total_tokens": 100, "scorer": "length", "mixed_precision": "no"}
    config_file = b"seed: 3\nscorer: length\nlearning-rate: [1, 2]\nprompts: {a: b}\n"

    def read_record(path: Path) -> Any:
        directory = RunDirectory(path.parents[1], {}, steps=["sft"])
        directory.fingerprint = "x"  # type: ignore[misc]
        return directory.record("sft")

    def in_folder(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
        return lambda path: read(path.parent)

    def any_of(value: Any) -> st.SearchStrategy[bytes]:
        return changed_value(value) | changed(_dumped(value)) | _JUNK | _JSON.map(_dumped)

    return {
        "checkpoint.json": Target(METADATA, in_folder(read_metadata), any_of(metadata)),
        "llm_gym.json": Target("llm_gym.json", in_folder(read_marker), any_of(marker)),
        "settings.json": Target("settings.json", in_folder(load_config), any_of(config)),
        "record": Target("stages/1-sft.json", read_record, any_of(record)),
        "config.yaml": Target(
            "config.yaml",
            lambda path: read_config(path, train, kinds),
            changed(config_file) | any_of(config),
        ),
    }


def problem(target: Target, path: Path) -> str | None:
    """What is wrong with how a file was read; None if nothing is."""
    try:
        with warnings.catch_warnings(), _at_most(LONGEST):
            warnings.simplefilter("ignore")
            target.read(path)
    except (ValueError, TypeError, FileNotFoundError) as error:
        named = path.name in str(error) or str(path.parent) in str(error)
        return None if named else f"does not name the file: {type(error).__name__}: {error}"
    except Exception as error:  # a defect: the report names it
        return f"{type(error).__name__}: {error}"
    return None


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise RuntimeError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def failure(target: Target, root: Path, examples: int, seed: int) -> str | None:
    """The smallest file that was read wrongly, and what happened; None if there is none.

    Args:
        target: What reads.
        root: Directory for the file.
        examples: How many files to try.
        seed: Of Hypothesis.
    """
    path = root / target.file
    path.parent.mkdir(parents=True, exist_ok=True)

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(target.contents)
    def try_one(content: bytes) -> None:
        path.write_bytes(content)
        found = problem(target, path)
        assert found is None, f"{content!r:.200}: {found:.300}"

    try:
        try_one()
    except AssertionError as error:
        return str(error).splitlines()[0]
    return None


def measure(output: Path, quick: bool) -> list[Row]:
    """Tries files for ten minutes, or seconds.

    Args:
        output: Directory for the files.
        quick: 30 files a reader.

    Returns:
        A row, one a reader counted; and how many files that were.
    """
    targets = {**readers(), **records(output / "fuzz" / "checkpoint")}
    failures: dict[str, str] = {}
    tried, round_, end = 0, 0, time.monotonic() + SECONDS
    examples = 30 if quick else 300
    while not round_ or (not quick and time.monotonic() < end):
        for name, target in targets.items():
            if name in failures:
                continue
            found = failure(target, output / "fuzz" / name, examples, seed=round_)
            tried += examples
            if found is not None:
                failures[name] = f"{name}: {found}"
        round_ += 1
    what = f"readers of files, {tried:,} files that nobody would write: read, or refused by name"
    good = len(targets) - len(failures)
    return [Row(what, good, len(targets), list(failures.values()))]
