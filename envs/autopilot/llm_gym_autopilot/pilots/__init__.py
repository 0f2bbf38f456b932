"""Pilots to fly with and to beat: rules, PID loops, an LQR and a trained network.

from llm_gym_autopilot.pilots import load_pilot
action, state = load_pilot("pid").predict(observation)
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_gym_autopilot.pilots.hands_off import RandomPilot, TrimPilot
from llm_gym_autopilot.pilots.lqr import LQRPilot
from llm_gym_autopilot.pilots.pid import PIDPilot
from llm_gym_autopilot.pilots.protocol import ArrayPilot, Pilot, PilotState
from llm_gym_autopilot.pilots.rule import RulePilot, TunedRulePilot
from llm_gym_autopilot.pilots.spoken import SpokenPilot, Translated

__all__ = [
    "PILOTS",
    "ArrayPilot",
    "LQRPilot",
    "PIDPilot",
    "Pilot",
    "PilotState",
    "RandomPilot",
    "RulePilot",
    "SpokenPilot",
    "Translated",
    "TrimPilot",
    "TunedRulePilot",
    "load_pilot",
]

PILOTS = {
    "rule": "push when nose high and fast, pull when nose low and slow; throttle by speed",
    "tuned-rule": "clicks towards a wanted climb, pitch rate and throttle; ten tuned numbers",
    "pid": "PID loops in a cascade: altitude, climb, pitch; speed by throttle; tuned",
    "lqr": "linear-quadratic regulator with integrals, from the coefficients; tuned costs",
    "trim": "sets the controls of level flight at the target speed and lets go",
    "random": "uniform stick and throttle",
    "ppo": "a network of two layers, trained by PPO; ships with the package",
}

_NETWORK = Path(__file__).resolve().parent.parent / "assets" / "ppo.npz"


def _load_network(path: Path = _NETWORK, **settings: Any) -> Pilot:
    from llm_gym_autopilot.pilots.network import NetworkPilot

    return NetworkPilot.load(path, **settings)


_MAKERS: dict[str, Callable[..., Pilot]] = {
    "rule": RulePilot,
    "tuned-rule": TunedRulePilot,
    "pid": PIDPilot,
    "lqr": LQRPilot.design,
    "trim": TrimPilot,
    "random": RandomPilot,
    "ppo": _load_network,
}


def load_pilot(name_or_path: str | Path, **settings: Any) -> Pilot:
    """A pilot by name, or a trained one from its file.

    Args:
        name_or_path: A key of `PILOTS`, an `.npz` file by `pilots.network.save_network`, or the
            directory of a language model, which flies by words.
        settings: The pilot's own numbers, such as `climb_limit=5.0`.

    Returns:
        The pilot.

    Raises:
        ValueError: There is no such pilot, or the file is no network; also for Stable-Baselines3's
            `.zip`, as loading one would run code that it contains.
        FileNotFoundError: There is no such file.
        TypeError: The pilot has no such setting.
        ImportError: A language model needs llm_gym.
    """
    name = str(name_or_path)
    if name in _MAKERS:
        return _MAKERS[name](**settings)
    path = Path(name_or_path)
    if path.is_dir():
        from llm_gym_autopilot.pilots.language import LanguageModel

        return SpokenPilot(LanguageModel(path, **settings))
    if path.suffix == ".zip":
        raise ValueError(
            f"{name!r} is a model of Stable-Baselines3, and loading it would run pickled code; "
            "export it where it was trained, by "
            'llm_gym_autopilot.pilots.network.save_network(model, "pilot.npz"), and give the .npz'
        )
    if path.suffix == ".npz":
        return _load_network(path, **settings)
    near = difflib.get_close_matches(name, _MAKERS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"name_or_path={name!r} must be one of {', '.join(_MAKERS)}, the .npz of a trained "
        f"pilot, or the directory of a language model{hint}"
    )
