"""The agents, pilots, aeroplanes and environments of the autopilot benchmark, as data."""

from __future__ import annotations

from typing import Any, NamedTuple

PARTS = ("agents", "gap", "speed")
LEVELS = ("none", "light", "moderate", "severe")  # severe was never trained or tuned on


class Training(NamedTuple):
    """An agent to train.

    Attributes:
        label: Its name in tables and pictures.
        script: Module in `agents/`, with `Config`, `train` and `save`.
        options: Fields of its Config that are not the defaults.
        seeds: Runs, each with a seed of its own; seed i is i.
        quick_steps: Environment steps with `--quick`, too few to judge the agent by.
        quick_seeds: Runs with `--quick`.
    """

    label: str
    script: str
    options: dict[str, Any]
    seeds: int
    quick_steps: int
    quick_seeds: int = 1


# Clicks are small, and large steps of the optimizer soon leave a policy that clicks no more.
CLICKS = {"discrete": True, "learning_rate": 1e-3, "batch_size": 1024, "n_epochs": 8}

TRAININGS: dict[str, Training] = {
    "ppo": Training("PPO", "ppo_autopilot", {}, 3, 300_000, 2),
    "ppo_discrete": Training("PPO, clicks", "ppo_autopilot", CLICKS, 1, 300_000),
    "sac": Training("SAC", "sac_autopilot", {}, 1, 20_000),
    "dqn": Training("DQN, clicks", "dqn_autopilot", {}, 1, 60_000),
}

# Names that llm_gym_autopilot.pilots.load_pilot knows.
PILOTS = {
    "pid": "PID, tuned",
    "lqr": "LQR, tuned",
    "tuned-rule": "rule, tuned",
    "rule": "rule of thumb",
    "trim": "hands off",
}

# Measures of llm_gym_autopilot.evaluation: title, factor, digits.
MEASURES: dict[str, tuple[str, float, int]] = {
    "return": ("return", 1, 1),
    "success": ("success %", 100, 1),
    "rise_time_s": ("rise s", 1, 1),
    "settling_time_s": ("settle s", 1, 1),
    "overshoot_m": ("overshoot m", 1, 1),
    "elevator_deg_per_step": ("stick deg/step", 1, 2),
    "throttle_per_step": ("throttle %/step", 100, 2),
}

# Part "gap": the shipped network and the hand-made pilots, from one simulator to the other.
GAP_PILOTS = {"ppo": "PPO, as shipped", **{key: PILOTS[key] for key in ("pid", "lqr", "rule")}}
GAP_AIRCRAFT = ("navion", "c172p")
GAP_LEVELS = ("none", "moderate")


class Contender(NamedTuple):
    """An environment whose steps are timed.

    Attributes:
        label: Its name in tables and pictures.
        env: Its id at Gymnasium.
        num_envs: Rows of a vector environment; None for a single one.
        options: Arguments of `gym.make` or `gym.make_vec`.
    """

    label: str
    env: str
    num_envs: int | None
    options: dict[str, Any]


SIZES = (64, 1024, 16384)
CONTENDERS = {
    "single": Contender("Autopilot-v0", "llm_gym/Autopilot-v0", None, {}),
    "cartpole": Contender("CartPole-v1", "CartPole-v1", None, {}),
    "jsbsim": Contender("AutopilotJSBSim-v0", "llm_gym/AutopilotJSBSim-v0", None, {}),
    **{
        f"vector_{size}_f{bits}": Contender(
            f"Autopilot-v0, {size} rows, float{bits}",
            "llm_gym/Autopilot-v0",
            size,
            {"dtype": f"float{bits}"},
        )
        for size in SIZES
        for bits in (64, 32)
    },
    **{
        f"cartpole_{size}": Contender(f"CartPole-v1, {size} rows", "CartPole-v1", size, {})
        for size in SIZES
    },
}


class Ratio(NamedTuple):
    """Steps per CPU second of one contender over those of another.

    Attributes:
        of: Key of `CONTENDERS`.
        over: Key of `CONTENDERS`.
        goal: What it should be at least; None where there is no goal.
    """

    of: str
    over: str
    goal: float | None


RATIOS = {
    "one aeroplane / CartPole": Ratio("single", "cartpole", 0.5),
    **{
        f"{size} rows, float{bits} / CartPole": Ratio(
            f"vector_{size}_f{bits}",
            f"cartpole_{size}",
            0.25 if (size, bits) == (16384, 32) else 0.12 if bits == 64 else None,
        )
        for size in SIZES
        for bits in (64, 32)
    },
    "1024 rows, float64 / JSBSim": Ratio("vector_1024_f64", "jsbsim", 200),
    "16384 rows, float64 / JSBSim": Ratio("vector_16384_f64", "jsbsim", 400),
    "16384 rows, float32 / JSBSim": Ratio("vector_16384_f32", "jsbsim", None),
}
