"""Checks a plug-in's wheel: `python tests/check_plugin_wheel.py dist/llm_gym_autopilot-*.whl`.

The autopilot: in a fresh virtual environment with the wheel and its two dependencies, and without
llm_gym, its environments can be made and flown, and no other library is imported on the way.

Plug-ins that need llm_gym: from the unpacked wheel, beside the libraries of this interpreter
(llm_gym brings torch), every module imports and an episode can be begun.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

AUTOPILOT = """
import sys, gymnasium
env = gymnasium.make("llm_gym_autopilot:llm_gym/Autopilot-v0")
env.reset(seed=0)
env.step(env.action_space.sample())
many = gymnasium.make_vec("llm_gym/Autopilot-v0", num_envs=3)
many.reset(seed=0)
many.step(many.action_space.sample())
from llm_gym_autopilot.pilots import load_pilot
for name in ("rule", "pid", "lqr", "ppo"):
    load_pilot(name).predict(env.reset()[0])
heavy = {"torch", "stable_baselines3", "llm_gym", "pygame", "jsbsim", "typer"} & set(sys.modules)
assert not heavy, heavy
print("flew from the wheel:", sys.modules["llm_gym_autopilot"].__file__.startswith(sys.prefix))
"""

BESIDE_LLM_GYM = """
import importlib, pkgutil, sys
import gymnasium
_, directory, name, env_id, arguments = sys.argv
package = importlib.import_module(name)
assert package.__file__.startswith(directory), package.__file__
for module in pkgutil.walk_packages(package.__path__, name + "."):
    importlib.import_module(module.name)
env = gymnasium.make(env_id, **eval(arguments))
env.reset(seed=0)
env.step(env.action_space.sample())
print("asked from the wheel:", package.__file__)
"""
EPISODES = {
    "llm_gym_known_optimum": ("llm_gym/KnownOptimum-v0", {}),
    "llm_gym_reasoning": ("llm_gym/ReasoningChainSum-v0", {"size": 8, "test_size": 2}),
    "llm_gym_sycophancy": ("llm_gym/AreYouSure-v0", {}),
}


def main(wheel: str) -> None:
    """Runs all checks; raises SystemExit or CalledProcessError where one fails."""
    name = Path(wheel).name.partition("-")[0]
    if name not in {"llm_gym_autopilot", *EPISODES}:
        raise SystemExit(f"{wheel} is none of llm_gym_autopilot, {', '.join(EPISODES)}")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top_level = {each.split("/")[0] for each in names}
    stray = {each for each in top_level if each != name and ".dist-info" not in each}
    if stray or f"{name}/py.typed" not in names:
        raise SystemExit(f"{wheel} installs {sorted(top_level)}; only {name}, typed, is allowed")
    if name == "llm_gym_autopilot":
        _check_autopilot(wheel)
    else:
        _check_beside_llm_gym(wheel, name)


def _check_autopilot(wheel: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        python = Path(directory) / ("Scripts" if os.name == "nt" else "bin") / "python"
        install = [python, "-m", "pip", "install", "--quiet", wheel]
        subprocess.run(install, check=True)
        subprocess.run([python, "-c", AUTOPILOT], check=True, cwd=directory)


def _check_beside_llm_gym(wheel: str, name: str) -> None:
    env_id, arguments = EPISODES[name]
    with tempfile.TemporaryDirectory() as directory:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(directory)
        subprocess.run(
            [sys.executable, "-c", BESIDE_LLM_GYM, directory, name, env_id, repr(arguments)],
            check=True,
            cwd=Path(directory).anchor,
            env={**os.environ, "PYTHONPATH": directory},
        )


if __name__ == "__main__":
    main(sys.argv[1])
