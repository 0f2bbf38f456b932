"""The laboratory: what optimising a proxy does to what it stands for.

Best-of-n exactly and by sampling, the scaling laws of over-optimisation, a gold score beside the
proxy, the part of a gain that is not length, and an alarm that rings when gold turns.
"""

from __future__ import annotations

from llm_gym.feedback.diagnostics.alarm import OveroptimisationAlarm, OveroptimisationWarning
from llm_gym.feedback.diagnostics.gold_proxy import GoldProxy, GoldProxyCallback
from llm_gym.feedback.diagnostics.held_out import HeldOutMeasure
from llm_gym.feedback.diagnostics.pictures import (
    GoldProxyCurve,
    draw_gold_proxy,
    gold_proxy_charts,
    write_pictures,
)

__all__ = [
    "GoldProxy",
    "GoldProxyCallback",
    "GoldProxyCurve",
    "HeldOutMeasure",
    "OveroptimisationAlarm",
    "OveroptimisationWarning",
    "draw_gold_proxy",
    "gold_proxy_charts",
    "write_pictures",
]
