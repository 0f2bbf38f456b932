"""The court: sums against the plug-in's, verdicts by hand, every claim in small, a new loss."""

from __future__ import annotations

import json
import textwrap

import numpy as np
import pytest
import torch
from llm_gym_known_optimum import TabularLM, estimator_figures

pytest.importorskip("rliable", reason="one of the claims needs rliable")

from benchmarks.claims import claim as claims
from benchmarks.claims import run
from benchmarks.claims.claim import Claim, Figure, exact
from benchmarks.claims.court import Court, cosine, gradient_samples
from benchmarks.claims.exact import (
    answer_gradients,
    expected_advantages,
    moments,
    of_surrogate,
    outcome_advantages,
    prompt_weight,
)
from benchmarks.claims.losses import Loss, plain
from benchmarks.claims.training import Recipe, learn, training_world
from benchmarks.claims.world import moved, paying_world
from llm_gym.learning.advantages import dr_grpo, grpo, rloo

# ---------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.6, 0.8, claims.HOLDS), (0.1, 0.4, claims.REFUTED), (0.4, 0.7, claims.UNDECIDED)],
)
def test_a_claim_is_true_on_its_side_of_the_threshold(low, high, verdict):
    figure = Figure((low + high) / 2, low, high)
    above = Claim("a", "", "", "", lambda court: figure, at_least=0.5)
    assert above.judge(Court()).verdict == verdict
    below = Claim("b", "", "", "", lambda court: figure, at_most=0.5)
    turned = {claims.HOLDS: claims.REFUTED, claims.REFUTED: claims.HOLDS}
    assert below.judge(Court()).verdict == turned.get(verdict, verdict)


def test_a_figure_at_the_threshold_holds():
    for side in ("at_least", "at_most"):
        claim = Claim("a", "", "", "", lambda court: exact(0.5), **{side: 0.5})
        assert claim.judge(Court()).verdict == claims.HOLDS


def test_a_claim_without_one_threshold_and_a_figure_that_is_none_are_refused():
    for sides in ({}, {"at_least": 0.0, "at_most": 1.0}):
        with pytest.raises(ValueError, match="exactly one"):
            Claim("a", "", "", "", lambda court: exact(0.0), **sides)
    for figure in (Figure(float("nan"), 0, 1), Figure(2.0, 0.0, 1.0)):
        with pytest.raises(ValueError, match="'a' has the figure"):
            Claim("a", "", "", "", lambda court, f=figure: f, at_least=0.0).judge(Court())


def test_too_few_values_decide_nothing():
    told = {"mean": 0.6, "low": None, "high": None, "values": [0.5, 0.7]}
    figure = claims.figure_of(told)
    assert figure.low < 0.5 < 0.7 < figure.high


# ---------------------------------------------------------------------- sums


@pytest.mark.parametrize("ends_early", [True, False])
def test_the_worlds_sums_are_the_plug_ins(ends_early):
    world = paying_world(3, ends_early=ends_early)
    problem, logits = world.problem, world.towards_optimum(0.3)
    layers = logits.split([3**depth for depth in range(3)], 1)
    layers = tuple(layer.log_softmax(-1) for layer in layers)
    np.testing.assert_allclose(world.probabilities(logits), problem.answer_probabilities(layers))
    assert torch.allclose(world.pass_rates(logits), problem.expected_reward(layers))
    found = problem.evaluate(layers)
    assert float(world.kl(logits, world.reference).mean()) == pytest.approx(found.kl_to_reference)
    assert float(world.kl(logits, world.towards_optimum(1.0)).mean()) == pytest.approx(
        found.kl_to_optimum
    )


def test_the_worlds_gradient_is_the_plug_ins():
    world = paying_world(1)
    model = world.problem.reference_model
    assert isinstance(model, TabularLM)
    # At the reference the penalty has no gradient; the model is float32.
    expected = world.problem.gradient(model, list(model.parameters()))
    ours = world.gradient(world.reference).flatten(0, 1).T.flatten()
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-7)


def test_scores_of_tokens_are_autograds():
    world = paying_world(0)
    leaf = world.reference.clone().requires_grad_()
    log_prob = world.token_log_probs(leaf)
    scores = world.token_scores(world.reference)
    for prompt, answer, place in ((0, 0, 0), (1, 20, 2), (3, 39, 1)):
        gradient = torch.autograd.grad(log_prob[prompt, answer, place], leaf, retain_graph=True)[0]
        assert torch.allclose(gradient[prompt].flatten(), scores[prompt, answer, place])


def test_a_policy_moves_as_far_as_it_is_told():
    world = paying_world(0)
    there = moved(world, world.reference, torch.ones_like(world.reference).cumsum(-1), 0.07)
    assert float(world.kl(world.reference, there).mean()) == pytest.approx(0.07)


def test_expectations_by_sums_are_those_of_samples():
    world, sampler = paying_world(0), paying_world(0).towards_optimum(0.05)
    logits, batches = world.reference, 1500
    loss = Loss("", "", plain, lambda scores, groups: scores)
    samples, exactly = gradient_samples(world, loss, logits, sampler, batches=batches)
    vectors = answer_gradients(world, logits, sampler, plain, world.rewards) / world.n_prompts
    p = world.probabilities(sampler)
    mean = torch.einsum("py,pyd->pd", p, vectors).flatten()
    error = samples.std(0) / batches**0.5
    assert float(((samples.mean(0) - mean) / error.clamp(min=1e-9)).abs().max()) < 4.5
    found = moments(vectors, p, exactly.view(world.n_prompts, -1))
    figures = estimator_figures(samples, exactly)
    assert found.scale == pytest.approx(figures.scale, rel=0.1)
    assert found.noise / loss.group_size == pytest.approx(figures.noise, rel=0.1)


