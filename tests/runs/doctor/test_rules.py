"""Every rule both ways, on figures made by hand: it fires; it is silent where it almost would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llm_gym.runs.doctor import RULES, examine
from llm_gym.runs.trace import Look, TracedAnswer
from tests.runs.doctor.hand_made import ITERATIONS, WORDS, noisy, of_rollouts, record, samples


def look(step, *moves):
    """A look at an update that moved the log-probabilities of each answer's tokens by so much."""
    return Look(step, step + 1, "RLOO", tuple(answer_moved_by(move) for move in moves))


def answer_moved_by(move):
    n = 20
    nothing = np.zeros((n, 5), dtype=np.float32)
    before = np.full(n, -1.0, dtype=np.float32)
    signs = np.where(np.arange(n) % 2, 1, -1).astype(np.float32)
    return TracedAnswer(
        kind="rollout",
        number=0,
        prompt="",
        prompt_ids=(1,),
        ids=np.zeros(n, dtype=np.int32),
        texts=("a",) * n,
        by_agent=np.ones(n, dtype=bool),
        quantities={"log_prob": before, "log_prob_after": before + move * signs},
        top_ids=nothing.astype(np.int32),
        top_log_prob=nothing,
        top_log_prob_after=nothing,
    )


def zero(i):
    return 0.0


def one(i):
    return 1.0


still = dict.fromkeys(("kl_per_token", "kl_k3_per_token", "kl_per_sequence", "approx_kl"), zero)
unpenalised = {"penalised_return_mean": of_rollouts()["return_mean"]}  # it is in the loss
flat = noisy(40, 40, 2)
flat_score = {"return_mean": flat, "ep_rew_mean": flat}
kl = noisy(0, 5, 0)
repetitive = " ".join(["you are"] * 12)


def far(i):
    return 4.0 * (i / ITERATIONS) ** 2


FIRES = {
    "ratio-not-one": {"first_ratio_deviation": lambda i: 0.3},
    "reference-moves": {**still, "looks": (look(0, 0.05),)},
    "reference-wrong": {"kl_k3_per_token": noisy(0.3, 0.4, 0)},
    "samples-foreign": {"sampled_entropy": noisy(0.4, 0.3, 0.02)},
    "kl-negative": {"kl_per_token": noisy(0, -0.12, 0.005)},
    "kl-paid": {"penalised_return_mean": lambda i: of_rollouts()["return_mean"](i) + kl(i)},
    "template-mismatch": {"settings": {"prompt_format": "{prompt}"}},
    "no-exploration": {"sampled_entropy": lambda i: 1e-3, "entropy": lambda i: 1e-3},
    "rewards-equal": {"return_std": zero, "return_mean": lambda i: 50.0},
    "dead-groups": {**flat_score, "equal_groups": noisy(0.95, 0.9, 0.02)},
    "no-eos": {"cut_share": one},
    "answers-cut": {"cut_share": noisy(0.7, 0.6, 0.05)},
    "prompt-starved": {"answers": samples(prompt=lambda number: "the only one")},
    "reward-discounted": {"settings": {"gamma": 0.9}},
    "value-head-frozen": {"value_head_step": zero},
    "critic-blind": {**flat_score, "explained_variance": noisy(0, 0, 0.02)},
    "learning-rate-high": {"clip_fraction": noisy(0.5, 0.6, 0.05)},
    "kl-coef-scale": {"kl_coef": lambda i: 500.0, **still, **flat_score},
    "learning-rate-low": {**still, **flat_score},
    "gradient-clipped": {"settings": {"max_grad_norm": 1e-4}},
    "proxy-beats-gold": {
        "gold_proxy/gold": noisy(50, 20, 2),
        "gold_proxy/proxy": noisy(10, 90, 2),
    },
    "entropy-explodes": {"entropy": noisy(0.6, 3, 0.05), "sampled_entropy": noisy(0.6, 3, 0.05)},
    "entropy-collapses": {
        **flat_score,
        "entropy": lambda i: 0.6 * 0.6**i,
        "sampled_entropy": lambda i: 0.6 * 0.6**i,
    },
    "length-drifts": {
        "ep_len_mean": noisy(40, 60, 0.5),
        "answers": samples(
            completion=lambda n: " ".join(WORDS[: 8 + n % 8]), score=lambda n: 8.0 + n % 8
        ),
    },
    "repeated-text": {
        "answers": samples(completion=lambda n: repetitive if n > 32 else " ".join(WORDS))
    },
    "kl-explodes": {"kl_per_token": far, "kl_k3_per_token": far},
    "reward-falls": {"return_mean": noisy(50, 30, 2), "ep_rew_mean": noisy(50, 30, 2)},
    "scores-unrelated": flat_score,
}

