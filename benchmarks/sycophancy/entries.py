"""The experiment as data: who rates, how hard is optimised, what is done against sycophancy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

TRUTH = 1.0  # what a correct answer is worth to every rater, in units of the choice's log-odds
BIASES = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)  # agreement biases b of the raters
KL_COEF = 0.5  # where biases and mendings are compared
MENDED_BIAS = 3.0  # whose sycophancy is to be mended
WEAK = 4.0  # KL coefficient at which initial slopes are measured

# Arguments of RewardModelConfig. Nothing pulls rewards to 0: how far apart they are is the subject.
REWARD_MODEL = {
    "batch_size": 32,
    "learning_rate": 2e-3,
    "warmup_share": 0.1,
    "center_rewards_coefficient": 0.0,
}

# PPO. Answers have 5 to 9 tokens: a long rollout has few answers that it cuts in two (whose opening
# would pay for its divergence and never see a reward), and lambda 1 gives the opening all of the
# answer's reward. Both decide where the reward and the KL penalty balance.
NUM_ENVS = 64
N_STEPS = 72
PPO = {
    "n_steps": N_STEPS,
    "batch_size": 1200,
    "n_epochs": 2,
    "gae_lambda": 1.0,
}
LEARNING_RATE = 6e-4  # falls to 0


class Panel(NamedTuple):
    """Who compares answers.

    Attributes:
        label: Its name in tables.
        biases: Agreement bias b of each rater; each judges as many comparisons.
        weigh: Weigh raters by their truthfulness on controls.
    """

    label: str
    biases: tuple[float, ...]
    weigh: bool = False


PANELS = {
    **{f"b={bias:g}": Panel(f"b = {bias:g}", (bias,)) for bias in BIASES},
    "mixed": Panel("half of them b = 0", (0.0, MENDED_BIAS)),
    "weighed": Panel("half b = 0, weighed by truthfulness", (0.0, MENDED_BIAS), weigh=True),
}


class Policy(NamedTuple):
    """A policy to train.

    Attributes:
        panel: Key of `PANELS`, whose reward model it is trained against.
        kl_coef: Of PPO, in units of the reward per nat.
        penalty: Weight of the agreement penalty.
    """

    panel: str
    kl_coef: float
    penalty: float = 0.0

    @property
    def key(self) -> str:
        """Name in records."""
        penalty = f", penalty {self.penalty:g}" if self.penalty else ""
        return f"{self.panel}, KL {self.kl_coef:g}{penalty}"


class Mending(NamedTuple):
    """Something done against sycophancy.

    Attributes:
        label: Its name in tables and pictures.
        policy: The policy that is trained with it.
        needs: What it takes besides comparisons.
    """

    label: str
    policy: Policy
    needs: str


BIASED = f"b={MENDED_BIAS:g}"
MENDINGS = {
    "none": Mending("nothing", Policy(BIASED, KL_COEF), "-"),
    "penalty": Mending(
        "agreement penalty", Policy(BIASED, KL_COEF, MENDED_BIAS), "to know which claims are false"
    ),
    "strong_kl": Mending("4 times the KL penalty", Policy(BIASED, 4 * KL_COEF), "-"),
    "mixed": Mending("mixed raters", Policy("mixed", KL_COEF), "unbiased raters for half"),
    "weighed": Mending(
        "mixed, weighed", Policy("weighed", KL_COEF), "the same, and controls for each rater"
    ),
    "unbiased": Mending("unbiased raters", Policy("b=0", KL_COEF), "unbiased raters for all"),
}


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        seeds: Repetitions; each has its own comparisons, votes, reward models and PPO runs.
        comparisons: Number that a panel judges.
        epochs: Epochs of the reward model over them.
        iterations: Rollouts of PPO, of `NUM_ENVS * N_STEPS` tokens each.
        biases: Agreement biases that are compared at `KL_COEF`.
        pressures: KL coefficients, from hardly any pressure to much, by bias.
        mendings: Keys of `MENDINGS`.
        vf_coef: Of PPO, as by default.
        detach_value: The critic learns on the actor's features but does not shape them: so small a
            transformer would follow the louder of the two.
    """

    seeds: int
    comparisons: int
    epochs: int
    iterations: int
    biases: tuple[float, ...]
    pressures: dict[float, tuple[float, ...]]
    mendings: tuple[str, ...]
    vf_coef: float = 0.1
    detach_value: bool = True

    def policies(self) -> list[Policy]:
        """Everything to train, each once."""
        policies = [Policy(f"b={bias:g}", KL_COEF) for bias in self.biases]
        for bias, coefs in self.pressures.items():
            policies += [Policy(f"b={bias:g}", coef) for coef in coefs]
        policies += [MENDINGS[name].policy for name in self.mendings]
        return list(dict.fromkeys(policies))


FULL = Settings(
    seeds=5,
    comparisons=8_000,
    epochs=1,
    iterations=9,
    biases=BIASES,
    pressures={3.0: (4.0, 2.0, 1.0, 0.5, 0.25), 0.0: (4.0, 0.5, 0.25), 1.0: (4.0, 0.5)},
    mendings=tuple(MENDINGS),
)
QUICK = Settings(
    seeds=2,
    comparisons=5_000,
    epochs=1,
    iterations=6,
    biases=(0.0, 3.0),
    pressures={3.0: (4.0, 0.5)},
    mendings=("none", "penalty", "unbiased"),
)
