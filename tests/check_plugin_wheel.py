"""Checks a plug-in's wheel: `python tests/check_plugin_wheel.py dist/llm_gym_autopilot-*.whl`.

In a fresh virtual environment with the wheel and its two dependencies, and without llm_gym, its
environments can be made and flown, and no other library is imported on the way.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

NAME = "llm_gym_autopilot"

INSIDE = """
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


def main(wheel: str) -> None:
    """Runs all checks; raises SystemExit or CalledProcessError where one fails."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top_level = {name.split("/")[0] for name in names}
    stray = {name for name in top_level if name != NAME and ".dist-info" not in name}
    if stray or f"{NAME}/py.typed" not in names:
        raise SystemExit(f"{wheel} installs {sorted(top_level)}; only {NAME}, typed, is allowed")
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        python = Path(directory) / ("Scripts" if os.name == "nt" else "bin") / "python"
        install = [python, "-m", "pip", "install", "--quiet", wheel]
        subprocess.run(install, check=True)
        subprocess.run([python, "-c", INSIDE], check=True, cwd=directory)


if __name__ == "__main__":
    main(sys.argv[1])