SILENT = {
    "ratio-not-one": {"first_ratio_deviation": lambda i: 0.3 if i == 3 else 1e-4},
    "reference-moves": {**still, "looks": (look(0, 1e-5),)},
    "reference-wrong": {"kl_k3_per_token": noisy(1e-4, 0.4, 0)},
    "samples-foreign": {"sampled_entropy": noisy(0.6, 0.42, 0.1)},
    "kl-negative": {"kl_per_token": noisy(0, 0.02, 0.05)},
    "kl-paid": unpenalised,
    "template-mismatch": {"settings": {"chat_format": None}},
    "no-exploration": {"sampled_entropy": noisy(0.6, 0.001, 0)},
    "rewards-equal": {"return_std": lambda i: 5.0 if i == 9 else 0.0},
    "dead-groups": {"equal_groups": noisy(0.1, 1.0, 0)},  # solved in the end
    "no-eos": {"cut_share": lambda i: 0.9 if i == 5 else 1.0},
    "answers-cut": {"cut_share": noisy(0.1, 0.9, 0)},
    "prompt-starved": {"answers": samples(prompt=lambda number: f"one of {number % 3}")},
    "reward-discounted": {"settings": {"gamma": 0.99}},
    "value-head-frozen": {"value_head_step": lambda i: 0.1 if i == 7 else 0.0},
    "critic-blind": {"explained_variance": noisy(0, 0.4, 0.1)},
    "learning-rate-high": {"clip_fraction": lambda i: 0.9 if i == 0 else 0.1},
    "kl-coef-scale": {"kl_coef": lambda i: 20.0},
    "learning-rate-low": {"kl_k3_per_token": noisy(0, 1e-3, 0), **flat_score},
    "gradient-clipped": {"grad_norm": noisy(100, 100, 5)},
    "proxy-beats-gold": {
        "gold_proxy/gold": noisy(50, 48, 4),
        "gold_proxy/proxy": noisy(10, 90, 2),
    },
    "entropy-explodes": {"entropy": noisy(0.6, 0.7, 0.02)},
    "entropy-collapses": {"entropy": noisy(0.6, 0.2, 0.01)},
    "length-drifts": {"ep_len_mean": noisy(40, 60, 0.5)},  # longer, and not for being longer
    "repeated-text": {"answers": samples(completion=lambda n: repetitive if n == 40 else "a b")},
    "kl-explodes": {"kl_per_token": noisy(0, 0.9, 0)},
    "reward-falls": {"return_mean": noisy(50, 48, 2), "ep_rew_mean": noisy(50, 48, 2)},
    "scores-unrelated": {"return_mean": noisy(35, 50, 2)},
}


def only_its_length(number):
    """Paid for by the word."""
    return 8.0 + number % 8


paid_by_length = samples(completion=lambda n: " ".join(WORDS[: 8 + n % 8]), score=only_its_length)
a_little_repetitive = " ".join(["thank", "you", *WORDS[:2], *WORDS[2:]])

# Each by another of the figures that a rule looks at.
ALSO_FIRES = [
    ("samples-foreign", {"sampled_entropy": noisy(0.8, 0.7, 0.02)}),
    ("learning-rate-high", {"kl_k3_per_token": lambda i: 1.0 if i else 0.0}),
    ("proxy-beats-gold", {"alarm/gold": noisy(50, 20, 2), "alarm/proxy": noisy(10, 90, 2)}),
    ("reference-moves", {**still, "approx_kl": lambda i: 0.05}),
    ("kl-coef-scale", {"return_std": lambda i: 2e4, "settings": {"advantage": "grpo"}}),
    (
        "learning-rate-low",
        {**flat_score, "without": ("kl_k3_per_token",), "approx_kl": lambda i: 1e-7},
    ),
]

