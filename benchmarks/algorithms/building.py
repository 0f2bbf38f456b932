"""An entry of the tables becomes an algorithm on an environment of text."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import Schedule

import llm_gym  # noqa: F401 - registers the environments
from benchmarks.algorithms.settings import BETA, Entry
from llm_gym.learning.buffer import EpisodeBuffer
from llm_gym.learning.kl import ReferenceModel
from llm_gym.learning.vec_env import GymVecEnv


def named(path: str) -> Any:
    """The object at `"module:name"`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def why_absent(label: str, algorithm: str, needs: Sequence[str]) -> str | None:
    """Why an algorithm cannot be imported; None if it can."""
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if missing:
        return f"{label} needs {', '.join(missing)}, which is not installed"
    try:
        named(algorithm)
    except (ImportError, AttributeError) as error:
        return f"{label} is not there: {error}"
    return None


def build(
    entry: Entry,
    env: gym.vector.VectorEnv,
    language_model: str | Path,
    *,
    beta: float,
    length: int,
    seed: int,
    decay: bool = True,
    **changes: Any,
) -> BaseAlgorithm:
    """The algorithm of an entry on an environment.

    Args:
        entry: The algorithm and its arguments.
        env: Text environment, in groups as the entry wants them.
        language_model: Name or path of the model to train.
        beta: Price of a nat, for `"$beta"`.
        length: Most tokens of an answer: a rollout of stock algorithms.
        seed: Seed of everything random.
        decay: Whether the learning rate falls to zero.
        **changes: Arguments that take the place of the entry's.
    """
    price = beta if entry.kl_start == 1 else _falling(entry.kl_start * beta, beta)
    arguments = {
        name: _filled_in(value, price if name == "kl_coef" else beta)
        for name, value in {**entry.arguments, **changes}.items()
    }
    stock = not entry.algorithm.startswith("llm_gym")
    if stock:
        arguments.setdefault("n_steps", length)
    rate = arguments.pop("learning_rate", entry.learning_rate)
    policy = "TransformerPolicy"
    if stock:
        policy = named(entry.policy_class or "llm_gym:TransformerActorCriticPolicy")
    model = named(entry.algorithm)(
        policy,
        GymVecEnv(env) if stock else env,
        learning_rate=(lambda left: rate * left) if decay else rate,
        policy_kwargs={"model": str(language_model), **entry.policy},
        seed=seed,
        **arguments,
    )
    if entry.penalise:
        model.rollout_buffer.before_returns = KLPenalty(model, price)
    return model


def _falling(start: float, end: float) -> Schedule:
    """From start to end over the first half of training."""
    return lambda remaining: end + (start - end) * max(0.0, 2 * remaining - 1)


def _filled_in(value: Any, beta: float | Schedule) -> Any:
    if value == BETA:
        return beta
    return named(value) if isinstance(value, str) and ":" in value else value


class KLPenalty:
    """Subtracts `beta * (log pi - log pi_ref)` from every token's reward of a rollout.

    Args:
        model: Whose policy, as it is now, is the reference.
        beta: Price of a nat, or a schedule of it.
    """

    def __init__(self, model: Any, beta: float | Schedule) -> None:
        self.model, self.reference, self.beta = model, ReferenceModel.of(model.policy), beta

    def __call__(self, buffer: EpisodeBuffer) -> None:
        """See the argument `before_returns` of `EpisodeBuffer`."""
        segments = buffer.segments()
        places = buffer.places(segments)
        theirs = self.reference.log_probs(buffer.episode_batch(segments)).numpy()
        beta = self.beta
        if callable(beta):
            beta = beta(1 - self.model.num_timesteps / self.model._total_timesteps)
        buffer.rewards[places] -= beta * (buffer.log_probs[places] - theirs)
