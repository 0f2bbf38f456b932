"""The benchmark of a real model's politeness: its figures, and the whole in small."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.real_politeness import run, tables
from benchmarks.real_politeness.experiment import different_phrases
from benchmarks.real_politeness.settings import Settings
from llm_gym.language_models import SFT_MODEL, resolve
from llm_gym.stages.train import TrainConfig


def seen(politeness, perplexity):
    return {
        "politeness": politeness,
        "second": [],
        "perplexity": perplexity,
        "tokens": 30.0,
        "ended": 0.5,
        "different_phrases": 0.9,
        "gaps": 1.5,
        "answers": [{"prompt": "Write.", "text": "Dear Sir,\n\nplease."} for _ in politeness],
    }


def a_run(gain, ratio):
    scores = np.array([1.0, 5.0, 30.0])
    told = dict.fromkeys(tables.TOLD, 1.0)
    return told | {
        "before": seen(scores.tolist(), 4.0),
        "after": seen((scores + gain).tolist(), 4.0 * ratio),
    }


@pytest.mark.parametrize(
    ("gain", "ratio", "reached"), [(21, 1.9, True), (19, 1.9, False), (21, 2.1, False)]
)
def test_a_gain_counts_where_answers_are_still_answers(gain, ratio, reached):
    figures = tables.summarise({7: a_run(gain, ratio)})
    assert figures["7"]["reached"] is reached
    assert np.isclose(figures["7"]["politeness"]["gain"]["mean"], gain)
    assert np.isclose(figures["7"]["perplexity"]["ratio"], ratio)
    assert "second" not in figures["7"]
    assert tables.table(figures).endswith("yes" if reached else "no")


def test_samples_show_both_answers_of_as_many_requests_as_asked():
    text = tables.samples(a_run(20, 1), 2)
    assert text.count("> Write.") == 2
    assert text.count("before, ") == text.count("after, ") == 2
    assert "    Dear Sir,\n    \n    please." in text


def test_phrases_are_runs_of_four_words():
    assert different_phrases(["a b c d e", "A b c d"]) == 2 / 3
    assert different_phrases(["too few words", ""]) == 1.0


def test_the_settings_are_options_of_the_command():
    settings = Settings()
    config = TrainConfig(**settings.training("some-model", 3)).resolved()
    assert (config.seed, config.micro_batch_size) == (3, settings.micro_batch_size)
    assert config.total_tokens == settings.updates * settings.answers * settings.max_new_tokens
    assert "shown" not in settings.conditions()


@pytest.mark.slow
def test_the_whole_in_small_and_what_is_done_is_not_done_again(tmp_path, capfd):
    arguments = ["--model", str(resolve(SFT_MODEL)), "--output", str(tmp_path), "--quick"]
    arguments += ["--seeds", "1", "--second", "length:5"]
    run.main(arguments)
    results = json.loads((tmp_path / "results.json").read_text())["seeds"]["1"]
    assert results["peak_gb"] > 0.1
    assert len(results["curve"]) == 1
    assert results["second"]["gain"]["low"] <= results["second"]["gain"]["high"]
    assert (tmp_path / "seed-1" / "model" / "adapter_config.json").exists()
    assert "perplexity, ratio" in capfd.readouterr().out
    lines = (tmp_path / "runs.jsonl").read_text()
    run.main(arguments)
    assert (tmp_path / "runs.jsonl").read_text() == lines
