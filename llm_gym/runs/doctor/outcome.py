"""Rules on where a run goes: what it becomes, and whether that is what was wanted."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from llm_gym.runs.doctor.finding import Figure, Finding
from llm_gym.runs.doctor.measures import (
    RETURNS,
    Change,
    change,
    is_near_its_best,
    nats_per_answer,
    of_steps,
    rank_correlation,
    repeats,
)
from llm_gym.runs.doctor.record import Curve, RunRecord
from llm_gym.runs.doctor.rule import Rule, shown

_ENTROPY = "train/entropy"
_LENGTH = "rollout/ep_len_mean"
_GOLD = (
    ("gold_proxy/gold", "gold_proxy/proxy"),
    ("alarm/gold", "alarm/proxy"),
)
_COLLAPSED_SHARE, _COLLAPSED = 0.1, 0.15  # of what it was; nats a token
_RISEN_SHARE, _RISEN = 1.5, 0.4
_LONGER, _PAID_FOR = 1.15, 0.8
_FAR = 1.0  # nats a token
_REPEATED, _MORE = 0.12, 0.08
_WITHOUT_GAIN = 0.15
_A_WAY = 0.05  # nats an answer
_SAID_AGAIN, _UNRELATED = 6, 0.5


def entropy_explodes(run: RunRecord) -> Finding | None:
    """The text turns into noise."""
    found = change(run.curve(_ENTROPY))
    if not found.is_rise or found.last < max(_RISEN_SHARE * found.first, found.first + _RISEN):
        return None
    return Finding(
        "entropy-explodes",
        "The entropy climbs: the text turns into noise.",
        _ends(_ENTROPY, run.curve(_ENTROPY), found),
        "Lower ent_coef (0 is usual for language); where there is no bonus, lower learning_rate "
        "or raise kl_coef.",
        "error",
    )


def entropy_collapses(run: RunRecord) -> Finding | None:
    """The policy becomes certain of every token."""
    curve = run.curve(_ENTROPY)
    first, late = curve.part(0, 0.0).mean, curve.part(0.8)
    if late.values.max() > min(_COLLAPSED, _COLLAPSED_SHARE * first):
        return None
    return Finding(
        "entropy-collapses",
        "The entropy has collapsed: the policy is all but certain of every token, and finds "
        "nothing new.",
        (Figure(_ENTROPY, first, (int(curve.steps[0]),) * 2), shown(_ENTROPY, late)),
        "Raise kl_coef, lower learning_rate or n_epochs, and check the sign of ent_coef; a "
        "collapse at the best score there is is no fault.",
        "note" if is_near_its_best(run) else "warning",
    )


def proxy_beats_gold(run: RunRecord) -> Finding | None:
    """What is trained on rises, and what it stands for falls."""
    for names in _GOLD:
        gold, proxy = (run.curve(name) for name in names)
        if min(len(gold), len(proxy)) < 4:
            continue
        fell, rose = change(gold), change(proxy)
        if fell.is_fall and rose.is_rise:
            return Finding(
                "proxy-beats-gold",
                "The score that is trained on rises while the one that it stands for falls: the "
                "policy has found what the proxy pays and nobody wants.",
                (*_ends(names[0], gold, fell), *_ends(names[1], proxy, rose)),
                "Stop where gold was best (OveroptimisationAlarm keeps that model); raise "
                "kl_coef; and have the proxy learn from answers of the policy as it is now.",
                "error",
            )
    return None


def length_drifts(run: RunRecord) -> Finding | None:
    """Answers become longer, and length is what pays."""
    curve = run.curve(_LENGTH)
    found = change(curve)
    scored = [row for row in run.samples if isinstance(row.get("score"), (int, float))]
    if len(scored) < 16 or not found.is_rise or found.last < _LONGER * found.first:
        return None
    words = [len(str(row["completion"]).split()) for row in scored]
    paid = rank_correlation(words, [float(row["score"]) for row in scored])
    if paid < _PAID_FOR:
        return None
    return Finding(
        "length-drifts",
        "Answers become longer and longer, and length is what the score pays.",
        (
            *_ends(_LENGTH, curve, found),
            Figure(f"rank correlation of words and score, {len(scored)} samples", paid),
        ),
        "Take length out of the score, or pay for it only up to what is wanted; compare at equal "
        "length.",
        "warning",
    )


def repeated_text(run: RunRecord) -> Finding | None:
    """Answers say the same words again and again."""
    shares = {late: _repeated(run, late=late) for late in (False, True)}
    early, late = shares[False], shares[True]
    if min(len(early), len(late)) < 8:
        return None
    error = math.sqrt(early.var() / len(early) + late.var() / len(late))
    rise = float(late.mean() - early.mean())
    if late.mean() < _REPEATED or rise < max(_MORE, 3 * error):
        return None
    return Finding(
        "repeated-text",
        "Answers repeat themselves more and more.",
        (
            Figure(
                "share of words that were among the five before, first samples", float(early.mean())
            ),
            Figure("the same, last samples", float(late.mean())),
        ),
        "Read samples.jsonl: the score pays for repetition, or does not mind it; let it count "
        "once what is said twice, or raise kl_coef.",
        "warning",
    )


def kl_explodes(run: RunRecord) -> Finding | None:
    """The policy runs away from the reference."""
    name = "rollout/kl_per_token"
    curve = run.curve(name)
    late, middle = curve.part(0.8), curve.part(0.3, 0.6)
    # A certain policy that writes what the reference likes to write is its entropy away from it.
    entropy = run.curve("rollout/sampled_entropy", _ENTROPY).part(0, 0.0)
    far = max(_FAR, 2 * entropy.mean if len(entropy) else _FAR)
    if late.median < far or late.median < 1.5 * middle.median:
        return None
    return Finding(
        "kl-explodes",
        "The divergence from the reference runs away: little is left of the model that training "
        "began with.",
        (shown(name, middle), shown(name, late)),
        "Raise kl_coef, or let kl_target steer it; and look at samples for what the score pays.",
        "error",
    )


def reward_falls(run: RunRecord) -> Finding | None:
    """The score falls from its beginning on."""
    curve = run.curve(*RETURNS)
    found = change(curve)
    spread = run.curve("rollout/return_std")
    least = 0.3 * spread.part(0, 0.25).median if len(spread) else 0.05 * abs(found.first)
    if not found.is_fall or -found.size < least:
        return None
    return Finding(
        "reward-falls",
        "The score falls while the policy learns.",
        _ends("the score", curve, found),
        "Check signs: of the score (is less better?), of the advantage and of the loss; then the "
        "learning rate.",
        "error",
    )


def scores_unrelated(run: RunRecord) -> Finding | None:
    """One answer gets now this score and now that; or the policy moves, and the score does not."""
    evidence = _one_answer_many_scores(run) or _moves_for_nothing(run)
    if evidence is None:
        return None
    return Finding(
        "scores-unrelated",
        "The scores have nothing to do with the answers: what is learnt from them is chance.",
        evidence,
        "Check that every answer gets its own score (order of a batch, padding, groups), and that "
        "the score says something of the answer: score one answer twice.",
        "error",
    )


def _one_answer_many_scores(run: RunRecord) -> tuple[Figure, ...] | None:
    """Whether scores of one answer to one prompt differ as much as those of any."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in run.samples:
        if isinstance(row.get("score"), (int, float)):
            scores[row["prompt"], row["completion"]].append(float(row["score"]))
    again = [np.array(found) for found in scores.values() if len(found) > 1]
    freedom = sum(len(found) - 1 for found in again)
    of_all = np.concatenate([np.array(found) for found in scores.values()] or [np.zeros(1)]).var()
    if freedom < _SAID_AGAIN or of_all == 0:
        return None
    within = sum(((found - found.mean()) ** 2).sum() for found in again) / freedom
    if within < _UNRELATED * of_all:
        return None
    return (
        Figure(
            "share of the scores' variance that is there for one and the same answer",
            within / of_all,
        ),
        Figure("answers that were said before, to the same prompt", float(freedom)),
    )


