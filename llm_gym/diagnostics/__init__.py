"""The laboratory: what optimising a proxy does to what it stands for.

Best-of-n exactly and by sampling, the scaling laws of over-optimisation, a gold score beside the
proxy, the part of a gain that is not length, and an alarm that rings when gold turns.
"""

from __future__ import annotations

from llm_gym.diagnostics.alarm import OveroptimisationAlarm, OveroptimisationWarning
from llm_gym.diagnostics.best_of_n import (
    BestOfN,
    BestOfNEstimate,
    best_of_n,
    estimate_best_of_n,
    kl_bound,
    win_rate_bound,
)
from llm_gym.diagnostics.gold_proxy import GoldProxy, GoldProxyCallback
from llm_gym.diagnostics.held_out import HeldOutMeasure
from llm_gym.diagnostics.length_gain import LengthBucket, LengthGain, length_gain
from llm_gym.diagnostics.pictures import (
    GoldProxyCurve,
    draw_gold_proxy,
    gold_proxy_charts,
    write_pictures,
)
from llm_gym.diagnostics.scaling_laws import Law, LawFit, fit_law, law_value
from llm_gym.diagnostics.turning import Look, TurnEvidence, turn_evidence

__all__ = [
    "BestOfN",
    "BestOfNEstimate",
    "GoldProxy",
    "GoldProxyCallback",
    "GoldProxyCurve",
    "HeldOutMeasure",
    "Law",
    "LawFit",
    "LengthBucket",
    "LengthGain",
    "Look",
    "OveroptimisationAlarm",
    "OveroptimisationWarning",
    "TurnEvidence",
    "best_of_n",
    "draw_gold_proxy",
    "estimate_best_of_n",
    "fit_law",
    "gold_proxy_charts",
    "kl_bound",
    "law_value",
    "length_gain",
    "turn_evidence",
    "win_rate_bound",
    "write_pictures",
]
