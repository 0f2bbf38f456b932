"""Pages do what they say: examples run, links lead somewhere, the README can be read."""

from __future__ import annotations

import argparse
import contextlib
import doctest
import io
import itertools
import json
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import NamedTuple
from urllib.parse import unquote

import pytest
from typer.main import get_command

from benchmarks.house import readme
from llm_gym.cli.app import app
from tests.scorers.tiny_classifiers import save_classifier, save_reward_model
from tests.tiny_rlhf import TINY

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "envs/*/README.md", "**/assets/**/*.md")
    for path in ROOT.glob(pattern)
    if not path.relative_to(ROOT).parts[0].startswith((".venv", "site"))
)
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]

BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]*) -->\n)?```(?P<language>python|pycon)\n(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
# On every page: as many rows and tokens as show that it runs.
SMALL = [
    (re.compile(r"\bnum_envs=\d+"), "num_envs=8"),
    (re.compile(r"\blearn\(\s*[\d_]+"), "learn(64"),
]
# On one page: what would take longer than a test should.
SMALLER = {
    "docs/rlhf.md": [("RLHFConfig(seed=1,", "TINY.with_values(seed=1,")],
    "docs/scorers.md": [("time_limit=2.0", "time_limit=0.5")],
    "docs/tutorial.md": [("held_out * 8", "held_out")],
    "envs/reasoning/README.md": [
        ("seed=0)  # seconds: characters, and an early end", "seed=0, epochs=1)"),
        ("env_kwargs=test)", "env_kwargs=test, max_prompts=32)"),
    ],
    "README.md": [
        ('"llm_gym/PoliteEmail-v0").mean', '"llm_gym/PoliteEmail-v0", max_prompts=8).mean')
    ],
}


class Block(NamedTuple):
    """A Python block of a page; `reason` says why it is not run, "" for one that is."""

    line: int
    code: str
    reason: str


def blocks_of(name: str) -> list[Block]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return [
        Block(text[: match.start("code")].count("\n") + 1, match["code"], match["reason"] or "")
        for match in BLOCK.finditer(text)
    ]


def run(name: str, namespace: dict[str, object]) -> int:
    """Runs a page's blocks in order, in one namespace; returns how many."""
    replacements = SMALLER.get(name, [])
    replaced = set()
    blocks = [block for block in blocks_of(name) if not block.reason]
    for block in blocks:
        code = block.code
        for pattern, value in SMALL:
            code = pattern.sub(value, code)
        for long, short in replacements:
            if long in code:
                code, _ = code.replace(long, short), replaced.add(long)
        if code.lstrip().startswith(">>>"):
            run_doctest(code, namespace, name, block.line)
        else:
            # Tracebacks name the page and the line.
            exec(compile("\n" * (block.line - 1) + code, name, "exec"), namespace)
    assert replaced == {long for long, _ in replacements}
    return len(blocks)


def run_doctest(code: str, namespace: dict[str, object], name: str, line: int) -> None:
    page = doctest.DocTestParser().get_doctest(code, {}, name, name, line - 1)
    page.globs = namespace
    report: list[str] = []
    results = doctest.DocTestRunner().run(page, out=report.append, clear_globs=False)
    assert results.attempted
    assert results.failed == 0, "".join(report)


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A directory with the files that pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    save_reward_model(tmp_path / "reward-model")
    save_classifier(tmp_path / "sentiment-model")
    (tmp_path / "prompts.txt").write_text("Write to your boss.\nWrite to your landlord.\n")
    (tmp_path / "input.txt").write_text("To be, or not to be\n")
    votes = [
        {"prompt": f"Ask {n} people.", "chosen": f"Could all {n} come?", "rejected": f"{n}, come!"}
        for n in range(12)
    ]
    (tmp_path / "votes.jsonl").write_text("\n".join(map(json.dumps, votes)))
    return tmp_path


@pytest.mark.parametrize("name", [name for name in NAMES if blocks_of(name)])
def test_the_examples_of_a_page_run_from_top_to_bottom(name, workshop):
    namespace: dict[str, object] = {"__name__": "page", "TINY": TINY}
    with contextlib.redirect_stdout(io.StringIO()):
        assert run(name, namespace) == sum(not block.reason for block in blocks_of(name))


def test_pages_have_the_examples_that_are_meant():
    """Fences that the pattern does not know would be skipped in silence."""
    for name in NAMES:
        text = (ROOT / name).read_text(encoding="utf-8")
        fences = re.findall(r"^\s*(?:```|~~~)\s*(?:py\w*)\b", text, re.MULTILINE | re.IGNORECASE)
        assert len(fences) == len(blocks_of(name)), name
    assert len(blocks_of("docs/tutorial.md")) >= 10
    assert len(blocks_of("README.md")) == 3


def test_a_block_that_is_not_run_says_why():
    for name, block in every_block():
        assert not block.reason or len(block.reason.split()) >= 4, f"{name}:{block.line}"


def every_block() -> Iterator[tuple[str, Block]]:
    return ((name, block) for name in NAMES for block in blocks_of(name))


LINK = re.compile(r"(?<!`)\[(?:[^\]\[]|\[[^\]]*\])*\]\((?P<target>[^)\s]+)\)")


