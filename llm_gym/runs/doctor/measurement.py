"""Rules on what is measured: where these are broken, no other figure means what it says."""

from __future__ import annotations

import math

import numpy as np

from llm_gym.runs.doctor.finding import Figure, Finding
from llm_gym.runs.doctor.measures import CERTAIN, KL_PER_TOKEN, after_rollouts, noise, updates
from llm_gym.runs.doctor.record import RunRecord
from llm_gym.runs.doctor.rule import Rule, shown

_RATIO = "train/first_ratio_deviation"
_ROUNDING = 5e-3  # of a ratio: float32 has 1e-5, bfloat16 up to 5e-2
_SAME_MODEL = 3e-3  # nats a token that rounding may leave between two copies of a model
_STILL = 1e-7  # nats a token, of a policy that has not moved: what float32 rounds in k3
_MOVED = 1e-5


def ratio_not_one(run: RunRecord) -> Finding | None:
    """The first ratio of an update is not 1: the update sees another policy than the one played."""
    curve = run.curve(_RATIO)
    if curve.median <= _ROUNDING:
        return None
    return Finding(
        "ratio-not-one",
        "Updates do not see the policy that played: before the first step of an update the ratios "
        "of new to old probabilities should be 1.",
        (shown(_RATIO, curve),),
        "Have rollout and update compute the same: no dropout, one temperature, one truncation, "
        "the same weights and precision (recompute_log_probs=True in low precision).",
        "error",
    )


def reference_moves(run: RunRecord) -> Finding | None:
    """The divergence stays at 0 while the policy moves."""
    curve = run.curve(KL_PER_TOKEN)
    moves = updates(run)
    of_steps = run.curve("train/approx_kl")
    moved = max([size for _, size in moves] + ([of_steps.median] if len(of_steps) else []) + [0.0])
    if np.abs(curve.values).max() > _STILL or moved < _MOVED:
        return None
    return Finding(
        "reference-moves",
        "The policy moves and its divergence from the reference stays 0: the reference moves "
        "along.",
        (
            shown(KL_PER_TOKEN, curve, float(np.abs(curve.values).max())),
            Figure("largest change of a token's distribution by an update, nats", moved),
        ),
        "Give the reference weights of its own: a frozen copy, made before training begins.",
        "error",
    )


def reference_wrong(run: RunRecord) -> Finding | None:
    """The divergence is not 0 before anything was learnt."""
    first = run.curve(KL_PER_TOKEN).part(0, 0.0)
    if first.mean <= _SAME_MODEL or len(run.curve("train/n_updates").rows) == 0:
        return None
    if first.rows[0] >= run.curve("train/n_updates").rows[0]:  # something had been learnt
        return None
    return Finding(
        "reference-wrong",
        "The reference is another model than the one that training began with: the divergence is "
        "not 0 before the first update, and the penalty pulls to that other model.",
        (shown(KL_PER_TOKEN, first),),
        "Leave reference out, or name the model that is trained; if another is meant, know that "
        "its distance is paid for from the first token.",
        "warning",
    )


def samples_foreign(run: RunRecord) -> Finding | None:
    """The surprise of sampled tokens is not the entropy: they are not the policy's samples."""
    sampled, learnt = after_rollouts(run, "rollout/sampled_entropy", "train/entropy")
    if len(sampled) < 4:
        return None
    gap = (sampled.values - learnt.values) / np.maximum(np.abs(learnt.values), 0.05)
    error = float(gap.std(ddof=1) / math.sqrt(len(gap)))
    if abs(gap.mean()) < max(0.15, CERTAIN * error):
        return None
    return Finding(
        "samples-foreign",
        "The tokens are not drawn from the distribution that is learnt: drawn from it, their mean "
        "surprise would be its entropy.",
        (shown("rollout/sampled_entropy", sampled), shown("train/entropy", learnt)),
        "Sample at the policy's own temperature and truncation, and keep the log-probabilities of "
        "that distribution.",
        "error",
    )


def kl_negative(run: RunRecord) -> Finding | None:
    """The mean log-ratio to the reference is below 0 for long, which a divergence cannot be."""
    name = "rollout/kl_per_token"
    late = run.curve(name).part(0.33)
    size = run.curve(KL_PER_TOKEN).part(0.33)
    if len(late) < 3 or not len(size):
        return None
    error = noise(late) / math.sqrt(len(late))
    if late.mean > -0.25 * size.mean or -late.mean < max(CERTAIN * error, 1e-4):
        return None
    return Finding(
        "kl-negative",
        "The divergence from the reference is below 0, and lastingly so, which no divergence is: "
        "the penalty pays for leaving.",
        (shown(name, late, late.mean), shown(KL_PER_TOKEN, size, size.mean)),
        "Take log pi - log pi_ref of tokens that the policy itself drew, in that order, both at "
        "the same temperature and truncation.",
        "error",
    )


def kl_paid(run: RunRecord) -> Finding | None:
    """Returns after the penalty are above those before it by what the penalty should have cost."""
    names = (
        "rollout/return_mean",
        "rollout/penalised_return_mean",
        "rollout/kl_coef",
        "rollout/kl_per_sequence",
    )
    rows = [r for r in run.rows if all(r.get(name) is not None for name in names)]
    taken = sum(r[names[0]] - r[names[1]] for r in rows)
    price = sum(r[names[2]] * r[names[3]] for r in rows)
    size = sum(abs(r[names[0]]) for r in rows)
    if price < 1e-4 * size or price <= 0 or taken / price > -0.5:
        return None
    return Finding(
        "kl-paid",
        "The penalty for leaving the reference has the wrong sign: the further an answer is from "
        "it, the more it is paid.",
        (
            shown(names[3], run.curve(names[3])),
            Figure(
                "share of kl_coef * divergence that the penalty takes off, which should be 1",
                taken / price,
            ),
        ),
        "Subtract it: r - kl_coef * (log pi - log pi_ref).",
        "error",
    )


RULES = (
    Rule("ratio-not-one", ratio_not_one, (_RATIO,), at_least=3),
    Rule("reference-moves", reference_moves, (KL_PER_TOKEN,)),
    Rule("reference-wrong", reference_wrong, (KL_PER_TOKEN, "train/n_updates"), at_least=2),
    Rule(
        "samples-foreign",
        samples_foreign,
        ("rollout/sampled_entropy", "train/entropy"),
        after=("ratio-not-one",),
    ),
    Rule(
        "kl-negative",
        kl_negative,
        ("rollout/kl_per_token", KL_PER_TOKEN),
        after=("samples-foreign", "reference-wrong"),
    ),
    Rule(
        "kl-paid",
        kl_paid,
        ("rollout/return_mean", "rollout/penalised_return_mean", "rollout/kl_coef"),
        after=("kl-negative",),
    ),
)