def _moves_for_nothing(run: RunRecord) -> tuple[Figure, ...] | None:
    """Whether the score stays while the policy moves.

    D nats in the direction of a score raise it by up to `std * sqrt(2 D)`.
    """
    nats, spread = nats_per_answer(run).part(0.75), run.curve("rollout/return_std")
    found = change(run.curve(*RETURNS))
    if not len(nats) or nats.median < _A_WAY or spread.median <= 0:
        return None
    most = spread.median * math.sqrt(2 * nats.median)
    best = (found.size + 2 * found.error) / most
    if best > _WITHOUT_GAIN:
        return None
    return (
        shown("divergence of an answer, nats", nats),
        *_ends("the score", run.curve(*RETURNS), found),
        Figure("share of the possible gain, at most", best),
    )


def _repeated(run: RunRecord, *, late: bool) -> np.ndarray:
    found = [repeats(text) for text in of_steps(run, late=late)]
    return np.array([share for share in found if share is not None], dtype=float)


def _ends(name: str, curve: Curve, found: Change) -> tuple[Figure, Figure]:
    """A curve's beginning and end."""
    first, last = curve.part(0, 0.25), curve.part(0.75)
    return Figure(name, found.first, first.span), Figure(name, found.last, last.span)


_MEASURED_WRONG = ("ratio-not-one", "samples-foreign", "kl-negative", "kl-paid")
_NOTHING_TO_LEARN = ("rewards-equal", "dead-groups", "no-exploration")

RULES = (
    Rule("proxy-beats-gold", proxy_beats_gold, ("gold_proxy/gold|alarm/gold",), at_least=8),
    Rule("entropy-explodes", entropy_explodes, (_ENTROPY,), after=("ratio-not-one",), at_least=8),
    Rule(
        "entropy-collapses", entropy_collapses, (_ENTROPY,), after=("no-exploration",), at_least=8
    ),
    Rule("length-drifts", length_drifts, (_LENGTH, "samples"), at_least=8),
    Rule("repeated-text", repeated_text, ("samples",), at_least=8),
    Rule(
        "kl-explodes",
        kl_explodes,
        ("rollout/kl_per_token",),
        after=(*_MEASURED_WRONG, "learning-rate-high"),
        at_least=8,
    ),
    Rule(
        "reward-falls",
        reward_falls,
        ("rollout/ep_rew_mean",),
        after=(*_MEASURED_WRONG, "learning-rate-high", "entropy-explodes"),
        at_least=8,
    ),
    Rule(
        "scores-unrelated",
        scores_unrelated,
        ("rollout/return_std", "rollout/ep_rew_mean"),
        after=(
            *_MEASURED_WRONG,
            *_NOTHING_TO_LEARN,
            "reward-falls",
            "learning-rate-high",
            "entropy-explodes",
            "reference-wrong",
        ),
        at_least=8,
    ),
)