def test_a_perfect_baseline_is_unbiased_and_less_noisy_than_none():
    world = paying_world(2)
    found = of_surrogate(world, world.reference, world.reference, plain)
    assert found.cosine == pytest.approx(1)
    assert found.scale == pytest.approx(1)
    vectors = answer_gradients(world, world.reference, world.reference, plain, world.rewards)
    exactly = world.gradient(world.reference).flatten(1) * world.n_prompts
    without = moments(vectors, world.probabilities(world.reference), exactly)
    assert without.cosine == pytest.approx(1)
    assert without.noise > found.noise
    assert float(outcome_advantages(world, world.reference).max()) < 1


def test_weights_of_prompts_are_those_known_of_each_advantage():
    for rate in (0.05, 0.5, 0.8):
        assert prompt_weight(rloo, 4, rate) == pytest.approx(1)
        assert prompt_weight(dr_grpo, 4, rate) == pytest.approx(3 / 4)
        # Of two, an advantage of 1 / sqrt(2) either way where they differ
        assert prompt_weight(grpo, 2, rate) == pytest.approx(0.5**0.5, rel=1e-3)
    assert prompt_weight(grpo, 16, 0.05) > 1.3 * prompt_weight(grpo, 16, 0.5)
    probabilities, of_one, of_zero = expected_advantages(dr_grpo, 4, 0.3)
    assert probabilities.sum() == pytest.approx(1)
    assert of_one.tolist() == pytest.approx([0, 3 / 4, 2 / 4, 1 / 4, 0])
    assert of_zero.tolist() == pytest.approx([0, -1 / 4, -2 / 4, -3 / 4, 0])


def test_a_gradient_that_points_backwards_has_a_negative_cosine():
    generator = torch.Generator().manual_seed(0)
    exactly = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)
    noise = 0.1 * torch.randn(200, 3, generator=generator, dtype=torch.float64)
    assert cosine(exactly + noise, exactly).low > 0.99
    assert cosine(-exactly + noise, exactly).high < -0.99
    assert cosine(noise, exactly).low == -1


def test_a_policy_learns():
    curve = learn(training_world(0), Loss("RLOO", ""), Recipe(steps=40, rate=0.3, evaluations=2), 0)
    assert [point["step"] for point in curve] == [20, 40]
    assert curve[-1]["j_over_jstar"] > 0.5 > curve[0]["rates"][0]


# ---------------------------------------------------------------------- the session


@pytest.mark.slow
def test_every_claim_is_judged_in_small_and_again_from_what_is_kept(tmp_path):
    arguments = ["--quick", "--output", str(tmp_path), "--write", str(tmp_path / "page.md")]
    results = run.main(arguments)
    docket = run.load()
    assert len(docket.claims) >= 12
    assert set(results["claims"]) == {claim.name for claim in docket.all_claims()}
    # What needs no sampling is the same in small.
    verdicts = {name: found["verdict"] for name, found in results["claims"].items()}
    assert verdicts["kl: k1"] == verdicts["2-grpo: direction"] == claims.HOLDS
    assert verdicts["maxrl: expansion"] == verdicts["group bias: advantage"] == claims.HOLDS
    assert verdicts["group bias: gradient"] == verdicts["kl: V3.2, answers"] == claims.REFUTED
    assert verdicts["mismatch: answers"] == verdicts["gspo: fresh"] == claims.HOLDS
    page = (tmp_path / "page.md").read_text()
    assert "<<" not in page
    assert all(f"| {loss.name} |" in page for loss in docket.losses)
    lines = (tmp_path / "trials.jsonl").read_text()
    again = run.main(arguments)
    assert (tmp_path / "trials.jsonl").read_text() == lines
    assert again["claims"] == results["claims"]


MINE = """
    from benchmarks.claims.losses import Loss


    def mine(tokens):
        return {sign} tokens.advantages * tokens.log_prob


    LOSSES = [Loss("mine", "nowhere", mine)]
"""


def test_a_new_loss_is_judged_whoever_wrote_it(tmp_path):
    verdicts = {}
    for sign in ("-", "+"):
        cases = tmp_path / f"cases{sign}"
        cases.mkdir()
        name = "right" if sign == "-" else "wrong"
        source = textwrap.dedent(MINE.format(sign=sign))
        assert len(source.splitlines()) <= 40
        (cases / f"{name}.py").write_text(source)
        output = tmp_path / f"output{sign}"
        run.main(["--quick", "--cases", str(cases), "--output", str(output)])
        results = json.loads((output / "results.json").read_text())
        verdicts[sign] = results["claims"]["direction: mine"]["verdict"]
        assert set(results["losses"]["mine"]) >= {"noise", "stale", "j_over_jstar"}
    assert verdicts == {"-": claims.HOLDS, "+": claims.REFUTED}


def test_trials_are_done_again_when_their_code_is_another():
    court, loss = Court(), Loss("a", "", lambda tokens: -tokens.log_prob)
    other = Loss("a", "", lambda tokens: -2 * tokens.log_prob)
    trial = run.row_of
    assert court._key(trial, {"loss": loss}) == court._key(trial, {"loss": loss})
    assert court._key(trial, {"loss": loss}) != court._key(trial, {"loss": other})


def test_bad_dockets_are_named(tmp_path):
    with pytest.raises(SystemExit, match="only='nothing' fits no claim"):
        run.main(["--only", "nothing", "--output", str(tmp_path)])
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ValueError, match="neither CLAIMS nor LOSSES"):
        run.load(tmp_path)
