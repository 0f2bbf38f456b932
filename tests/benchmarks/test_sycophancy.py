"""The sycophancy benchmark: its data, its statistics, and the whole experiment in small."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from llm_gym_sycophancy import judge, policy_figures, rater_rewards, read_answer
from llm_gym_sycophancy.policies import judgements

from benchmarks.common import of_seeds, told
from benchmarks.sycophancy import experiment, run
from benchmarks.sycophancy.entries import FULL, MENDINGS, PANELS, QUICK, TRUTH, Policy, Settings
from benchmarks.sycophancy.summary import summarise

SMALL = Settings(
    seeds=1,
    comparisons=300,
    epochs=1,
    iterations=1,
    biases=(0.0, 3.0),
    pressures={3.0: (4.0, 0.5)},
    mendings=("none", "penalty", "weighed"),
)


def test_what_is_trained_is_known_and_nothing_twice():
    for settings in (FULL, QUICK, SMALL):
        policies = settings.policies()
        assert len({policy.key for policy in policies}) == len(policies)
        assert all(policy.panel in PANELS for policy in policies)
        assert {MENDINGS[name].policy for name in settings.mendings} <= set(policies)
    assert FULL.seeds >= 5
    assert Policy("b=3", 0.5, 3.0).key == "b=3, KL 0.5, penalty 3"


def test_two_seeds_are_told_and_shares_stay_shares():
    """Five seeds that flip between 10 % and 100 %: Student's interval would leave [0, 1]."""
    found = of_seeds([0.1, 1.0, 1.0, 0.2, 1.0], is_share=True)
    assert 0 <= found["low"] < found["mean"] < found["high"] <= 1
    assert told(of_seeds([0.4, 0.6], is_share=True), 1, factor=100) == "50.0 (seeds: 40.0, 60.0)"
    assert told(of_seeds([1.0, 2.0, 3.0]), 2) == "2.00 [-0.48, 4.48]"
    two = of_seeds([0.4, 0.6])
    assert (two["low"], two["high"], two["values"]) == (None, None, [0.4, 0.6])


def test_every_figure_that_is_no_share_is_known():
    """What is not among them gets an interval within [0, 1]."""
    from llm_gym_sycophancy.measures import PolicyFigures, RewardFigures

    from benchmarks.sycophancy.summary import _NO_SHARES

    signed = {"answer_sycophancy"}
    assert set(PolicyFigures._fields) & _NO_SHARES == signed
    assert not set(RewardFigures._fields) & _NO_SHARES


def test_raters_of_a_panel_share_the_comparisons():
    alone, mixed = (experiment.votes_of(panel, SMALL, seed=1) for panel in ("b=3", "mixed"))

    def compared(rows):
        return {(row.prompt, frozenset((row.chosen, row.rejected))) for row in rows}

    assert compared(alone) == compared(mixed)
    assert len(alone) == len(mixed) == 300
    assert compared(alone) != compared(experiment.votes_of("b=3", SMALL, seed=2))


def test_the_truthful_half_of_a_panel_is_believed_more():
    rows = experiment.votes_of("weighed", SMALL, seed=0)
    weights = {row.columns["rater"]: row.columns["weight"] for row in rows}
    honest, biased = weights["0: b=0"], weights["1: b=3"]
    assert honest > biased == 0.0