def headings(path: Path) -> set[str]:
    """Anchors of a page, as code hosts make them."""
    text = readme.FENCED_CODE.sub("", path.read_text(encoding="utf-8"))
    anchors: list[str] = re.findall(r'<a id="([^"]+)">', text)
    for heading in re.findall(r"^#+\s+(.*)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        numbered = itertools.chain([slug], (f"{slug}-{n}" for n in itertools.count(1)))
        anchors.append(next(anchor for anchor in numbered if anchor not in anchors))
    return set(anchors)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_a_file_and_a_heading_of_the_repository(name):
    page = ROOT / name
    text = readme.FENCED_CODE.sub("", page.read_text(encoding="utf-8"))
    targets = LINK.findall(text) + re.findall(r'<img src="([^"]*)"', text)
    for target in map(unquote, targets):
        if re.match(r"https?:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{name} links to {target}"
        assert path.is_relative_to(ROOT), f"{name} links out of the repository: {target}"
        if anchor:
            assert anchor in headings(path), f"{name} links to {target}, which has no such heading"


ENTRY_POINT_GROUPS = {"llm_gym.envs", "llm_gym.commands"}
COMMAND = re.compile(
    r"(?:^ *(?:\.venv/bin/)?|`)llm-gym (?P<name>[a-z][\w-]*)(?P<rest>(?:\\\n|[^\n#`])*)",
    re.MULTILINE,
)
SCRIPT = re.compile(
    r"\bpython (?P<path>(?:agents|benchmarks)/[\w/]+\.py)(?P<rest>(?:\\\n|[^\n#`])*)"
)


@pytest.mark.parametrize("name", NAMES)
def test_commands_exist_and_have_the_options_that_pages_name(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    group = get_command(app)
    with group.make_context("llm-gym", ["envs"]) as context:
        for match in COMMAND.finditer(text):
            command = group.get_command(context, match["name"])
            assert command is not None, f"{name} names llm-gym {match['name']}"
            known = {
                option
                for parameter in command.params
                for option in (*parameter.opts, *parameter.secondary_opts)
            }
            unknown = (
                set(re.findall(r"(?<![\w-])--[a-z][\w-]*", match["rest"])) - known - {"--help"}
            )
            assert not unknown, f"{name}: llm-gym {match['name']} has no {unknown}"


class ParsedError(Exception):
    """A script has read its arguments and found nothing wrong."""


def scripts() -> list[tuple[str, str]]:
    """Path and arguments of every script that a page calls, its placeholders filled."""
    placeholder = re.compile(r'"[^"]*"|\bN\b')  # a name in quotes is what it is
    found = {
        (
            match["path"],
            placeholder.sub(
                lambda found: "1" if found[0] == "N" else found[0],
                match["rest"].replace("\\\n", " "),
            ).strip(),
        )
        for name in NAMES
        for match in SCRIPT.finditer((ROOT / name).read_text(encoding="utf-8"))
    }
    return sorted(found)


@pytest.mark.parametrize(("path", "arguments"), scripts())
def test_scripts_take_the_arguments_that_pages_give_them(path, arguments, monkeypatch, workshop):
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, *args, **kwargs):
        parse(parser, *args, **kwargs)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr("sys.argv", [path, *shlex.split(arguments)])
    monkeypatch.syspath_prepend(str((ROOT / path).parent))
    with pytest.raises(ParsedError):
        runpy.run_path(str(ROOT / path), run_name="__main__")


# llm_gym.json is a file.
DOTTED = re.compile(r"(?<![\w/.-])(llm_gym(?:_\w+)?(?:\.(?!json\b)[A-Za-z]\w*)+)")
PATH = re.compile(
    r"(?<![\w/.-])((?:llm_gym|agents|benchmarks|tests|envs|docs)/[\w/.-]*(?:/|\.\w+))(?=`)"
)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "CHANGELOG.md"])
def test_names_and_paths_of_pages_exist(name):
    """But for the changelog, which says what things were called."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for path in PATH.findall(text):
        folders = (ROOT, (ROOT / name).parent)  # a plug-in's page speaks of its own tests
        assert any((folder / path).exists() for folder in folders), f"{name} names {path}"
    for dotted in set(DOTTED.findall(text)) - ENTRY_POINT_GROUPS:
        assert resolve_name(dotted) is not None, f"{name} names {dotted}"


def test_the_readme_keeps_to_its_limits():
    counts = readme.count(readme.README.read_text(encoding="utf-8"))
    assert counts.lines <= readme.LIMITS.lines
    assert counts.numerals <= readme.LIMITS.numerals
    assert counts.words <= readme.LIMITS.words, counts.sentence


PAGE = """# Three in 2026

Stable-Baselines3 makes `me/Short-v0` learn. It took
[3 minutes](docs/page2.md#part-1) and 1,024.5 steps!

| a cell of five words | 7 |
|---|---|

```python
print(1, 2, 3)
```
"""


def test_numerals_are_what_a_reader_takes_for_numbers():
    """2026, 3, 2 and 1 of the link, 1,024.5 and 7; code, -v0 and Stable-Baselines3 are none."""
    assert readme.count(PAGE).numerals == 6


def test_the_longest_sentence_is_one_that_a_reader_sees():
    counts = readme.count(PAGE)
    assert counts.sentence == "It took 3 minutes and 1,024.5 steps!"
    assert counts.words == 7
    assert counts.lines == 11


def test_a_page_above_a_limit_fails_the_script(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("word " * 31)
    monkeypatch.setattr("sys.argv", ["readme.py", str(page)])
    assert readme.main() == 1
    page.write_text("word " * 30)
    assert readme.main() == 0
    assert "30 words of at most 30" in capsys.readouterr().out
