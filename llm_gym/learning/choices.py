"""What there is to choose from, and which choices go together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from llm_gym.learning.advantages import ESTIMATORS, NEED_GROUPS, OF_TOKENS
from llm_gym.learning.losses import AGGREGATIONS

LOSSES = ("policy_gradient", "clipped")
RATIOS = ("token", "answer")
CRITICS = ("none", "shared", "separate", "detached")
KL_PLACES = ("reward", "loss")
KL_ESTIMATORS = ("k1", "k2", "k3", "exact")


def check_choices(
    *,
    advantage: str,
    loss: str,
    ratio: str,
    aggregation: str,
    critic: str,
    kl_in: str,
    kl_estimator: str,
    n_epochs: int,
) -> None:
    """Checks every name, and that the choices go together; warns of a penalty that is none.

    Raises:
        ValueError: Naming the first that does not.
    """
    _check_name("advantage", advantage, ("gae", *ESTIMATORS))
    _check_name("loss", loss, LOSSES)
    _check_name("ratio", ratio, RATIOS)
    _check_name("aggregation", aggregation, AGGREGATIONS)
    _check_name("critic", critic, CRITICS)
    _check_name("kl_in", kl_in, KL_PLACES)
    _check_name("kl_estimator", kl_estimator, KL_ESTIMATORS)
    if advantage == "gae" and critic == "none":
        raise ValueError(
            "critic='none' but advantage='gae' needs values: pass critic='shared', 'separate' or "
            "'detached', or another advantage"
        )
    if advantage != "gae" and critic != "none":
        raise ValueError(
            f"critic={critic!r} but advantage={advantage!r} uses no values: pass critic='none', or "
            "advantage='gae' (with gae_lambda=1 for a learnt baseline of Monte-Carlo returns)"
        )
    if kl_in == "reward" and kl_estimator == "exact":
        raise ValueError(
            "kl_estimator='exact' with kl_in='reward' has no gradient at the token it is paid for "
            "(it does not depend on the token chosen): use 'k1', or kl_in='loss'"
        )
    if kl_in == "loss" and kl_estimator == "k1":
        warnings.warn(
            "kl_estimator='k1' with kl_in='loss' has an expected gradient of zero: it penalises "
            "nothing and adds noise; use 'k2', or kl_in='reward'",
            stacklevel=3,
        )
    if loss == "policy_gradient" and n_epochs > 1:
        raise ValueError(
            f"n_epochs={n_epochs} with loss='policy_gradient' learns from samples of an older "
            "policy without saying so: pass n_epochs=1, or loss='clipped'"
        )
    if ratio == "answer" and loss == "policy_gradient":
        raise ValueError(
            "ratio='answer' but loss='policy_gradient' has no ratio: pass loss='clipped', or leave "
            "ratio out"
        )
    if ratio == "answer" and advantage in OF_TOKENS:
        raise ValueError(
            f"ratio='answer' but advantage={advantage!r} differs between the tokens of an answer: "
            "pass ratio='token', or another advantage, such as 'rloo'"
        )


def _check_name(parameter: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ValueError(f"{parameter}={name!r} must be one of {', '.join(map(repr, known))}")


def clip_bounds(clip_range: float | tuple[float, float]) -> tuple[float, float]:
    """Lower and upper clip range.

    Raises:
        ValueError: If they are not one or two positive numbers, the lower at most 1.
    """
    bounds = clip_range if isinstance(clip_range, (tuple, list)) else (clip_range, clip_range)
    if len(bounds) != 2 or not all(np.isfinite(b) and b > 0 for b in bounds) or bounds[0] > 1:
        raise ValueError(
            f"clip_range={clip_range!r} must be one number > 0, or (low, high) with low at most 1"
        )
    return float(bounds[0]), float(bounds[1])


def with_critic(policy_kwargs: Mapping[str, Any] | None, critic: str) -> dict[str, Any]:
    """Arguments of the policy that give it this critic.

    Raises:
        ValueError: If they say something else already.
    """
    wanted = {"separate_critic": critic == "separate", "detach_value": critic == "detached"}
    kwargs = dict(policy_kwargs or {})
    for name, value in wanted.items():
        if kwargs.setdefault(name, value) != value:
            raise ValueError(f"policy_kwargs {name}={kwargs[name]} contradicts critic={critic!r}")
    return kwargs


def group_size_of(env: Any) -> int:
    """How many rows of an environment answer the same prompt; 1 where it does not say."""
    try:
        return int(env.get_attr("group_size")[0]) if isinstance(env, VecEnv) else 1
    except AttributeError:
        return 1


def check_environment(algorithm: str, advantage: str, action_space: Any, group_size: int) -> None:
    """Checks that an environment gives what an algorithm needs.

    Raises:
        ValueError: Naming what is missing.
    """
    if not isinstance(action_space, spaces.Discrete):
        raise ValueError(
            f"{algorithm} chooses tokens, so it needs a Discrete action space; env has "
            f"{action_space}"
        )
    if advantage in NEED_GROUPS and group_size < 2:
        raise ValueError(
            f"{algorithm} (advantage={advantage!r}) compares answers to the same prompt, but env "
            f"has group_size={group_size}: make it with gymnasium.make_vec(..., group_size=4)"
        )


def check_every_answer_is_scored(algorithm: str, advantage: str, env: VecEnv) -> None:
    """Checks that no answer is cut off without a score, where the environment says what it does.

    Raises:
        ValueError: Cut-off answers have none.
    """
    if env.has_attr("on_max_length") and "truncate" in env.get_attr("on_max_length"):
        raise ValueError(
            "on_max_length='truncate' leaves cut-off answers without a score, which "
            f"{algorithm} (advantage={advantage!r}) cannot do without: make the environment with "
            "on_max_length='terminate' or 'penalise', or use an algorithm with a critic, such as "
            "PPO"
        )


def check_whole_episodes(advantage: str, n_steps: int, longest: int) -> None:
    """Checks that a rollout has room for whole rounds of episodes.

    Raises:
        ValueError: If it has not.
    """
    if n_steps < longest or n_steps % longest:
        raise ValueError(
            f"n_steps={n_steps} must be a multiple of max_new_tokens={longest}, because "
            f"advantage={advantage!r} needs whole episodes: leave it out, or pass {longest}"
        )
