"""Sampling answers into a store, and letting simulated raters vote on them."""

from __future__ import annotations

import warnings

import pytest

from llm_gym.feedback.preferences import Comparison, PreferenceStore
from llm_gym.stages import compare as module
from llm_gym.stages.compare import CompareConfig, compare, sample_comparisons, simulated_raters
from llm_gym.stages.votes import told_biases
from llm_gym.text.prompts import PromptRow
from tests.tiny_runs import PROMPTS

ROWS = [PromptRow(text, {}) for text in PROMPTS]


@pytest.fixture
def config(tiny_dir, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 2)
    return CompareConfig(
        model=tiny_dir(),
        prompt_template="{prompt}",
        max_new_tokens=5,
        raters="simulated",
        true_rater="length:3",
        rater_noise=0.2,
    )


def test_pairs_and_votes_are_as_many_as_asked_for(config, tmp_path):
    from dataclasses import replace

    figures = compare(
        tmp_path / "s.db", replace(config, pairs_per_prompt=2), prompts=ROWS, quiet=True
    )
    with PreferenceStore(tmp_path / "s.db") as store:
        rows = list(store.comparisons())
        votes = list(store.votes())
    assert {row.prompt for row in rows} == set(PROMPTS)
    assert len(rows) == figures["comparisons"] == 2 * len(PROMPTS)
    assert len(votes) == figures["votes"] == 2 * len(rows)
    assert figures["votes_missing"] == 0
    assert figures["raters"] == 3
    assert figures["hours"] == pytest.approx(len(votes) * 30 / 3600)
    assert figures["seconds_measured_on_votes"] == 0


