"""Rules on the update: the critic, the size of a step, and what a nat costs."""

from __future__ import annotations

from llm_gym.runs.doctor.finding import Figure, Finding
from llm_gym.runs.doctor.measures import KL_PER_TOKEN, RETURNS, change, learns, updates
from llm_gym.runs.doctor.record import RunRecord
from llm_gym.runs.doctor.rule import Rule, shown

_EXPLAINED = "train/explained_variance"
_RATE = "train/learning_rate"
_HEAD = "train/value_head_step"
_CLIPPED = "train/clip_fraction"
_NORM, _CLIPS = "train/grad_norm", "train/grad_clip_fraction"
_LOSSES = ("train/loss", "train/policy_loss", "train/policy_gradient_loss")

_NOTHING_EXPLAINED = 0.02
_TIME_TO_LEARN = 20  # passes, before which a critic knows nothing yet
_MANY_CLIPPED = 0.3  # of the tokens; PPO's own authors have 0.1 to 0.2
_LARGE_UPDATE = 0.25  # nats a token in one update
_STILL = 1e-5  # nats a token that a run has moved in all
_FAR_CLIPPED = 300.0  # times the allowed length
_DEAR, _CHEAP = 0.2, 3000.0
_NORMALISED = ("grpo",)  # advantages whose unit is a group's standard deviation


def value_head_frozen(run: RunRecord) -> Finding | None:
    """No update has moved the value head."""
    curve = run.curve(_HEAD)
    if curve.values.max() > 0:
        return None
    return Finding(
        "value-head-frozen",
        "No update has moved the value head: the critic is not learnt, and advantages are as if "
        "there were none.",
        (shown(_HEAD, curve),),
        "Let its parameters take gradients (requires_grad, in the optimizer), and take vf_coef "
        "above 0.",
        "error",
    )


def critic_blind(run: RunRecord) -> Finding | None:
    """The critic explains nothing of the returns."""
    if run.curve("train/n_updates").values.max() < _TIME_TO_LEARN:
        return None
    late = run.curve(_EXPLAINED).part(0.4)
    if late.mean + 2 * late.error > 3 * _NOTHING_EXPLAINED or late.median > _NOTHING_EXPLAINED:
        return None
    return Finding(
        "critic-blind",
        "The critic explains nothing of what answers are worth: its values are no better than one "
        "number for all.",
        (shown(_EXPLAINED, late), shown("train/value_loss", run.curve("train/value_loss"))),
        "Check that its targets are the returns of the same tokens; raise vf_coef or the answers "
        "of a rollout; or do without: gae_lambda=1, or an algorithm without a critic (RLOO).",
        # Where the score rises all the same, the critic only fails to save answers.
        "note" if learns(run) else "warning",
    )


def learning_rate_high(run: RunRecord) -> Finding | None:
    """Single updates throw the policy far away, or out of the numbers."""
    gaps = run.gaps(*_LOSSES)
    clipped = run.curve(_CLIPPED)
    seen = [
        Figure("largest change of a token's distribution by an update, nats", size, (step, step))
        for step, size in updates(run)
        if size > _LARGE_UPDATE
    ]
    per_token = run.curve(KL_PER_TOKEN)
    evidence: list[Figure] = []
    if gaps:
        evidence.append(Figure("the loss was no number", "", (gaps[0], gaps[-1])))
    if len(clipped) >= 3 and clipped.median > _MANY_CLIPPED:
        evidence.append(shown(_CLIPPED, clipped))
    if len(per_token) >= 3 and per_token.values[:3].max() > 2 * _LARGE_UPDATE > per_token.values[0]:
        evidence.append(shown(KL_PER_TOKEN, per_token.part(0, 0.0), per_token.values[:3].max()))
    if len(seen) > 1 or (seen and len(updates(run)) == 1):
        evidence.append(max(seen, key=lambda figure: float(figure.value)))
    if not evidence:
        return None
    return Finding(
        "learning-rate-high",
        "The steps are too large: a single update moves the policy so far that what it learnt "
        "from says little of where it lands.",
        tuple(evidence),
        "Lower learning_rate to a tenth; then n_epochs, or set target_kl.",
        "error",
    )


