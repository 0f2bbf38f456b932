"""Flights as pictures, as lines of text and as recordings.

`Cockpit` draws with pygame and `Recorder` writes with imageio; both are imported when they are made
(`pip install "llm-gym-autopilot[render]"`).
"""

from __future__ import annotations

from llm_gym_autopilot.rendering.cockpit import Cockpit
from llm_gym_autopilot.rendering.frame import CockpitFrame, CockpitLimits
from llm_gym_autopilot.rendering.instrument_line import instrument_line
from llm_gym_autopilot.rendering.recording import Recorder

__all__ = ["Cockpit", "CockpitFrame", "CockpitLimits", "Recorder", "instrument_line"]
