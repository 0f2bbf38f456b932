"""Rules on what there is to learn from: prompts, answers, and what they are paid."""

from __future__ import annotations

import numpy as np

from llm_gym.runs.doctor.finding import Figure, Finding
from llm_gym.runs.doctor.record import RunRecord
from llm_gym.runs.doctor.rule import Rule, shown
from llm_gym.statistics.shares import share_interval

_SPREAD = "rollout/return_std"
_EQUAL = "rollout/equal_groups"
_CUT = "rollout/cut_share"
_DEAD = 0.75  # of the groups
_MANY_CUT = 0.4  # of the answers
_ONE_ANSWER = 0.05  # nats a token
_FEW_PROMPTS, _MANY_ANSWERS = 2, 24
_LEFT = 0.3  # of a reward at the first token


def template_mismatch(run: RunRecord) -> Finding | None:
    """Prompts are shown otherwise than by the model's own chat template."""
    used, own = run.settings["prompt_format"], run.settings["chat_format"]
    if used == own:
        return None
    return Finding(
        "template-mismatch",
        "Prompts are shown in another format than the model's own chat template: a fine-tuned "
        "model answers what it was shown in fine-tuning.",
        (Figure("prompts are shown as", repr(used)), Figure("the chat template shows", repr(own))),
        "Leave prompt_template out, unless the model was fine-tuned on this very format.",
        "warning",
    )


def rewards_equal(run: RunRecord) -> Finding | None:
    """All answers of all rollouts are worth the same."""
    spread, worth = run.curve(_SPREAD), run.curve("rollout/return_mean")
    if spread.values.max() > 1e-7 * max(np.abs(worth.values).max(), 1e-30):
        return None
    return Finding(
        "rewards-equal",
        "Every answer is worth the same, so nothing can be learnt from the scores.",
        (shown(_SPREAD, spread), shown("rollout/return_mean", worth)),
        "Score some answers by hand (`llm-gym score`): a scorer may not read the answer, its "
        "pattern may never be met, or a bound cut it off.",
        "error",
    )


def no_exploration(run: RunRecord) -> Finding | None:
    """The policy is all but certain of every token from the first rollout on."""
    first = run.curve("rollout/sampled_entropy", "train/entropy").part(0, 0.25)
    if first.values.max() > _ONE_ANSWER:
        return None
    return Finding(
        "no-exploration",
        "From the first rollout on the policy is all but certain of every token: it tries one "
        "answer to a prompt, and learns of no other.",
        (shown("nats a token of what is sampled", first),),
        "Raise the temperature (1 is the model's own), and take wide or no truncation (top_k, "
        "top_p).",
        "error",
    )


def dead_groups(run: RunRecord) -> Finding | None:
    """In nearly all groups all answers are worth the same, and did from the beginning."""
    curve = run.curve(_EQUAL)
    untaught, early, late = curve.part(0, 0.0), curve.part(0, 0.5), curve.part(0.5)
    low, _ = share_interval(curve.mean, len(curve))
    if min(early.mean, late.mean) < _DEAD or min(untaught.mean, low) < 0.5:
        return None
    return Finding(
        "dead-groups",
        "In nearly all groups the answers are all worth the same: a group's advantage is what an "
        "answer is worth beyond the others, and here that is 0.",
        (shown(_EQUAL, curve, curve.mean), shown(_SPREAD, run.curve(_SPREAD))),
        "Take prompts of which the model solves some and not all, a score with steps in between, "
        "more answers to a prompt, or a higher temperature.",
        "error",
    )


def no_eos(run: RunRecord) -> Finding | None:
    """No answer ever ends by itself."""
    curve = run.curve(_CUT)
    if curve.values.min() < 0.995:
        return None
    return Finding(
        "no-eos",
        "No answer has ever ended by itself: the budget cuts all of them. The token that ends an "
        "answer is another than the model writes, or it never learnt to write one.",
        (shown(_CUT, curve), shown("rollout/ep_len_mean", run.curve("rollout/ep_len_mean"))),
        "Compare eos_token_id with how the model's answers ended in fine-tuning; else raise "
        "max_new_tokens to what an answer takes, or fine-tune on answers with their end.",
        "error",
    )


def answers_cut(run: RunRecord) -> Finding | None:
    """The budget ends many answers, those of the untaught model too."""
    curve = run.curve(_CUT)
    untaught, late = curve.part(0, 0.0), curve.part(0.67)
    if min(untaught.mean, late.mean) < _MANY_CUT:
        return None
    return Finding(
        "answers-cut",
        "The budget ends most answers before they end by themselves: what is scored is a fragment.",
        (shown(_CUT, curve, curve.mean),),
        "Raise max_new_tokens to what an answer takes; if answers are meant to become shorter, "
        'say so in the score, or take on_max_length="penalise".',
        "warning",
    )


def prompt_starved(run: RunRecord) -> Finding | None:
    """Hardly any prompts."""
    prompts = {str(row["prompt"]) for row in run.samples}
    if len(prompts) > _FEW_PROMPTS or len(run.samples) < _MANY_ANSWERS:
        return None
    return Finding(
        "prompt-starved",
        "All answers are to one or two prompts: what is learnt is these prompts' answer, and "
        "nothing says that it helps with another.",
        (Figure(f"prompts of {len(run.samples)} samples", float(len(prompts))),),
        "Give more prompts, and held-out ones to measure on (eval_prompts); where the task has no "
        "more, this is no fault.",
        "warning",
    )


def reward_discounted(run: RunRecord) -> Finding | None:
    """Little of the reward at the end of an answer reaches its beginning."""
    length = run.curve("rollout/ep_len_mean")
    gamma = float(run.settings["gamma"])
    left = gamma**length.median
    if left > _LEFT or run.settings.get("turn_gamma") is not None:
        return None
    return Finding(
        "reward-discounted",
        "The discount eats the reward: it comes at the end of an answer, and the first tokens "
        "hardly hear of it.",
        (
            Figure("gamma", gamma),
            shown("rollout/ep_len_mean", length),
            Figure("share of the reward that the first token is told", left),
        ),
        "Take gamma=1: a text's reward is due to its first word as well.",
        "error",
    )


RULES = (
    Rule(
        "template-mismatch",
        template_mismatch,
        ("settings:prompt_format", "settings:chat_format"),
        at_least=0,
    ),
    Rule("no-exploration", no_exploration, ("rollout/sampled_entropy",), at_least=3),
    Rule("rewards-equal", rewards_equal, (_SPREAD, "rollout/return_mean"), at_least=3),
    Rule("dead-groups", dead_groups, (_EQUAL,), after=("no-exploration", "rewards-equal")),
    Rule("no-eos", no_eos, (_CUT,), at_least=3),
    Rule("answers-cut", answers_cut, (_CUT,), after=("no-eos",), at_least=3),
    Rule("prompt-starved", prompt_starved, ("samples",)),
    Rule(
        "reward-discounted",
        reward_discounted,
        ("settings:gamma", "rollout/ep_len_mean"),
        at_least=1,
    ),
)