# Each but for one of the figures that a rule looks at.
ALSO_SILENT = [
    ("kl-negative", {"kl_per_token": noisy(-0.05, -0.05, 0.3)}),
    (
        "kl-paid",
        {
            "kl_coef": lambda i: 1e-6,
            "penalised_return_mean": lambda i: of_rollouts()["return_mean"](i) + 1e-6 * kl(i),
        },
    ),
    ("answers-cut", {"cut_share": noisy(0.9, 0.1, 0)}),
    ("prompt-starved", {"answers": samples(prompt=lambda number: "the only one")[:20]}),
    ("reward-discounted", {"settings": {"gamma": 0.9, "turn_gamma": 0.9}}),
    ("critic-blind", {**FIRES["critic-blind"], "n_updates": lambda i: i + 1.0}),
    ("critic-blind", {**flat_score, "explained_variance": lambda i: 0.0 if i % 4 else 0.8}),
    ("kl-coef-scale", {**FIRES["kl-coef-scale"], "settings": {"kl_target": 5.0}}),
    ("learning-rate-low", still),
    (
        "learning-rate-low",
        {**still, **flat_score, "kl_k3_per_token": lambda i: 5e-6, "looks": (look(0, 0.05),)},
    ),
    (
        "learning-rate-low",
        {**flat_score, "without": ("kl_k3_per_token",), "approx_kl": lambda i: 2e-6},
    ),
    (
        "gradient-clipped",
        {"settings": {"max_grad_norm": 1e-4}, "grad_clip_fraction": lambda i: 0.5},
    ),
    ("entropy-explodes", {"entropy": noisy(0.02, 0.05, 0.001)}),
    ("entropy-explodes", {"entropy": noisy(4, 4.6, 0.01)}),
    ("entropy-collapses", {"entropy": noisy(0.14, 0.12, 0)}),
    ("entropy-collapses", {"entropy": noisy(3, 0.2, 0)}),
    ("length-drifts", {"ep_len_mean": noisy(40, 42, 0.05), "answers": paid_by_length}),
    ("length-drifts", {"ep_len_mean": noisy(40, 60, 40), "answers": paid_by_length}),
    (
        "repeated-text",
        {
            "answers": samples(
                completion=lambda n: a_little_repetitive if n > 32 else " ".join(WORDS)
            )
        },
    ),
    ("kl-explodes", {"kl_per_token": noisy(3, 3.2, 0)}),
    (
        "kl-explodes",
        {
            "kl_per_token": lambda i: 3.0 * (i / ITERATIONS) ** 2,
            "entropy": noisy(2, 2, 0.01),
            "sampled_entropy": noisy(2, 2, 0.01),
        },
    ),
    ("reward-falls", {"return_mean": noisy(50, 49, 0.02), "ep_rew_mean": noisy(50, 49, 0.02)}),
    ("scores-unrelated", {"return_mean": noisy(40, 54, 8), "ep_rew_mean": noisy(40, 54, 8)}),
    (
        "scores-unrelated",  # of one answer to many prompts
        {
            "answers": samples(
                prompt=lambda n: f"{n % 16}", completion=lambda n: "yes", score=lambda n: n % 16
            )
        },
    ),
]


def found(**changes):
    return [finding.id for finding in examine(record(**changes)).findings]


def test_nothing_is_wrong_with_a_healthy_run():
    diagnosis = examine(record(**{"gold_proxy/gold": noisy(30, 50, 3)}))
    assert diagnosis.findings == []
    assert diagnosis.iterations == ITERATIONS
    assert diagnosis.not_judged == {}


def test_every_rule_is_tried_both_ways():
    assert FIRES.keys() == SILENT.keys() == {rule.id for rule in RULES}


@pytest.mark.parametrize("name", FIRES)
def test_a_fault_is_the_first_thing_that_is_named(name):
    assert found(**FIRES[name])[:1] == [name]


@pytest.mark.parametrize("name", SILENT)
def test_what_looks_like_it_and_is_none_is_not_named(name):
    assert name not in found(**SILENT[name])


@pytest.mark.parametrize(("name", "changes"), ALSO_FIRES)
def test_each_figure_of_a_rule_is_enough(name, changes):
    assert name in found(**changes)


@pytest.mark.parametrize(("name", "changes"), ALSO_SILENT)
def test_each_condition_of_a_rule_is_needed(name, changes):
    assert name not in found(**changes)


def test_a_run_that_goes_on_may_be_away_from_its_reference():
    run = record(**FIRES["reference-wrong"])
    again = type(run)(run.rows[1:], run.settings, run.looks, run.samples)
    assert "reference-wrong" not in [finding.id for finding in examine(again).findings]


def test_probes_are_not_what_was_learnt_from():
    rollout, probe = answer_moved_by(0.01), replace(answer_moved_by(3.9), kind="probe")
    assert found(looks=(Look(0, 1, "RLOO", (rollout, probe)),)) == []
    assert "learning-rate-high" in found(looks=(Look(0, 1, "RLOO", (answer_moved_by(3.9),)),))


@pytest.mark.parametrize("name", FIRES)
def test_a_finding_has_figures_with_their_steps(name):
    (finding, *_) = examine(record(**FIRES[name])).findings
    assert finding.evidence
    assert all(str(figure) for figure in finding.evidence)
    assert finding.what.endswith(".")
    assert finding.mend.endswith(".")
    assert finding.severity in ("error", "warning")
    assert finding.is_wrong
    assert finding.to_dict()["page"].endswith(f"#{name}")
    if "settings" not in FIRES[name] and "answers" not in FIRES[name]:
        steps = [figure.steps for figure in finding.evidence if figure.steps is not None]
        assert steps
        assert all(0 < first <= last for first, last in steps)


def judged(name, **changes):
    return next(f for f in examine(record(**{**FIRES[name], **changes})).findings if f.id == name)


