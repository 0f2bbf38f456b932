"""Files and directories that are not what a command wants."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from llm_gym.testing.tiny import save_tiny_model

DEEP = "[" * 100_000

CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n \n",
    "latin-1": 'prompt,completion\ncaf\xe9,th\xe9 {"text": 1}\n'.encode("latin-1"),
    "zeros": b"\0" * 64,
    "binary": bytes(range(256)) * 4,
    "deep": DEEP.encode(),
    "deep object": b'{"prompt":' * 50_000,
    "torn": b'{"prompt": "w1", "completion": "w',
    "number": b"7\n",
    "null": b"null\n",
    "surrogate": b'{"prompt": "w1 \\ud800", "completion": "w2", "text": "w1 \\udfff"}\n',
    "wrong keys": b'{"colour": "red"}\n',
    "wrong types": b'{"prompt": 3, "completion": [], "text": {}}\n',
    "huge number": b'{"prompt": ' + b"9" * 5_000 + b"}\n",
}
"""What stands in a file that should hold rows."""

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".txt")

TEMPLATES = {
    "syntax": "{% for m in messages %}",
    "undefined": "{{ messages[0].nothing.at_all }}",
    "raises": "{{ raise_exception('no such role') }}",
    "division": "{{ 1 / 0 }}",
    "filter": "{{ messages | nofilter }}",
}


def rows_files(directory: Path, suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[tuple[str, str]]:
    """Name of the fault and path, of every content in files of every kind."""
    directory.mkdir(parents=True, exist_ok=True)
    for suffix in suffixes:
        for name, content in CONTENTS.items():
            is_text = suffix == ".txt" and name in ("torn", "number", "null", "wrong keys")
            if is_text or (suffix == ".txt" and name.startswith(("wrong", "deep", "huge"))):
                continue  # plain text may say what it likes
            if suffix == ".txt" and name == "surrogate":
                continue  # six characters there
            if suffix == ".csv" and name in ("deep", "deep object", "huge number", "surrogate"):
                continue
            path = directory / f"{name.replace(' ', '_')}{suffix}"
            path.write_bytes(content)
            yield f"{name} {suffix}", str(path)
    folder = directory / "folder.jsonl"
    folder.mkdir(exist_ok=True)
    yield "a directory", str(folder)
    yield "missing", str(directory / "missing.jsonl")


def stores(directory: Path) -> Iterator[tuple[str, str]]:
    """Name of the fault and path of files that are no stores of votes."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("blank", "binary", "deep", "torn"):
        path = directory / f"{name}.db"
        path.write_bytes(CONTENTS[name])
        yield f"{name} store", str(path)
    other = directory / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("create table if not exists people (name)")
    yield "another database", str(other)
    damaged = directory / "damaged.db"
    damaged.write_bytes(b"SQLite format 3\0" + b"\xff" * 2_000)
    yield "damaged database", str(damaged)


def models(directory: Path) -> Iterator[tuple[str, str]]:
    """Name of the fault and path of directories that are no models."""
    directory.mkdir(parents=True, exist_ok=True)
    whole = Path(save_tiny_model(directory / "whole"))
    (directory / "nothing").mkdir(exist_ok=True)
    yield "empty directory", str(directory / "nothing")
    yield "missing directory", str(directory / "not-there")
    for file, faults in {
        "config.json": ("missing", "empty", "deep", "latin-1", "number", "null", "wrong keys"),
        "model.safetensors": ("missing", "empty", "binary", "half", "zeros"),
        "tokenizer.json": ("missing", "empty", "deep", "binary", "wrong keys"),
        "tokenizer_config.json": ("empty", "deep", "binary", "number"),
        "generation_config.json": ("empty", "deep", "binary", "number"),
    }.items():
        for fault in faults:
            copy = directory / f"{file}-{fault}".replace(" ", "_")
            shutil.copytree(whole, copy, dirs_exist_ok=True)
            path = copy / file
            content = path.read_bytes() if path.exists() else b""
            if fault == "missing":
                path.unlink()
            else:
                half = content[: len(content) // 2]
                path.write_bytes(half if fault == "half" else CONTENTS[fault])
            yield f"{file} {fault}", str(copy)
    for name, template in TEMPLATES.items():
        yield f"chat template {name}", with_template(whole, directory / f"chat-{name}", template)


def with_template(whole: Path, directory: Path, template: str) -> str:
    """A copy of a model whose tokenizer has a chat template."""
    shutil.copytree(whole, directory, dirs_exist_ok=True)
    (directory / "chat_template.jinja").write_text(template)
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "chat_template": template}))
    return str(directory)


SCORERS = {
    "syntax": "def score(prompts, completions\n",
    "raises": "def score(prompts, completions):\n    raise KeyError('w1')\n",
    "imports": "import nothing_of_that_name\n",
    "exits": "raise SystemExit(3)\n",
    "too few": "def score(prompts, completions):\n    return [1.0]\n",
    "texts": "def score(prompts, completions):\n    return ['good'] * len(prompts)\n",
    "nan": "def score(prompts, completions):\n    return [float('nan')] * len(prompts)\n",
    "none": "def score(prompts, completions):\n    return None\n",
    "recursion": "def score(prompts, completions):\n    return score(prompts, completions)\n",
    "no function": "x = 1\n",
    "no arguments": "def score():\n    return 1\n",
    "asserts": "def score(prompts, completions):\n    assert False\n",
}


def scorers(directory: Path) -> Iterator[tuple[str, str]]:
    """Name of the fault and name of scorers that cannot score."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, code in SCORERS.items():
        path = directory / f"{name.replace(' ', '_')}.py"
        path.write_text(code)
        yield f"scorer {name}", f"{path}:score"
    for name in (
        "nope",
        "length:",
        "length:many",
        "regex:(",
        "regex:",
        "http://",
        "classifier:/nowhere",
        "reward:/nowhere",
        "/nowhere.py:score",
        "os:nothing",
        "politeness:9",
    ):
        yield f"scorer {name}", name
