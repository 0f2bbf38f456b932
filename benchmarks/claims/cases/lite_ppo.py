"""Lite PPO: the group's mean, the batch's deviation, and a mean over tokens."""

from benchmarks.claims.claim import Claim, Figure, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.losses import Floats, Groups, Loss, clipped
from benchmarks.claims.standing import direction, gain, learnt, recipe_of
from benchmarks.common import mean_with_interval
from llm_gym.learning.advantages import dr_grpo, grpo

SOURCE = "2508.08221"


def lite_ppo(scores: Floats, groups: Groups) -> Floats:
    """Scores less their group's mean, over the deviation of the batch."""
    return dr_grpo(scores, groups) / (scores.std() + 1e-4)


LITE_PPO = Loss("Lite PPO", SOURCE, clipped, lite_ppo, "token_mean")
GRPO = Loss("GRPO", "2402.03300", clipped, grpo, "sequence_mean")


def better(court: Court) -> Figure:
    """J/J* less GRPO's."""
    ours, theirs = (learnt(court, loss, recipe_of(court)) for loss in (LITE_PPO, GRPO))
    return figure_of(mean_with_interval(gain(ours, theirs, "j_over_jstar")))


def straighter(court: Court) -> Figure:
    """Cosine with the exact gradient less GRPO's."""
    ours, theirs = direction(court, LITE_PPO), direction(court, GRPO)
    return Figure(
        ours.value - theirs.value,
        ours.low - theirs.high,
        ours.high - theirs.low,
        f"{ours.value:.3f} and {theirs.value:.3f}",
    )


LOSSES = [LITE_PPO]
CLAIMS = [
    Claim(
        "lite ppo: direction",
        "the batch's deviation is more robust than the group's",
        SOURCE,
        "cosine with the exact gradient less GRPO's, fresh samples",
        straighter,
        at_least=0.0,
    ),
    Claim(
        "lite ppo: learning",
        "it learns more than GRPO",
        SOURCE,
        "J/J* after 12,800 answers less GRPO's, both tuned alike",
        better,
        at_least=0.0,
    ),
]
