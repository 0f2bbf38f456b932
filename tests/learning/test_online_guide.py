"""The page about the algorithms says what the code does."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from llm_gym.learning import presets

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")
ROWS = {
    match[1]: line for line in PAGE.splitlines() if (match := re.match(r"\| \[(\w+)\]\(#", line))
}


def test_the_examples_of_the_guide_are_true():
    text = re.sub(r"^```.*$", "", PAGE, flags=re.MULTILINE)
    page = doctest.DocTestParser().get_doctest(text, {}, "algorithms", "algorithms.md", 0)
    report: list[str] = []
    results = doctest.DocTestRunner().run(page, out=report.append)
    assert results.attempted >= 10
    assert results.failed == 0, "".join(report)


@pytest.mark.parametrize(
    "name", [n for n, c in vars(presets).items() if getattr(c, "choices", {}) and n[0] != "_"]
)
def test_the_table_has_the_choices_of_every_name(name):
    choices = getattr(presets, name).choices
    assert f"`{choices['advantage']}`" in ROWS[name]
    assert ("clipped" in ROWS[name]) == (choices.get("loss") == "clipped")
    weighing = choices.get("aggregation", "token_mean").replace("_", " ")
    assert f"| {weighing} |" in ROWS[name]
    penalty = "none" if choices.get("kl_coef") == 0 else choices.get("kl_in", "reward")
    assert f"| {penalty}" in ROWS[name]


@pytest.mark.parametrize("name", ROWS)
def test_every_script_of_the_table_is_there(name):
    [script] = re.findall(r"`(\w+_text\.py)`", ROWS[name])
    assert (ROOT / "agents" / script).is_file()
