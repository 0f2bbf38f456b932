"""Human preferences: storing and exchanging them, agreement, simulated raters, what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter
from llm_gym.feedback.preferences.agreement import (
    RaterAgreement,
    leave_one_out_correlation,
    rater_agreement,
    vote_table,
)
from llm_gym.feedback.preferences.biases import Bias, flattery_bias, length_bias
from llm_gym.feedback.preferences.coefficients import (
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    majority_agreement,
    raw_agreement,
)
from llm_gym.feedback.preferences.database import (
    StoreBusyError,
    StoreFullError,
    StoreUnavailableError,
)
from llm_gym.feedback.preferences.effort import (
    Effort,
    answers_scored,
    labelling_effort,
    measured_seconds,
)
from llm_gym.feedback.preferences.files import read_preferences, write_preferences
from llm_gym.feedback.preferences.raters import (
    SimulatedRater,
    rate_store,
    simulate_preferences,
)
from llm_gym.feedback.preferences.records import Choice, Comparison, Preference, Progress, Vote
from llm_gym.feedback.preferences.store import PreferenceStore, preferences_from

__all__ = [
    "Bias",
    "Choice",
    "Comparison",
    "Effort",
    "Preference",
    "PreferenceStore",
    "Progress",
    "RaterAgreement",
    "SimulatedRater",
    "StoreBusyError",
    "StoreFullError",
    "StoreUnavailableError",
    "Vote",
    "answers_scored",
    "cohen_kappa",
    "flattery_bias",
    "fleiss_kappa",
    "krippendorff_alpha",
    "labelling_effort",
    "leave_one_out_correlation",
    "length_bias",
    "majority_agreement",
    "measured_seconds",
    "preferences_from",
    "rate_store",
    "rater_agreement",
    "raw_agreement",
    "read_preferences",
    "simulate_preferences",
    "vote_table",
    "write_preferences",
]

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