def learning_rate_low(run: RunRecord) -> Finding | None:
    """After the whole run the policy is where it was."""
    moved = _moved(run)
    if moved is None or float(moved.value) > _STILL or change(run.curve(*RETURNS)).is_rise:
        return None
    return Finding(
        "learning-rate-low",
        "The policy has not moved: after all updates it is where it began.",
        (moved, *(shown(name, run.curve(name)) for name in (_RATE,) if run.has(name))),
        "Raise learning_rate ten times at a time until train/approx_kl (or the divergence from "
        "the reference) shows a movement; check that the optimizer has the parameters.",
        "error",
    )


def _moved(run: RunRecord) -> Figure | None:
    """How far the policy has gone in all, in nats a token, at most; None if nothing says so."""
    per_token, steps = run.curve(KL_PER_TOKEN).part(0.9), run.curve("train/approx_kl")
    moves = [size for _, size in updates(run)]
    update = "largest change of a token's distribution by an update, nats"
    if len(per_token):
        # Where the reference moves along, the divergence says nothing.
        if max(moves, default=0.0) > per_token.median:
            return Figure(update, max(moves))
        return shown(KL_PER_TOKEN, per_token)
    if moves:
        return Figure(f"{update}, times their number", max(moves) * run.iterations)
    if len(steps):
        largest = float(abs(steps.values).max())
        return shown("train/approx_kl, times the updates", steps, largest * run.iterations)
    return None


def gradient_clipped(run: RunRecord) -> Finding | None:
    """Every gradient is cut to a small part of itself."""
    norm, clips = run.curve(_NORM), run.curve(_CLIPS)
    limit = float(run.settings["max_grad_norm"])
    if clips.median < 0.99 or norm.median < _FAR_CLIPPED * limit:
        return None
    return Finding(
        "gradient-clipped",
        "Every gradient is cut to a small part of itself: what a step does is decided by the "
        "clipping.",
        (shown(_NORM, norm), Figure("max_grad_norm", limit), shown(_CLIPS, clips)),
        "Raise max_grad_norm to the usual length of a gradient, or bring the loss down to it "
        "(reward_scaling, vf_coef).",
        "warning",
    )


def kl_coef_scale(run: RunRecord) -> Finding | None:
    """What a nat costs has nothing to do with what answers are worth.

    The best policy under the penalty has about `(std / beta)^2 / 2` nats from the reference, where
    beta is large beside the deviation of what answers are worth.
    """
    price, spread = run.curve("rollout/kl_coef"), run.curve("rollout/return_std")
    unit = spread.median
    if run.settings.get("advantage") in _NORMALISED and run.settings.get("kl_in") == "loss":
        unit = 1.0
    if price.median <= 0 or unit <= 0 or run.settings.get("kl_target") is not None:
        return None
    worth = unit / price.median
    if _DEAR < worth < _CHEAP:
        return None
    too = "dear" if worth <= _DEAR else "cheap"
    effect = (
        "the policy cannot leave the reference for anything the scorer pays"
        if too == "dear"
        else "nothing holds the policy near the reference"
    )
    return Finding(
        "kl-coef-scale",
        f"A nat is too {too} beside what answers are worth: {effect}.",
        (
            shown("rollout/kl_coef", price),
            shown("rollout/return_std", spread),
            Figure("nats that a standard deviation of the score buys", worth),
        ),
        "Give kl_coef in the units of the score: a tenth of its standard deviation is a beginning; "
        "or let kl_target steer it.",
        "warning",
    )


_NOTHING_TO_LEARN = ("rewards-equal", "dead-groups", "no-exploration")

RULES = (
    Rule("value-head-frozen", value_head_frozen, (_HEAD,), at_least=3),
    Rule(
        "learning-rate-high",
        learning_rate_high,
        (_RATE,),
        after=("ratio-not-one", "no-exploration"),
        at_least=3,
    ),
    Rule(
        "kl-coef-scale",
        kl_coef_scale,
        ("rollout/kl_coef", "rollout/return_std"),
        after=_NOTHING_TO_LEARN,
    ),
    Rule(
        "learning-rate-low",
        learning_rate_low,
        ("train/n_updates", "rollout/ep_rew_mean"),
        after=("reference-moves", *_NOTHING_TO_LEARN),
        at_least=8,
    ),
    Rule(
        "critic-blind",
        critic_blind,
        (_EXPLAINED, "train/value_loss", "train/n_updates"),
        after=("value-head-frozen", "rewards-equal", "learning-rate-high", "learning-rate-low"),
        at_least=8,
    ),
    Rule("gradient-clipped", gradient_clipped, (_NORM, _CLIPS, "settings:max_grad_norm")),
)
