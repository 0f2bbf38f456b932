"""Two papers on the same advantage: "biased", and "asymptotically an oracle". Both, exactly."""

import numpy as np

from benchmarks.claims.claim import Claim, Figure, exact
from benchmarks.claims.court import Court
from benchmarks.claims.exact import expected_advantages, prompt_weight
from llm_gym.learning.advantages import dr_grpo, grpo

SOURCE = "2601.08521"
GROUP, HARD, EASY = 8, 0.1, 0.9


def given_a_mixed_group(rate: float) -> float:
    """Expected advantage of an answer in a group with both outcomes, less the true one.

    The true one is the score less the rate, so both scores have the same bias: the rate less the
    mean of a mixed group.
    """
    probabilities, of_one, _ = expected_advantages(dr_grpo, GROUP, rate)
    mixed = slice(1, GROUP)
    return float(probabilities[mixed] @ of_one[mixed] / probabilities[mixed].sum()) - (1 - rate)


def biased(court: Court) -> Figure:
    """The bias on a hard prompt; on an easy one it is the opposite."""
    rates = (0.02, HARD, 0.3, 0.5, EASY)
    told = ", ".join(f"{given_a_mixed_group(rate):+.3f} at {rate:g}" for rate in rates)
    return exact(given_a_mixed_group(HARD), f"by rate: {told}")


def weight_of_hard(court: Court) -> Figure:
    """How a hard prompt's expected gradient is scaled, over how an easy one's is."""
    scales = [prompt_weight(dr_grpo, GROUP, rate) for rate in (HARD, EASY)]
    divided = [prompt_weight(grpo, GROUP, rate) for rate in (HARD, 0.5, EASY)]
    note = (
        f"the gradient is {scales[0]:.3f} of the exact one at every rate (1 - 1/G); divided by the "
        f"deviation {', '.join(f'{one:.2f}' for one in divided)} at 0.1, 0.5, 0.9: hard and "
        f"easy ones gain"
    )
    return exact(scales[0] / scales[1], note)


def without_equal_groups(court: Court) -> Figure:
    """The same where groups without a difference are replaced by others (dynamic sampling)."""
    weights = [
        prompt_weight(dr_grpo, GROUP, rate) / (1 - rate**GROUP - (1 - rate) ** GROUP)
        for rate in (0.02, HARD, 0.5)
    ]
    return exact(
        weights[1] / weights[2],
        f"at rates of 0.02, 0.1 and 0.5: {', '.join(f'{one:.2f}' for one in np.array(weights))}",
    )


CLAIMS = [
    Claim(
        "group bias: advantage",
        "in a group with both outcomes the advantage on hard prompts is too small, on easy "
        "ones too large",
        SOURCE,
        f"expected advantage less the true one, given a mixed group of {GROUP}, at a pass "
        f"rate of {HARD}",
        biased,
        at_most=-0.001,
    ),
    Claim(
        "group bias: gradient",
        "so hard prompts are learnt too little, and easy ones too much",
        SOURCE,
        f"scale of the expected gradient at a pass rate of {HARD}, over that at {EASY}, "
        f"groups of {GROUP}",
        weight_of_hard,
        at_most=0.95,
    ),
    Claim(
        "dynamic sampling: weights",
        "replacing groups without a difference leaves the weights of prompts as they are",
        "implied by 2503.14476, section 3.2",
        f"scale of the expected gradient at a pass rate of {HARD}, over that at 0.5, groups "
        f"of {GROUP}",
        without_equal_groups,
        at_most=1.1,
    ),
]
