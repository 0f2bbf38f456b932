"""The examples in docs/scorers.md do what the page says."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from tests.scorers.tiny_classifiers import save_classifier, save_reward_model

PAGE = Path(__file__).parents[2] / "docs" / "scorers.md"


def test_the_examples_of_the_guide_are_true(tmp_path, monkeypatch):
    """The page's directories exist where it runs, with tiny models in them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    save_reward_model(tmp_path / "reward-model")
    save_classifier(tmp_path / "sentiment-model")
    # Doctest would take the closing fence of a code block for output.
    text = re.sub(r"^```.*$", "", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    page = doctest.DocTestParser().get_doctest(text, {"__name__": "guide"}, "guide", str(PAGE), 0)
    report: list[str] = []
    results = doctest.DocTestRunner().run(page, out=report.append)
    assert results.attempted > 30
    assert results.failed == 0, "".join(report)
