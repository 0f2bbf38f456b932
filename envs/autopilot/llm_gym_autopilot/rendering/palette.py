"""Colours of the cockpit."""

from __future__ import annotations

from llm_gym_autopilot.rendering.canvas import Color

__all__: list[str] = []

PANEL: Color = (17, 21, 28)
RAISED: Color = (27, 33, 43)
EDGE: Color = (52, 61, 74)
TEXT: Color = (236, 240, 244)
MUTED: Color = (147, 160, 175)
BLACK: Color = (6, 8, 11)
GLASS: Color = (10, 16, 26, 150)  # the tapes let the horizon shine through

TARGET: Color = (255, 64, 224)  # magenta: what the autopilot is to fly at
AIRCRAFT: Color = (255, 208, 64)
VELOCITY: Color = (74, 232, 138)
GOOD: Color = (60, 184, 104)
CAUTION: Color = (246, 174, 52)
WARNING: Color = (232, 64, 56)

SKY_HIGH: Color = (22, 74, 140)
SKY_LOW: Color = (104, 166, 220)
EARTH_HIGH: Color = (146, 106, 62)
EARTH_LOW: Color = (70, 48, 28)

DAY_HIGH: Color = (62, 124, 190)
DAY_LOW: Color = (198, 224, 240)
CLOUD: Color = (236, 243, 248)
HILLS: Color = (134, 166, 160)
GROUND_HIGH: Color = (112, 138, 84)
GROUND_LOW: Color = (70, 92, 56)
