"""Stock algorithms that learn to fly, as data, and why those for language models cannot.

Shared by all: the environment as it stands, a discount of 0.985 (13 s ahead), networks of two
layers of 64, and a learning rate that falls in a straight line to a fiftieth. PPO and SAC have the
settings of `agents/ppo_autopilot.py` (which flies by movements, an easier task) and
`agents/sac_autopilot.py`, but SAC takes one gradient step for sixteen steps flown instead of for
four. A2C and TRPO have PPO's rate and lambda, TD3 what SAC has; the rest is the libraries' own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from benchmarks.algorithms.settings import Entry

TUNING = (
    "little: PPO's and SAC's settings are their agents', tuned by hand; A2C's learning rate was "
    "the best of four on one seed that is not reported; the others' were chosen beforehand"
)
AUTOPILOT = "llm_gym/Autopilot-v0"
FLIGHT = "autopilot"
"""The kind of tasks, as `--only` takes it."""


@dataclass(frozen=True)
class FlightEntry:
    """A stock algorithm and its arguments; a row of the table.

    Attributes:
        label: Its name in tables and pictures.
        algorithm: Where its class is, `"module:Class"`.
        arguments: Arguments of the class.
        learning_rate: At the start of a run.
        rows: Aeroplanes side by side.
        noise: Standard deviation of the noise on actions, for an algorithm whose policy has none of
            its own; None otherwise.
        needs: Packages that must be installed beside llm_gym.
    """

    label: str
    algorithm: str
    arguments: dict[str, Any] = field(default_factory=dict)
    learning_rate: float = 3e-3
    rows: int = 128
    noise: float | None = None
    needs: tuple[str, ...] = ("llm_gym_autopilot",)


@dataclass(frozen=True)
class FlightBudget:
    """How much of everything; the same for every algorithm.

    Attributes:
        seeds: Runs of each algorithm.
        first_seed: First seed of them.
        steps: Steps of all aeroplanes together, 0.2 s each; the default is whole rollouts of
        everybody.
        evaluations: Times that the held-out flights are flown, the first before training.
        flights: Held-out flights at each level of turbulence.
    """

    seeds: int = 10
    first_seed: int = 0
    steps: int = 294_912
    evaluations: int = 10
    flights: int = 100

    def quick(self) -> FlightBudget:
        """A look at whether everything works, too short to judge anybody by."""
        return replace(self, seeds=1, steps=24_576, evaluations=2, flights=20)


_SHARED = {"gamma": 0.985}
_ON_POLICY = {
    **_SHARED,
    "gae_lambda": 0.95,
    "policy_kwargs": {"net_arch": [64, 64], "log_std_init": -1.0},
}
_OFF_POLICY = {
    **_SHARED,
    "train_freq": 1,
    "gradient_steps": 4,
    "batch_size": 256,
    "buffer_size": 300_000,  # all that is flown
    "learning_starts": 5_000,
    "tau": 0.01,
    "policy_kwargs": {"net_arch": [64, 64]},
}

FLIGHT_ENTRIES: dict[str, FlightEntry] = {
    "sb3_ppo": FlightEntry(
        "stock PPO",
        "stable_baselines3:PPO",
        {**_ON_POLICY, "n_steps": 64, "batch_size": 4096, "n_epochs": 10},
    ),
    "sb3_a2c": FlightEntry("stock A2C", "stable_baselines3:A2C", {**_ON_POLICY, "n_steps": 8}),
    "sb3_trpo": FlightEntry(
        "stock TRPO",
        "sb3_contrib:TRPO",
        {**_ON_POLICY, "n_steps": 16, "batch_size": 1024},
        needs=("llm_gym_autopilot", "sb3_contrib"),
    ),
    "sb3_sac": FlightEntry(
        "stock SAC",
        "stable_baselines3:SAC",
        {**_OFF_POLICY, "target_entropy": -2.0},
        learning_rate=1e-3,
        rows=64,
    ),
    "sb3_td3": FlightEntry(
        "stock TD3", "stable_baselines3:TD3", _OFF_POLICY, learning_rate=1e-3, rows=64, noise=0.1
    ),
}
"""The algorithms that fly, by the name that `--algorithms` takes."""


def of_a_flight_run(budget: FlightBudget) -> dict[str, Any]:
    """The part of a budget that a single run depends on."""
    whole = asdict(budget)
    return {name: whole[name] for name in ("steps", "evaluations", "flights")}


# ---------------------------------------------------------------------- who cannot

WHO_FLIES = (
    f"on {AUTOPILOT} fly stock algorithms ({', '.join(FLIGHT_ENTRIES)}); benchmarks/autopilot "
    "compares them with pilots by hand"
)
_WITH_CRITIC = ("llm_gym:PPO", "llm_gym:A2C", "llm_gym:NLPO", "sb3_contrib:")


def why_not_fly(entries: Iterable[Entry]) -> list[str]:
    """Why algorithms for language models cannot run on the autopilot, by name: a line a reason."""
    grounded: dict[str, list[str]] = {}
    for entry in entries:
        reasons = ["actions there are continuous, not tokens"]
        if entry.group_size > 1:
            reasons.append("there are no groups of answers to one prompt")
        if entry.algorithm.startswith(_WITH_CRITIC):
            reasons.append("there is no language model to carry a critic")
        grounded.setdefault("; ".join(reasons), []).append(entry.label)
    return [
        f"{' / '.join(labels)} cannot run on {AUTOPILOT}: {reason}"
        for reason, labels in grounded.items()
    ]


def why_only_fly(entry: FlightEntry, kinds: list[str]) -> str:
    """Why a stock algorithm is not run on tasks of other kinds."""
    return (
        f"{entry.label} runs on {AUTOPILOT} alone, not on {', '.join(kinds)}: its network reads "
        "instruments, not tokens"
    )
