"""One flight by several pilots, from the same start in the same air: what the figures mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from llm_gym_autopilot.pilots import load_pilot
from llm_gym_autopilot.single import AutopilotEnv
from llm_gym_autopilot.task import MAX_EPISODE_STEPS, STEP_SECONDS

# 60 m up and 6 m/s faster, in the turbulence of a summer's day.
START = {
    "altitude": 1200.0,
    "target_altitude": 1260.0,
    "airspeed": 50.0,
    "target_airspeed": 56.0,
    "turbulence": "light",
    "trimmed": True,
}
SEED = 0
PILOTS = {"rule": "rule of thumb", "pid": "PID", "lqr": "LQR", "ppo": "PPO, as shipped"}
READINGS = ("altitude_m", "airspeed_mps", "elevator_deg")


def fly(pilot: str) -> dict[str, list[float]]:
    """Flies from `START` and notes the instruments.

    Args:
        pilot: Name or file, for `load_pilot`.

    Returns:
        `time_s` and `READINGS`, one value at the start and one a step, and `return`.
    """
    flyer: Any = load_pilot(pilot)
    env = AutopilotEnv()
    observation, info = env.reset(seed=SEED, options=START)
    noted = {name: [info[name]] for name in READINGS}
    state, start, rewards = None, np.ones(1, dtype=bool), []
    for _ in range(MAX_EPISODE_STEPS):
        action, state = flyer.predict(observation, state, start, deterministic=True)
        start = np.zeros(1, dtype=bool)
        observation, reward, terminated, _, info = env.step(action)
        rewards.append(reward)
        for name in READINGS:
            noted[name].append(info[name])
        if terminated:
            break
    time = (np.arange(len(rewards) + 1) * STEP_SECONDS).tolist()
    return {"time_s": time, **noted, "return": [float(sum(rewards))]}
