"""An aeroplane in a simulator, as Gymnasium environments and as pilots that fly it.

Importing the package registers `llm_gym/Autopilot-v0`, `llm_gym/AutopilotDiscrete-v0` and, on
JSBSim, `llm_gym/AutopilotJSBSim-v0` and `llm_gym/AutopilotJSBSimDiscrete-v0`; and the cockpit in
words, `llm_gym/TextCockpit-v0`.
"""

from __future__ import annotations

import gymnasium as gym

__version__ = "0.1.0"

MAX_EPISODE_STEPS = 300  # 60 s
REWARD_THRESHOLD = 255.0


def _register(name: str, single: str, vector: str | None) -> None:
    gym.register(
        f"llm_gym/{name}-v0",
        entry_point=f"llm_gym_autopilot.{single}",
        vector_entry_point=None if vector is None else f"llm_gym_autopilot.{vector}",
        max_episode_steps=MAX_EPISODE_STEPS,
        reward_threshold=REWARD_THRESHOLD,
    )


_register("Autopilot", "single:AutopilotEnv", "vector:AutopilotVectorEnv")
_register("AutopilotDiscrete", "single:AutopilotDiscreteEnv", "vector:AutopilotDiscreteVectorEnv")
_register("TextCockpit", "text_cockpit:TextCockpitEnv", None)
_register("AutopilotJSBSim", "jsbsim_env:AutopilotJSBSimEnv", None)
_register("AutopilotJSBSimDiscrete", "jsbsim_env:AutopilotJSBSimDiscreteEnv", None)
