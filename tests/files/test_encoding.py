"""Bytes that are text and bytes that are none, in every reader, and what plain text is to each."""

from __future__ import annotations

import json

import pytest

from llm_gym.files.rows import DataWarning
from llm_gym.supervised.documents import read_documents
from tests.files.readers import ENCODINGS, READERS, TEXT_CONTAINERS, WORDS, prompts, readers, write


@readers
@pytest.mark.parametrize("container", ["json lines", "csv"])
@pytest.mark.parametrize("bad_rows", ["error", "skip"])
def test_every_reader_names_a_line_that_is_not_utf8(kind, container, bad_rows, tmp_path):
    read, rows, _ = READERS[kind]
    ending, written = TEXT_CONTAINERS[container]
    plain = json.loads(json.dumps(rows).replace("\\n", " "))
    lines = written(plain).split("\n")
    place = next(n for n, line in enumerate(lines) if "Zo" in line)
    data = "\n".join(lines).encode().replace("Zoë".encode(), "Zoë".encode("latin-1"))
    path = write(tmp_path / f"data{ending}", data)
    message = rf"data{ending}, line {place + 1}: not UTF-8 \(byte 0xeb at column \d+\)"
    if bad_rows == "skip" and container == "json lines":  # of which each line is by itself
        with pytest.warns(UserWarning, match=f"1 of 3 rows cannot be read .*{message}"):
            assert read(path, bad_rows="skip") == read(plain[1:])
    else:
        with pytest.raises(ValueError, match=message):
            read(path, bad_rows=bad_rows)


@readers
@pytest.mark.parametrize("container", TEXT_CONTAINERS)
def test_every_reader_names_utf16_without_a_mark(kind, container, tmp_path):
    read, rows, _ = READERS[kind]
    ending, written = TEXT_CONTAINERS[container]
    path = write(tmp_path / f"data{ending}", written(rows).encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"line 1: a zero byte .*UTF-16 without a byte order mark"):
        read(path)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    "text",
    [
        "日本語の文\n二行目\n",
        "日本語の文\r\nabc",
        "乡乡乡\nabc",  # "aNaNaN" in UTF-8
        "上下\n一\n",  # bytes of line ends, and zeros of its own, inside characters
        "Ærø\n\tΩ 🙂\n",
        "one line, and no end",
        "old\rmac",
    ],
)
def test_text_without_a_mark_is_named_though_its_first_line_has_no_zero(encoding, text, tmp_path):
    path = write(tmp_path / "data.txt", text.encode(encoding))
    name = encoding[:6].upper()
    problem = rf"data\.txt, line 1: a zero byte .*: it is {name} without a byte order mark; save"
    for read in (prompts, read_documents):
        with pytest.raises(ValueError, match=problem):
            read(path)
    with pytest.warns(DataWarning, match=problem), pytest.raises(ValueError, match="none of its 1"):
        prompts(path, bad_rows="skip")


def test_a_stray_zero_byte_or_another_encoding_is_not_called_utf16(tmp_path):
    lines = [b"first", b"second \0 word", b"third", b"b\xe4r"]
    for joined in (b"\n".join(lines), b"\n".join(lines) + b"\n"):
        path = write(tmp_path / "data.txt", joined)
        with pytest.raises(ValueError, match="line 2: a zero byte at column 8"):
            prompts(path)
        with pytest.warns(DataWarning, match=r"2 of 4 rows .*line 4: not UTF-8 \(byte 0xe4 at col"):
            assert [text for text, _ in prompts(path, bad_rows="skip")] == ["first", "third"]


@readers
@pytest.mark.parametrize("container", ["json lines", "json array"])
def test_half_a_character_is_named_by_its_row(kind, container, tmp_path):
    read, rows, _ = READERS[kind]
    ending, _ = TEXT_CONTAINERS[container]
    first = json.dumps(rows[0]).replace(WORDS[0][:3], "\\ud83d")
    first = first.replace("Gr\\u00fc\\u00df dich", "\\ud83d")
    second = json.dumps(rows[1])
    data = f"{second}\n{first}\n" if ending == ".jsonl" else f"[{second}, {first}]"
    with pytest.raises(ValueError, match=r"(line|row) 2: .* has a lone surrogate at character 0"):
        read(write(tmp_path / f"data{ending}", data))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_text_file_is_a_prompt_a_line_or_one_document(encoding, tmp_path):
    path = write(tmp_path / "data.txt", ENCODINGS[encoding]("Grüß dich\n\n  Zoë 🙂\n"))
    assert prompts(path) == [("Grüß dich", {}), ("  Zoë 🙂", {})]
    assert [text.rstrip("\n") for text in read_documents(path)] == ["Grüß dich\n\n  Zoë 🙂"]


def test_marks_of_joined_files_are_no_text(tmp_path):
    lines = "".join(f"\ufeff{word}\r\n" for word in ("one", "two"))
    path = write(tmp_path / "data.txt", lines)
    assert prompts(path) == [("one", {}), ("two", {})]
    assert read_documents(path) == ["one\ntwo\n"]
    path = write(tmp_path / "data.json", '[\n{"text": "one"},\n\ufeff{"text": "two"}]')
    assert read_documents(path) == ["one", "two"]


def test_documents_are_in_files_of_any_other_ending(tmp_path):
    assert read_documents(write(tmp_path / "README.md", "# Title")) == ["# Title"]
    assert read_documents(write(tmp_path / "book", "Once")) == ["Once"]
    with pytest.raises(ValueError, match="line 1: a zero byte"):
        read_documents(write(tmp_path / "model.bin", bytes(range(256))))
