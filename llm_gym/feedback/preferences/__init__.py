"""Human preferences: storing and exchanging them, agreement, simulated raters, what they cost."""

from __future__ import annotations

from llm_gym.feedback.preferences.agreement import (
    RaterAgreement,
    left_share,
    rater_agreement,
    vote_table,
)
from llm_gym.feedback.preferences.biases import Bias, agreement_bias, flattery_bias, length_bias
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
    compare_effort,
    labelling_effort,
    measured_seconds,
)
from llm_gym.feedback.preferences.files import read_preferences, write_preferences
from llm_gym.feedback.preferences.learning_curve import LearningCurve, fit_learning_curve
from llm_gym.feedback.preferences.raters import SimulatedRater, rate_store, simulate_preferences
from llm_gym.feedback.preferences.rating_agreement import interval_alpha, leave_one_out_correlation
from llm_gym.feedback.preferences.records import Choice, Comparison, Preference, Progress, Vote
from llm_gym.feedback.preferences.store import PreferenceStore

__all__ = [
    "Bias",
    "Choice",
    "Comparison",
    "Effort",
    "LearningCurve",
    "Preference",
    "PreferenceStore",
    "Progress",
    "RaterAgreement",
    "SimulatedRater",
    "StoreBusyError",
    "StoreFullError",
    "StoreUnavailableError",
    "Vote",
    "agreement_bias",
    "answers_scored",
    "cohen_kappa",
    "compare_effort",
    "fit_learning_curve",
    "flattery_bias",
    "fleiss_kappa",
    "interval_alpha",
    "krippendorff_alpha",
    "labelling_effort",
    "leave_one_out_correlation",
    "left_share",
    "length_bias",
    "majority_agreement",
    "measured_seconds",
    "rate_store",
    "rater_agreement",
    "raw_agreement",
    "read_preferences",
    "simulate_preferences",
    "vote_table",
    "write_preferences",
]
