"""Checks a plug-in's wheel: `python tests/check_plugin_wheel.py dist/llm_gym_autopilot-*.whl`.

The autopilot: in a fresh virtual environment with the wheel and its two dependencies, and without
llm_gym, its environments can be made and flown, and no other library is imported on the way.

The reasoning tasks: from the unpacked wheel, beside the libraries of this interpreter (llm_gym
brings torch), every module imports and an episode can be played.
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

REASONING = """
import importlib, pkgutil, sys
import gymnasium, llm_gym_reasoning
assert llm_gym_reasoning.__file__.startswith(sys.argv[1]), llm_gym_reasoning.__file__
for module in pkgutil.walk_packages(llm_gym_reasoning.__path__, "llm_gym_reasoning."):
    importlib.import_module(module.name)
env = gymnasium.make("llm_gym/ReasoningChainSum-v0", size=8, test_size=2)
env.reset(seed=0)
env.step(env.action_space.sample())
print("asked from the wheel:", llm_gym_reasoning.__file__)
"""


def main(wheel: str) -> None:
    """Runs all checks; raises SystemExit or CalledProcessError where one fails."""
    name = Path(wheel).name.partition("-")[0]
    checks = {"llm_gym_autopilot": _check_autopilot, "llm_gym_reasoning": _check_reasoning}
    if name not in checks:
        raise SystemExit(f"{wheel} is none of {sorted(checks)}")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top_level = {each.split("/")[0] for each in names}
    stray = {each for each in top_level if each != name and ".dist-info" not in each}
    if stray or f"{name}/py.typed" not in names:
        raise SystemExit(f"{wheel} installs {sorted(top_level)}; only {name}, typed, is allowed")
    checks[name](wheel)


def _check_autopilot(wheel: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        python = Path(directory) / ("Scripts" if os.name == "nt" else "bin") / "python"
        install = [python, "-m", "pip", "install", "--quiet", wheel]
        subprocess.run(install, check=True)
        subprocess.run([python, "-c", AUTOPILOT], check=True, cwd=directory)


def _check_reasoning(wheel: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(directory)
        subprocess.run(
            [sys.executable, "-c", REASONING, directory],
            check=True,
            cwd=Path(directory).anchor,
            env={**os.environ, "PYTHONPATH": directory},
        )


if __name__ == "__main__":
    main(sys.argv[1])