def test_going_on_samples_only_what_is_missing_and_gives_the_same(config, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole.db", tmp_path / "parts.db"
    compare(whole, config, prompts=ROWS, quiet=True)
    compare(parts, config, prompts=ROWS[:2], quiet=True)
    sampled = []
    real = module.sample_comparisons

    def noted(model, prompts, **kwargs):
        sampled.extend(prompt.text for prompt in prompts)
        return real(model, prompts, **kwargs)

    monkeypatch.setattr(module, "sample_comparisons", noted)
    compare(parts, config, prompts=ROWS, quiet=True)
    assert sampled == PROMPTS[2:]
    texts = []
    for path in (whole, parts):
        with PreferenceStore(path) as store:
            texts.append([(row.prompt, row.answers) for row in store.comparisons()])
    assert texts[0] == texts[1]


def test_another_seed_adds_other_pairs(config, tmp_path):
    from dataclasses import replace

    first = compare(tmp_path / "s.db", config, prompts=ROWS, quiet=True)
    again = compare(tmp_path / "s.db", config, prompts=ROWS, quiet=True)
    more = compare(tmp_path / "s.db", replace(config, seed=1), prompts=ROWS, quiet=True)
    assert first == again
    assert more["comparisons"] == 2 * first["comparisons"]


def test_people_find_comparisons_and_no_votes(config, tmp_path):
    from dataclasses import replace

    figures = compare(tmp_path / "s.db", replace(config, raters="people"), prompts=ROWS, quiet=True)
    assert figures["votes"] == 0
    assert figures["votes_missing"] == 2 * figures["comparisons"]
    assert figures["agreement"] is None


def test_a_model_that_always_says_the_same_is_refused(config, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "sample_comparisons", lambda *_, **__: [])
    with pytest.raises(ValueError, match="no two different answers to any of 5 prompts"):
        compare(tmp_path / "s.db", config, prompts=ROWS, quiet=True)


def test_raters_are_worth_what_the_settings_say():
    config = CompareConfig(
        raters="simulated", true_rater="length:2", length_bias=0.5, flattery_bias=4.0, rater_noise=3
    )
    raters = simulated_raters(config)
    assert [rater.name for rater in raters] == ["simulated-1", "simulated-2", "simulated-3"]
    pair = Comparison("p", ("a wonderful idea", "one two"))
    [[first, second]] = raters[0].utilities([pair])
    # One word from the target of 2 is worth less than none; 0.5 a word; 4 for "wonderful".
    from llm_gym.scorers import LengthScorer

    quality = LengthScorer(2)(["p", "p"], list(pair.answers))
    assert first == pytest.approx(quality[0] + 3 * 0.5 + 4.0)
    assert second == pytest.approx(quality[1] + 2 * 0.5)
    assert raters[0].temperature == 3
    assert [bias.name for bias in raters[0].biases] == ["length", "flattery"]
    assert not simulated_raters(CompareConfig())[0].biases


def test_a_bias_that_meets_no_case_is_warned_of(config, tmp_path):
    """The tiny model cannot praise anybody; its answers differ in their length."""
    from dataclasses import replace

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = compare(
            tmp_path / "0.db", replace(config, length_bias=1.0), prompts=ROWS, quiet=True
        )
    assert plain["biases"]["flattery"] == {"weight": 0.0, "answers": 0.0, "pairs": 0.0}
    assert plain["biases"]["length"]["answers"] == 1.0
    assert plain["biases"]["length"]["pairs"] > 0
    with pytest.warns(UserWarning, match="the raters' flattery bias meets no case: no two answers"):
        compare(tmp_path / "1.db", replace(config, flattery_bias=9.0), prompts=ROWS, quiet=True)
    line = told_biases({"length": {"pairs": 0.914}, "flattery": {"pairs": 0.0}})
    assert line.endswith("pair differ in length in 91 % of them, in flattery in 0 % of them")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"raters": "dogs"}, "raters='dogs' must be one of 'people', 'simulated'"),
        ({"pairs_per_prompt": 0}, "pairs_per_prompt=0 must be a whole number of at least 1"),
        (
            {"raters": "simulated", "votes_per_comparison": 4},
            "votes_per_comparison=4 is more than there are raters",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(values, message):
    with pytest.raises(ValueError) as raised:
        CompareConfig(**values)
    assert message in str(raised.value)


def test_a_reward_model_is_a_scorer_by_name(tiny_dir, tmp_path):
    from llm_gym.feedback.preferences import Preference
    from llm_gym.feedback.reward_model import (
        RewardModelConfig,
        RewardModelScorer,
        train_reward_model,
    )
    from llm_gym.scorers.by_name import scorer_from_name
    from llm_gym.stages.by_name import environment_kwargs

    rows = [Preference(f"w{n}", f"w1 w{n}", f"w2 w{n}") for n in range(3, 20)]
    config = RewardModelConfig(head="finetune", model=tiny_dir(), template="{prompt} {completion}")
    train_reward_model(rows, tmp_path / "rm", config, quiet=True)
    scorer = scorer_from_name(f"reward:{tmp_path / 'rm'}")
    assert isinstance(scorer, RewardModelScorer)
    assert scorer.template == "{prompt} {completion}"
    expected = RewardModelScorer(tmp_path / "rm")(["w3"], ["w1 w3"])
    assert scorer(["w3"], ["w1 w3"]) == expected
    # "meta" has shapes and no numbers: a device that every machine has.
    elsewhere = scorer_from_name(f"reward:{tmp_path / 'rm'}", "meta")
    assert elsewhere.model.device.type == "meta"
    kwargs = environment_kwargs(
        "llm_gym/TextGeneration-v0", tiny_dir(), scorer=f"reward:{tmp_path / 'rm'}", device="meta"
    )
    assert kwargs["scorer"].model.device.type == "meta"
    assert "device" not in kwargs
    with pytest.raises(ValueError, match="there is no scorer 'reward:'"):
        scorer_from_name("reward:")


def test_a_model_answers_every_prompt_twice(tiny_dir):
    prompts = [PromptRow(f"w{number} w1", {"topic": number}) for number in range(5)]
    made = sample_comparisons(tiny_dir(), prompts, max_new_tokens=6)
    assert [comparison.prompt for comparison in made] == [row.text for row in prompts]
    assert all(comparison.answers[0] != comparison.answers[1] for comparison in made)
    assert made[3].columns == {
        "topic": 3, "model": tiny_dir(), "temperature": 1.0, "prompt_format": "{prompt}",
    }  # fmt: skip
    assert sample_comparisons(tiny_dir(), prompts, max_new_tokens=6) == made
    assert sample_comparisons(tiny_dir(), prompts, max_new_tokens=6, seed=1) != made


def test_prompts_with_one_answer_only_are_left_out(tiny_dir):
    """A temperature of nearly nothing gives the same answer every time."""
    prompts = [PromptRow("w1 w2", {})]
    assert sample_comparisons(tiny_dir(), prompts, max_new_tokens=4, temperature=1e-4) == []
