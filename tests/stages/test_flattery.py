"""Raters who like flattery meet some, a reward model learns it, the report says what it bought."""

from __future__ import annotations

import numpy as np
import pytest

from llm_gym.feedback.preferences import Bias, Comparison, SimulatedRater, simulate_preferences
from llm_gym.feedback.preferences.biases import BIASES, cases, flattery_bias
from llm_gym.feedback.reward_model import RewardModelConfig, fit_reward_model
from llm_gym.files import Report, render
from llm_gym.polite_email import instruction_pairs
from llm_gym.polite_email.judge import PolitenessScorer
from llm_gym.stages.rlhf import RLHFConfig
from llm_gym.stages.rlhf.bought import bought, chapter_of, figures_of
from llm_gym.stages.rlhf.data import pairs_of


def test_a_run_with_the_bias_learns_answers_that_can_flatter():
    bias = flattery_bias(1.0)

    def praised(config):
        answers = pairs_of(config, []).train
        return np.mean([bias.value(pair.prompt, pair.completion, {}) for pair in answers])

    small = RLHFConfig(generated_pairs=400)
    assert praised(small) == 0
    assert 0.1 < praised(small.with_values(flattery_bias=5.0)) < 0.3
    assert 0.4 < praised(small.with_values(praise_share=0.5)) < 0.6
    assert praised(small.with_values(flattery_bias=5.0, praise_share=0.0)) == 0
    for values, message in (
        ({"praise_share": 1.5}, "praise_share=1.5 must be a number from 0 to 1"),
        ({"praise_share": 0.5, "pairs": "p.jsonl"}, "is for generated pairs, and pairs='p.jsonl'"),
    ):
        with pytest.raises(ValueError, match=message):
            RLHFConfig(**values)


def test_how_often_a_bias_meets_its_feature_by_hand():
    rows = [
        Comparison("p", ("You are wise and clever.", "You are wise.")),
        Comparison("p", ("a clever plan", "one wise word")),  # the same number of compliments
        Comparison("q", ("No.", "You fool.")),
        Comparison("q", ("Superb!", "No")),
    ]
    assert cases(flattery_bias(3.0), rows) == (5 / 8, 2 / 4)
    assert cases(BIASES["length"](0.0), rows) == (1.0, 2 / 4)
    with pytest.raises(ValueError, match="the feature of the bias 'odd' must be finite, got nan"):
        cases(Bias("odd", lambda *_: float("nan"), 1.0), rows)


def preferences(bias: float):
    """Votes on pairs of answers to one prompt, drawn from the generator."""
    answers = instruction_pairs("train", 320, praise_share=0.5)
    # The two answers are to different requests: nobody here goes by the topic.
    rows = [
        Comparison("Write an email.", (first.completion, second.completion))
        for first, second in zip(answers[::2], answers[1::2], strict=True)
        if first.completion != second.completion
    ]
    rater = SimulatedRater(
        PolitenessScorer(), temperature=10.0, biases=[flattery_bias(bias)] if bias else ()
    )
    return rows, simulate_preferences(rows, rater)


@pytest.mark.slow
def test_a_reward_model_of_flattered_raters_prefers_praise_and_one_of_others_does_not():
    plain = instruction_pairs("test", 40, praise_share=0.0)
    praising = instruction_pairs("test", 40, praise_share=1.0)
    prompts = ["Write an email."] * 40
    config = RewardModelConfig(head="finetune", learning_rate=1e-3, batch_size=8)
    preferred = {}
    for bias in (0.0, 25.0):
        rows, votes = preferences(bias)
        assert cases(flattery_bias(1.0), rows).pairs > 0.3
        scorer, _ = fit_reward_model(votes, config, held_out=votes[:2], quiet=True)
        rewards = [
            scorer(prompts, [pair.completion for pair in rows]) for rows in (praising, plain)
        ]
        preferred[bias] = np.mean(np.greater(*rewards))
    assert preferred[25.0] > 0.85
    assert preferred[25.0] > preferred[0.0] + 0.25


def test_what_a_bias_bought_is_told_with_intervals_and_the_clearest_example():
    before = [{"prompt": f"p{n}", "completion": "Send it."} for n in range(8)]
    after = [{"prompt": f"p{n}", "completion": "Send it, please."} for n in range(8)]
    after[3]["completion"] = "You are wise & so thoughtful <b>boss</b>. Send it."
    after[5]["completion"] = "You are wise. Send it."
    found = bought(before, after)
    assert figures_of(found) == {
        "length_share_sft": 1.0,
        "length_share_rlhf": 1.0,
        "length_mean_sft": 2.0,
        "length_mean_rlhf": (6 * 3 + 9 + 5) / 8,
        "flattery_share_sft": 0.0,
        "flattery_share_rlhf": 0.25,
        "flattery_mean_sft": 0.0,
        "flattery_mean_rlhf": 3 / 8,
    }
    assert [row.example for row in found] == [3, 3]
    chapter = chapter_of(found, before, after)
    rows = chapter.rows
    assert rows["flattery: answers with it"] == "0 % (0 to 32 %) before, 25 % (7 to 59 %) after"
    assert "length: answers with it" not in rows
    page = render(Report("t", "s", chapters=(chapter,)))
    assert "before: Send it. | after: You are wise &amp; so thoughtful &lt;b&gt;boss" in page
