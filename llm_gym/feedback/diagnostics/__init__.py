"""The laboratory: what optimising a proxy does to what it stands for.

A gold score measured beside the proxy, pictures of both with a law of over-optimisation, and an
alarm that rings when gold turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter
from llm_gym.feedback.diagnostics.alarm import OveroptimisationAlarm, OveroptimisationWarning
from llm_gym.feedback.diagnostics.gold_proxy import GoldProxy, GoldProxyCallback, HeldOutMeasure
from llm_gym.feedback.diagnostics.pictures import (
    GoldProxyCurve,
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
    "gold_proxy_charts",
    "write_pictures",
]

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
