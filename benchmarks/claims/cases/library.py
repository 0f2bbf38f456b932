"""Claims about algorithms of the library, on the five families: J/J*, clips and lengths of runs."""

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.claims.claim import Claim, Figure, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.standing import gain
from benchmarks.common import mean_with_interval

TUNED = {
    "ppo": 0.03,
    "ppo_lambda_1": 0.03,
    "ppo_lambda_05": 0.03,
    "ppo_lambda_0": 0.03,
    "rloo_4": 0.3,
    "rloo_2": 0.3,
    "raft": 0.1,
}
"""Learning rates as `benchmarks/algorithms/run.py --quick --tune` chose them."""


def run(entry: str, family: str, seed: int, rate: float, episodes: int) -> dict[str, Any]:
    """A trial: gain of a run from the reference (0) to the optimum (1), and how much it clipped."""
    from benchmarks.algorithms.known_optimum.settings import TASKS, Budget
    from benchmarks.algorithms.known_optimum.training import train
    from benchmarks.algorithms.settings import ENTRIES

    job = {
        "entry": replace(ENTRIES[entry], learning_rate=rate),
        "task": TASKS[family],
        "budget": replace(Budget().quick(), episodes=episodes, evaluations=1),
        "seed": seed,
    }
    done = train(job)
    return {"gain": done["end"]["gain"], "clip": done["logged"].get("train/clip_fraction", 0.0)}


def runs(court: Court, entry: str) -> list[list[dict[str, Any]]]:
    """Runs of an algorithm, by seed and family."""
    from benchmarks.algorithms.known_optimum.settings import TASKS

    families, seeds = court.pick(list(TASKS), ["additive"]), court.pick(5, 1)
    return [
        court.each(
            run,
            [
                {
                    "entry": entry,
                    "family": family,
                    "seed": seed,
                    "rate": TUNED[entry],
                    "episodes": court.pick(12_800, 256),
                }
                for family in families
            ],
        )
        for seed in range(seeds)
    ]


def at_least_as_good(court: Court, *pairs: tuple[str, str]) -> Figure:
    """Probability that a run of X is better than one of Y; the least of some pairs."""
    from benchmarks.algorithms.intervals import improvement

    names = {name for pair in pairs for name in pair}
    gains = {
        name: np.array([[one["gain"] for one in row] for row in runs(court, name)])
        for name in names
    }
    found = improvement(gains, list(pairs))
    least = min(found.values(), key=lambda one: one["probability"])
    told = ", ".join(f"{pair} {one['probability']:.2f}" for pair, one in found.items())
    means = ", ".join(f"{name} {gains[name].mean():.3f}" for name in sorted(names))
    return Figure(least["probability"], least["low"], least["high"], f"{told}; mean gain: {means}")


def clip(court: Court) -> Figure:
    """The share of PPO's tokens beyond the clip, over runs."""
    shares = [one["clip"] for row in runs(court, "ppo") for one in row]
    return figure_of(mean_with_interval(shares), f"at most {max(shares):.2g}")


def wrong_lengths(court: Court) -> Figure:
    """Words that wrong answers gain under GRPO, less those under Dr. GRPO, over problems."""
    from benchmarks.claims.lengths import measure_lengths

    amount = court.pick({"rows": 128, "rollouts": 60}, {"rows": 32, "rollouts": 4})
    seeds, names = range(court.pick(5, 1)), ("grpo", "dr_grpo")
    slopes = {
        name: court.each(measure_lengths, [{"entry": name, "seed": s, **amount} for s in seeds])
        for name in names
    }
    told = [mean_with_interval([one["slope"] for one in slopes[name]])["mean"] for name in names]
    differences = gain(slopes["grpo"], slopes["dr_grpo"], "slope")
    return figure_of(mean_with_interval(differences), f"{told[0]:.3f} and {told[1]:.3f}")


SOURCE = "2402.14740"
_RUNS = "five families, five problems each, 12,800 answers"
CLAIMS = [
    Claim(
        "rloo: four answers",
        "RLOO with four answers is at least as good as with two, at equal samples",
        SOURCE,
        f"probability that a run ends nearer the optimum; {_RUNS}",
        lambda court: at_least_as_good(court, ("rloo_4", "rloo_2")),
        at_least=0.5,
    ),
    Claim(
        "rloo: raft",
        "RLOO with two answers is at least as good as RAFT, at equal samples",
        SOURCE,
        f"probability that a run ends nearer the optimum; {_RUNS}",
        lambda court: at_least_as_good(court, ("rloo_2", "raft")),
        at_least=0.5,
    ),
    Claim(
        "ppo: lambda",
        "lambda = 1 is best for language, where the reward comes at the end",
        SOURCE,
        f"probability that a run of PPO ends nearer the optimum than with 0.95, 0.5, 0: the "
        f"least; {_RUNS}",
        lambda court: at_least_as_good(
            court,
            ("ppo_lambda_1", "ppo"),
            ("ppo_lambda_1", "ppo_lambda_05"),
            ("ppo_lambda_1", "ppo_lambda_0"),
        ),
        at_least=0.5,
    ),
    Claim(
        "ppo: clip",
        "the clip is active in under 5 % of PPO's tokens",
        SOURCE,
        f"share of tokens beyond the clip; {_RUNS}",
        clip,
        at_most=0.05,
    ),
    Claim(
        "grpo: wrong answers",
        "GRPO lengthens wrong answers, and Dr. GRPO does not",
        "2503.20783",
        "words gained per tenth of probability that wrong answers lose, GRPO's less Dr. "
        "GRPO's, where "
        "length has nothing to say",
        wrong_lengths,
        at_least=0.02,
    ),
]
