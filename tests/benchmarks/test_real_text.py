"""The real-text benchmark: prompts, scorers, and the whole road in small."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.real_text import run
from benchmarks.real_text.prompts import cut_prompts, split_prompts
from benchmarks.real_text.scorers import courtesy, warmth


def test_passages_of_one_long_text_are_prompts_and_keep_their_line_breaks():
    prompts = cut_prompts(["To be, or\nnot to be: that is the question"], words=4)
    assert prompts == ["To be, or\nnot", "to be: that is"]


def test_of_many_documents_the_beginnings_are_prompts():
    documents = ["Could you help me please", "Too short", "Could you help me please", "a b c d"]
    assert cut_prompts(documents, words=3) == ["Could you help", "a b c"]


@pytest.mark.parametrize(("words", "message"), [(9, "more than 9 words"), (0, "words=0")])
def test_prompts_that_cannot_be_cut_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        cut_prompts(["only five words are here"], words)


def test_measured_prompts_are_never_trained_on():
    prompts = [f"prompt {i}" for i in range(10)]
    training, measuring = split_prompts(prompts, for_measuring=8, seed=1)
    assert len(measuring) == 5
    assert sorted(training + measuring) == prompts


def test_repetition_does_not_pay():
    assert warmth([""], ["love " * 40]) == warmth([""], ["love"]) == [0.2]
    assert courtesy([""], ["please " * 40]) == courtesy([""], ["please"]) == [0.25]


def test_the_default_scorers_know_warm_from_cold_and_polite_from_rude():
    assert warmth([""], ["sweet love and joy"]) > warmth([""], ["sweet love and blood"])
    polite = "Hi, could you please have a look? Thanks!"
    assert courtesy([""] * 2, [polite, "Why did you delete it? Ridiculous. Stop."]) == [1.0, 0.0]


def test_a_missing_file_is_named(capsys):
    with pytest.raises(SystemExit):
        run.parse(["--data", "nowhere.txt", "--output", "x"])
    assert "--data nowhere.txt: there is no such file" in capsys.readouterr().err


@pytest.mark.slow
def test_from_a_text_file_to_results(tmp_path, monkeypatch, capsys):
    """The whole road with a scorer of one's own, as small as it gets."""
    lines = [f"The {word} of number {i} is kind\n" for i in range(60) for word in ("cat", "dog")]
    (tmp_path / "text.txt").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "mine.py").write_text(
        "def score(prompts, completions):\n    return [float(len(c)) for c in completions]\n",
        encoding="utf-8",
    )
    arguments = ["--data", str(tmp_path / "text.txt"), "--output", str(tmp_path / "out")]
    arguments += ["--scorer", f"{tmp_path / 'mine.py'}:score", "--quick"]
    arguments += ["--pretrain-steps", "2", "--iterations", "1", "--max-new-tokens", "4"]
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    run.main()
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    gain = results["figures"]["score_gain"]
    assert gain["low"] <= gain["mean"] <= gain["high"]
    assert results["figures"]["kl_nats_per_answer"]["mean"] >= 0
    assert len(results["samples"]) == 4
    assert (tmp_path / "out" / "real_text.png").is_file()
    assert "score_gain" in capsys.readouterr().out