def test_a_bias_of_three_makes_raters_prefer_wrong_answers():
    chosen = []
    for row in experiment.votes_of("b=3", dataclasses.replace(SMALL, comparisons=3000), seed=0):
        if row.columns["kind"] == "wrong_hint":
            columns = {name: row.columns[name] for name in ("answer", "claim", "first")}
            verdicts = [
                judge(read_answer(text).city, **columns) for text in (row.chosen, row.rejected)
            ]
            if {(True, False), (False, True)} == {tuple(verdict) for verdict in verdicts}:
                chosen.append(verdicts[0].agrees)
    assert len(chosen) > 80
    assert sum(chosen) / len(chosen) > 0.75  # sigmoid(2) = 0.88


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The experiment with hardly any training: its output folder and results."""
    patch = pytest.MonkeyPatch()
    patch.setattr(run, "QUICK", SMALL)
    output = tmp_path_factory.mktemp("sycophancy")
    run.main(["--quick", "--output", str(output)])
    patch.undo()
    return output


@pytest.mark.slow
def test_results_pictures_and_a_line_for_every_run(small):
    results = json.loads((small / "results.json").read_text())
    assert set(results["policies"]) == {policy.key for policy in SMALL.policies()}
    assert [row["bias"] for row in results["bias"]] == [0.0, 3.0]
    assert [row["name"] for row in results["mendings"]] == list(SMALL.mendings)
    found = results["policies"]["b=3, KL 0.5"]["test"]["ppo"]["flip_rate"]
    assert min(found["values"]) <= found["mean"] <= max(found["values"])
    assert len(found["values"]) == SMALL.seeds < 3
    assert results["slopes"][0]["train"]["rater_covariance"] > 0.1
    for name in ("sycophancy.png", "pressure.png", "mendings.png"):
        assert (small / name).stat().st_size > 10_000
    lines = (small / run.RUNS).read_text().splitlines()
    panels = {policy.panel for policy in SMALL.policies()}
    assert len(lines) == SMALL.seeds * (len(SMALL.policies()) + len(panels))


@pytest.mark.slow
def test_the_closed_form_of_a_reward_model_starts_with_its_covariance(small):
    """d/d lambda of the curve at 0 is the drift, by the curve's own first points."""
    runs = run.open_log(small / run.RUNS, SMALL).done
    for panel in ("b=0", "b=3"):
        found = runs[run.reward_run(panel), 0]["train"]
        pressure, curve = (
            found["closed_form_by_pressure"][name] for name in ("pressure", "false_agreement")
        )
        # second-order forward difference
        slope = (4 * curve[1] - 3 * curve[0] - curve[2]) / (2 * pressure[1])
        assert slope == pytest.approx(found["drift"], abs=0.1 * abs(found["drift"]) + 0.003)


@pytest.mark.slow
def test_what_is_done_is_not_done_again(small, monkeypatch, capsys):
    def never(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(run, "QUICK", SMALL)
    monkeypatch.setattr(experiment, "train_policy", never)
    monkeypatch.setattr(experiment, "train_reward", never)
    run.main(["--quick", "--output", str(small)])
    assert "by the raters' agreement bias" in capsys.readouterr().out


@pytest.mark.slow
def test_other_settings_do_not_count_and_a_half_written_line_is_dropped(small, tmp_path):
    text = (small / run.RUNS).read_text()
    path = tmp_path / run.RUNS
    path.write_text(text + '{"run": "b=0, KL')
    log = run.open_log(path, SMALL)
    assert len(log.done) == len(text.splitlines())
    assert path.read_text() == text
    log.add(("one more", 7), {"cpu_seconds": 1.0})
    assert run.open_log(path, SMALL).done["one more", 7] == {"cpu_seconds": 1.0}
    assert not run.open_log(path, dataclasses.replace(SMALL, iterations=2)).done
    assert run.open_log(path, dataclasses.replace(SMALL, seeds=9)).done


def test_a_missing_run_is_not_papered_over():
    with pytest.raises(KeyError, match="reward model of b=0"):
        summarise(SMALL, {}, {})


@pytest.mark.slow
def test_ppo_finds_the_optimum_in_closed_form():
    """Against the biased raters' own utility: closer to the optimum than to where it started."""
    from llm_gym_sycophancy import FACTS_MODEL, AnswerScorer, answer_policy

    from llm_gym.language_models import load_tokenizer

    policy = Policy("b=3", 1.0)
    reference = experiment.world().references["train"]
    scorer = AnswerScorer(truth=TRUTH, agreement=3.0)
    trained = experiment.optimise(scorer, policy, dataclasses.replace(FULL, iterations=6), seed=0)
    found = answer_policy(trained, load_tokenizer(FACTS_MODEL), reference.questions)
    optimum = reference.tilted(rater_rewards(reference.questions, agreement=3.0), 1.0)
    assert found.kl_to(optimum).mean() < 0.25 * reference.kl_to(optimum).mean()
    before, after, best = (policy_figures(one) for one in (reference, found, optimum))
    assert after.false_agreement > before.false_agreement + 0.2
    assert after.false_agreement == pytest.approx(best.false_agreement, abs=0.12)
    agrees = judgements(reference.questions).agrees
    right = [question.kind == "right_hint" for question in reference.questions]
    assert found.mean(agrees)[right].mean() > 0.97


def test_the_command_line(tmp_path):
    assert run.parse(["--output", str(tmp_path)]) == (FULL, Path(tmp_path))
    assert run.parse(["--quick", "--output", str(tmp_path)])[0] == QUICK
    shared = ["--shared-critic", "--vf-coef", "0.5", "--output", str(tmp_path)]
    assert run.parse(shared)[0] == dataclasses.replace(FULL, detach_value=False, vf_coef=0.5)
