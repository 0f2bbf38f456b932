"""Reward models: a classifier with one output that predicts what people prefer, or how they rate.

Train one with `train_reward_model` or `train_rating_model`; score with `RewardModelScorer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter
from llm_gym.feedback.reward_model.comparisons import (
    RewardModelConfig,
    differences_of,
    fit_reward_model,
    train_reward_model,
)
from llm_gym.feedback.reward_model.curve import learning_curve
from llm_gym.feedback.reward_model.evaluation import (
    accuracy,
    accuracy_by_margin,
    calibration_error,
    evaluate_differences,
    evaluate_ratings,
    fit_temperature,
    log_loss,
    reliability,
    spearman,
)
from llm_gym.feedback.reward_model.pictures import calibration_chart, evaluation_parts
from llm_gym.feedback.reward_model.ratings import (
    RatingModelConfig,
    fit_rating_model,
    rating_weights,
    train_rating_model,
)
from llm_gym.feedback.reward_model.rewards import bradley_terry_loss, centring_penalty, rating_loss
from llm_gym.feedback.reward_model.scorer import RewardModelScorer

__all__ = [
    "RatingModelConfig",
    "RewardModelConfig",
    "RewardModelScorer",
    "accuracy",
    "accuracy_by_margin",
    "bradley_terry_loss",
    "calibration_chart",
    "calibration_error",
    "centring_penalty",
    "differences_of",
    "evaluate_differences",
    "evaluate_ratings",
    "evaluation_parts",
    "fit_rating_model",
    "fit_reward_model",
    "fit_temperature",
    "learning_curve",
    "log_loss",
    "rating_loss",
    "rating_weights",
    "reliability",
    "spearman",
    "train_rating_model",
    "train_reward_model",
]

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
