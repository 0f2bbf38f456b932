"""The examples in the guides do what the pages say."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from tests.scorers.tiny_classifiers import save_classifier, save_reward_model

PAGES = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(
    ("name", "examples"), [("scorers.md", 30), ("preferences.md", 12), ("known_optimum.md", 3)]
)
def test_the_examples_of_the_guide_are_true(name, examples, tmp_path, monkeypatch):
    """The pages' directories exist where they run, with tiny models in them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    save_reward_model(tmp_path / "reward-model")
    save_classifier(tmp_path / "sentiment-model")
    # Doctest would take the closing fence of a code block for output.
    text = re.sub(r"^```.*$", "", (PAGES / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    page = doctest.DocTestParser().get_doctest(text, {"__name__": "guide"}, "guide", name, 0)
    report: list[str] = []
    results = doctest.DocTestRunner().run(page, out=report.append)
    assert results.attempted >= examples
    assert results.failed == 0, "".join(report)