def test_a_critic_that_fails_a_policy_that_learns_all_the_same_is_a_note():
    rising = {"return_mean": noisy(30, 60, 2), "ep_rew_mean": noisy(30, 60, 2)}
    assert not judged("critic-blind", **rising).is_wrong
    assert judged("critic-blind", **flat_score).is_wrong


def test_a_policy_that_is_certain_of_the_best_it_has_found_is_a_note():
    kept = {"return_mean": noisy(130, 160, 1), "ep_rew_mean": noisy(130, 160, 1)}

    def lost(i):
        return noisy(130, 160, 1)(i) - (25 if i > 0.6 * ITERATIONS else 0)

    assert not judged("entropy-collapses", **kept).is_wrong
    assert judged("entropy-collapses", return_mean=lost, ep_rew_mean=lost).is_wrong
    assert judged("entropy-collapses", **flat_score).is_wrong


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_what_a_rule_needs_is_all_that_it_needs(rule):
    """Of a log with these figures alone it says what it says, and nothing breaks."""
    whole = record(**FIRES[rule.id])
    needed = {name for need in rule.needs for name in need.split("|")} | {"step"}
    rows = [{n: v for n, v in row.items() if n in needed} for row in whole.rows]
    poor = type(whole)(rows, whole.settings, whole.looks, whole.samples)
    finding = rule.judge(poor)
    assert finding is None or all(str(figure) for figure in finding.evidence)


def test_what_the_figures_cannot_say_is_said():
    run = record(without=("explained_variance", "value_loss", "value_head_step"))
    not_judged = examine(run).not_judged
    assert not_judged["value-head-frozen"] == "the run has no train/value_head_step"
    assert {"critic-blind", "proxy-beats-gold"} < not_judged.keys()


def test_a_run_of_two_iterations_is_no_evidence_of_what_varies():
    run = record(**FIRES["scores-unrelated"])
    diagnosis = examine(type(run)(run.rows[:2], run.settings, (), run.samples))
    assert diagnosis.findings == []
    assert "2 iterations are too few" in diagnosis.not_judged["scores-unrelated"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_as_many_iterations_as_are_needed_are_enough(rule):
    run = record(**{"gold_proxy/gold": noisy(30, 50, 3)})
    rows = run.rows[: max(rule.at_least, 2)]  # the first update is told in the second row
    assert rule.missing(type(run)(rows, run.settings, run.looks, run.samples)) is None


def test_a_cause_is_not_told_again_as_what_follows_from_it():
    names = found(**FIRES["ratio-not-one"], sampled_entropy=noisy(0.3, 0.3, 0.01))
    assert names == ["ratio-not-one"]


def test_a_loss_that_was_no_number_is_a_step_too_large():
    run = record()
    run.rows[9]["train/loss"] = None
    (finding,) = examine(run).findings
    assert finding.id == "learning-rate-high"
    assert finding.evidence[0].steps == (6000, 6000)


def test_one_answer_that_gets_now_this_score_and_now_that():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=64)
    again = samples(
        prompt=lambda n: f"{n % 16}", completion=lambda n: f"{n % 16}", score=lambda n: scores[n]
    )
    assert found(answers=again) == ["scores-unrelated"]
    stable = samples(
        prompt=lambda n: f"{n % 16}",
        completion=lambda n: f"{n % 16}",
        score=lambda n: n % 16 + 0.1 * scores[n],
    )
    assert found(answers=stable) == []


def test_groups_that_a_step_too_large_has_made_equal():
    equal = {"equal_groups": lambda i: 0.9 if i else 0.0}
    assert "dead-groups" not in found(**equal, clip_fraction=noisy(0.6, 0.6, 0.02))


def test_a_reference_that_moves_leaves_what_float32_rounds():
    rounded = {**still, "kl_k3_per_token": lambda i: 2e-8}
    assert found(**rounded, looks=(look(0, 0.05),))[:1] == ["reference-moves"]


def test_group_deviations_are_the_unit_of_grpos_penalty():
    """Its advantage is in deviations of a group, whatever the scores are in."""
    in_thousands = {"return_std": noisy(20_000, 20_000, 100)}
    grpo = {"advantage": "grpo", "kl_in": "loss"}
    assert "kl-coef-scale" in found(**in_thousands)
    assert "kl-coef-scale" not in found(settings=grpo, **in_thousands)


def test_the_page_has_a_part_for_every_finding():
    page = (Path(__file__).parents[3] / "docs" / "doctor.md").read_text(encoding="utf-8")
    parts = [line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")]
    assert sorted(parts) == sorted(rule.id for rule in RULES)


def test_one_token_that_has_become_likely_is_no_update_that_goes_too_far():
    assert found(looks=(look(0, 0.01, 0.02, 3.9),)) == []
    assert found(looks=(look(0, 0.01, 2.0, 3.9),)) == ["learning-rate-high"]
