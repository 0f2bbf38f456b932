"""Counts what makes a README hard to read, and says so above the limits.

    python benchmarks/house/readme.py              # README.md of this repository; or a file's name

- **Lines** of the file.
- **Numerals** outside fenced code: every maximal run of digits with points and commas in it, as
  `[0-9][0-9.,]*` finds them, in prose, tables, pictures' paths and links' targets. Two things a
  reader does not take for a number are left out: the word Stable-Baselines3, and the `-v0` of an
  environment's id in code.
- **Words of the longest sentence** outside fenced code, as a reader sees it: of a link its text.
  Cells of tables and items of lists are sentences of their own.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).parents[2] / "README.md"
FENCED_CODE = re.compile(r"^(```|~~~).*?^\1\s*?$", re.MULTILINE | re.DOTALL)
NO_NUMERALS = re.compile(r"Stable-Baselines3|(?<=-)v[0-9]+(?=[^`\n]*`)")
PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)|<img [^>]*>")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
# Where prose stops without a full stop: an empty line, a heading, an item, a cell of a table.
BREAK = re.compile(r"\n\s*\n|^\s*(?:#+|[-*]|\d+\.)\s|\|", re.MULTILINE)
SENTENCE_END = re.compile(r"(?<=[.!?])[*_\"')]*\s+(?=[^a-z])")


class Counts(NamedTuple):
    """What was counted in a page.

    Attributes:
        lines: Lines of the file.
        numerals: Numerals outside fenced code.
        words: Words of the longest sentence.
        sentence: That sentence.
    """

    lines: int
    numerals: int
    words: int
    sentence: str


LIMITS = Counts(lines=130, numerals=40, words=30, sentence="")


def count(text: str) -> Counts:
    """Counts lines, numerals and the words of the longest sentence of a Markdown page."""
    prose = FENCED_CODE.sub("", text)
    numerals = re.findall(r"[0-9][0-9.,]*", NO_NUMERALS.sub("", prose))
    longest = max(sentences(prose), key=lambda sentence: len(sentence.split()), default="")
    return Counts(len(text.splitlines()), len(numerals), len(longest.split()), longest)


def sentences(prose: str) -> list[str]:
    """Cuts Markdown without code blocks into sentences, as a reader sees them."""
    visible = LINK.sub(r"\1", PICTURE.sub("", prose))
    return [
        " ".join(sentence.split())
        for passage in BREAK.split(visible)
        for sentence in SENTENCE_END.split(passage)
        if sentence.strip()
    ]


def main() -> int:
    """Prints the counts; 1 where one is above its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, nargs="?", default=README, help="Markdown file")
    counts = count(parser.parse_args().page.read_text(encoding="utf-8"))
    print(f"{counts.lines} lines of at most {LIMITS.lines}")
    print(f"{counts.numerals} numerals of at most {LIMITS.numerals}")
    print(f"{counts.words} words of at most {LIMITS.words} in the longest sentence:")
    print(f"    {counts.sentence}")
    return int(any(got > limit for got, limit in zip(counts[:3], LIMITS[:3], strict=True)))


if __name__ == "__main__":
    sys.exit(main())
