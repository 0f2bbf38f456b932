"""What a critic is worth: closed forms against enumeration, and a whole run in small."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch

pytest.importorskip("llm_gym_known_optimum")

from llm_gym_known_optimum import KnownOptimum

from benchmarks.claims.exact import moments
from benchmarks.claims.world import World
from benchmarks.critic import run
from benchmarks.critic.exact import Place


@pytest.fixture(scope="module")
def place():
    problem = KnownOptimum.make(
        "sparse", vocab_size=2, length=2, num_prompts=2, beta=0.1, problem_seed=3
    )
    return Place(World(problem), 0.5)


def test_exact_values_leave_the_gradient_without_bias_at_any_lambda(place):
    for lam in (0.0, 0.5, 1.0):
        assert place.with_critic(place.values, lam).bias == pytest.approx(0, abs=1e-9)
        assert place.with_critic(place.values, lam).scale == pytest.approx(1)


def test_wrong_values_add_noise_and_below_lambda_1_bias(place):
    wrong = place.wrong_values(1.0, seed=0)
    assert place.with_critic(wrong, 1.0).bias == pytest.approx(0, abs=1e-9)
    assert place.with_critic(wrong, 0.5).bias > 0.01
    assert place.with_critic(wrong, 1.0).noise > place.with_critic(place.values, 1.0).noise


def test_values_are_what_is_earned_from_there_on_average(place):
    first = place.values[:, :, 0]
    earned = (place.probabilities * place.returns).sum(-1, keepdim=True)
    assert torch.allclose(first, earned.expand_as(first))


@pytest.mark.parametrize("group", [2, 3])
def test_the_noise_of_leave_one_out_is_that_of_all_groups(place, group):
    scores, returns, p = place.scores.sum(2), place.returns, place.probabilities
    variance = 0.0  # summed over prompts, whose groups are independent
    for prompt in range(len(p)):
        gradients, weights = [], []
        for members in itertools.product(range(p.shape[1]), repeat=group):
            earned = returns[prompt, list(members)]
            apart = earned - (earned.sum() - earned) / (group - 1)
            gradients.append((apart[:, None] * scores[prompt, list(members)]).mean(0))
            weights.append(p[prompt, list(members)].prod())
        stacked, weight = torch.stack(gradients), torch.stack(weights)
        mean = weight @ stacked
        variance += float(weight @ (stacked**2).sum(-1) - (mean**2).sum())
        assert torch.allclose(mean, place.exact[prompt])
    found = place.leave_one_out(group)
    assert found.noise * float((place.exact**2).sum()) == pytest.approx(group * variance)


def test_moments_of_the_exact_gradient_itself_have_no_noise(place):
    vectors = place.exact[:, None].expand(-1, place.probabilities.shape[1], -1)
    assert moments(vectors, place.probabilities, place.exact).noise == pytest.approx(0, abs=1e-9)


def curve(*points):
    return {"points": [{"episodes": e, "j_over_jstar": j} for e, j in points]}


def test_answers_are_counted_up_to_where_the_curve_crosses():
    assert run.answers_needed(curve((0, 0.5), (100, 0.98), (200, 1.0))) == pytest.approx(150)
    assert run.answers_needed(curve((0, 0.995))) == 0
    assert run.answers_needed(curve((0, 0.5), (100, 0.98))) == math.inf


def of(low, high):
    return {"ppo_warm": {"share": {"low": low, "high": high}}}


def test_verdicts_follow_the_intervals():
    assert run.verdict({"sparse": of(0.3, 0.45), "length": of(0.8, 0.99)}, "share") == "holds"
    assert run.verdict({"sparse": of(0.3, 0.6)}, "share") == "undecided"
    assert run.verdict({"sparse": of(0.3, 0.4), "length": of(1.1, 1.3)}, "share") == "refuted"
    assert run.verdict({"sparse": {"ppo_warm": {"share": None}}}, "share") == "undecided"


@pytest.mark.slow
def test_a_whole_run_in_small_and_again(tmp_path, monkeypatch, capsys):
    arguments = ["run.py", "--quick", "--workers", "1", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    run.main()
    first = json.loads((tmp_path / "results.json").read_text())
    assert first["learning"]["sparse"]["ppo_warm"]["runs"] == 2
    runs = (tmp_path / "runs.jsonl").read_text()
    run.main()
    assert (tmp_path / "runs.jsonl").read_text() == runs
    assert "answers needed" in capsys.readouterr().out
