"""What a run that learns to fly keeps of its looks: the pilot, and flights with the critic's values.

Flights need llm_gym, which this package does without elsewhere.
"""  # noqa: E501 -- a sentence is not broken

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot import task
from llm_gym_autopilot.checkpoints import pilot_file
from llm_gym_autopilot.evaluation import HELD_OUT_SEED
from llm_gym_autopilot.pilots.network import NetworkPilot
from llm_gym_autopilot.single import AutopilotEnv
from llm_gym_autopilot.telemetry import Telemetry

if TYPE_CHECKING:
    from llm_gym.runs.flights import TracedFlight

__all__ = ["critic_values", "keep_look", "trace_flight"]

Array = NDArray[Any]


def keep_look(model: Any, pilot: NetworkPilot, run: Path, levels: Sequence[str]) -> None:
    """Keeps the pilot of a look, and a flight at each level of turbulence.

    The flights are the same at every look: held out, of one seed.

    Args:
        model: PPO, SAC or DQN of Stable-Baselines3.
        pilot: Its network.
        run: Directory of the run.
        levels: Levels of turbulence.

    Raises:
        ImportError: llm_gym is not installed.
    """
    from llm_gym.runs.flights import FlightLook, write_flights

    step = int(model.num_timesteps)
    pilot.save(pilot_file(run, step))
    flights = tuple(trace_flight(model, pilot, level, HELD_OUT_SEED) for level in levels)
    name = type(model).__name__
    write_flights(run, FlightLook(step, name, float(model.gamma), task.STEP_SECONDS, flights))


def trace_flight(model: Any, pilot: NetworkPilot, turbulence: str, seed: int) -> TracedFlight:
    """Flies once, and writes down every moment.

    Args:
        model: PPO, SAC or DQN of Stable-Baselines3.
        pilot: Its network.
        turbulence: A level.
        seed: Of start, targets and gusts.

    Returns:
        The flight.
    """
    from llm_gym.runs.flights import TracedFlight

    env = AutopilotEnv(turbulence=turbulence, discrete=pilot.discrete)
    observation, info = env.reset(seed=seed)
    observations, seen = [observation], [env.telemetry()]
    rewards: list[float] = []
    while info["cause"] is None and len(rewards) < task.MAX_EPISODE_STEPS:
        action, _ = pilot.predict(observation)
        observation, reward, _, _, info = env.step(action)
        observations.append(observation)
        seen.append(env.telemetry())
        rewards.append(reward)
    states = Telemetry(*np.array(seen, dtype=np.float32).T)  # (T + 1,) each

    def of_actions(column: Any) -> Array:
        """What follows an action stands beside the state in which it was taken."""
        return np.append(column, np.nan).astype(np.float32)

    return TracedFlight(
        name=turbulence,
        seed=seed,
        target_altitude_m=float(states.target_altitude_m[0]),
        target_airspeed_mps=float(states.target_airspeed_mps[0]),
        cause=info["cause"],
        columns={
            "altitude_m": states.altitude_m,
            "airspeed_mps": states.airspeed_mps,
            "climb_mps": states.climb_mps,
            "pitch_deg": states.pitch_deg,
            "gust_up_mps": states.gust_mps,
            "gust_forward_mps": states.gust_longitudinal_mps,
            "elevator_deg": of_actions(states.elevator_deg[1:]),
            "throttle": of_actions(states.throttle[1:]),
            "reward": of_actions(rewards),
            "value": critic_values(model, np.array(observations, dtype=np.float32)),
        },
    )


def critic_values(model: Any, observations: Array) -> Array:
    """What a model's critic expects: the state's value, or that of the action it would take.

    Args:
        model: PPO, SAC or DQN of Stable-Baselines3.
        observations: float32 `(T, 11)`.

    Returns:
        float32 `(T,)`: discounted rewards; SAC's with its entropy bonus.

    Raises:
        TypeError: Another algorithm.
    """
    import torch
    from stable_baselines3 import DQN, PPO, SAC

    seen, _ = model.policy.obs_to_tensor(observations)
    with torch.no_grad():
        if isinstance(model, PPO):
            values = model.policy.predict_values(seen).squeeze(-1)
        elif isinstance(model, SAC):
            actions = model.policy.actor(seen, deterministic=True)
            values = torch.cat(model.policy.critic(seen, actions), dim=1).amin(dim=1)
        elif isinstance(model, DQN):
            values = model.policy.q_net(seen).amax(dim=1)
        else:
            raise TypeError(
                f"model must be PPO, SAC or DQN of Stable-Baselines3, got {type(model)}"
            )
    numbers: Array = values.cpu().numpy().astype(np.float32)
    return numbers
