"""Three ways to please a proxy: best-of-n, the tilted policy, and PPO."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from benchmarks.overoptimisation.proxies import Proxy, draw_answers
from benchmarks.overoptimisation.settings import Settings
from benchmarks.overoptimisation.world import Floats, World, make_tokenizer

Curve = dict[str, list[float]]  # "kl", "proxy" and "gold", point by point


def best_of_n_curve(settings: Settings, world: World, proxy: Proxy) -> Curve:
    """Best-of-n, exactly; everything is averaged over prompts at equal n."""
    from llm_gym.statistics.best_of_n import best_of_n

    ns = np.geomspace(1, settings.largest_n, settings.points)
    figures = np.zeros((3, len(ns)))
    for p, r, g in zip(world.probabilities, proxy.scores, world.gold, strict=True):
        for column, best in enumerate(best_of_n(p, r, ns)):
            figures[:, column] += best.kl, best.expectation(r), best.expectation(g)
    kl, of_proxy, of_gold = figures / len(world.prompts)
    return _curve(kl, of_proxy, of_gold) | {"n": ns.tolist()}


def tilted_curve(settings: Settings, world: World, proxy: Proxy) -> Curve:
    """The policies p exp(r / beta) / Z, exactly: the most proxy that any policy has for its KL."""
    inverse_betas = np.concatenate([[0.0], np.geomspace(0.03, 30, settings.points - 1)])
    figures = np.zeros((3, len(inverse_betas)))
    for p, r, g in zip(world.probabilities, proxy.scores, world.gold, strict=True):
        for column, inverse in enumerate(inverse_betas):
            log_ratio = inverse * (r - r.max())
            log_ratio -= np.log(p @ np.exp(log_ratio))
            q = p * np.exp(log_ratio)
            figures[:, column] += q @ log_ratio, q @ r, q @ g
    kl, of_proxy, of_gold = figures / len(world.prompts)
    return _curve(np.maximum(kl, 0.0), of_proxy, of_gold)


def sampled_best_of_n(settings: Settings, world: World, proxy: Proxy, seed: int) -> dict[str, Any]:
    """Best-of-n by sampling, held against the exact expectation.

    Returns:
        `n`, `gold` with `low` and `high` (95 % over prompts), `exact`, and the share of n at which
        the interval covers the exact value.
    """
    from llm_gym.statistics.best_of_n import best_of_n, estimate_best_of_n

    rng = np.random.default_rng([seed, 7])
    ns = [2**k for k in range(int(np.log2(settings.sampled)) + 1)]
    prompts = np.repeat(np.arange(len(world.prompts)), settings.sampled)
    answers = draw_answers(world.probabilities, prompts, rng)
    shape = (len(world.prompts), settings.sampled)
    estimate = estimate_best_of_n(
        proxy.scores[prompts, answers].reshape(shape),
        {"gold": world.gold[prompts, answers].reshape(shape)},
        ns,
    )
    exact = np.mean(
        [
            [best.expectation(g) for best in best_of_n(p, r, ns)]
            for p, r, g in zip(world.probabilities, proxy.scores, world.gold, strict=True)
        ],
        axis=0,
    )
    low, high = estimate.low["gold"], estimate.high["gold"]
    return {
        "n": ns,
        "gold": estimate.mean["gold"].tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "exact": exact.tolist(),
        "covered": float(((low <= exact) & (exact <= high)).mean()),
    }


def ppo_curve(
    settings: Settings, world: World, proxy: Proxy, seed: int
) -> tuple[Curve, dict[str, Any]]:
    """PPO on the proxy without a KL penalty; gold and divergence are only watched.

    Returns:
        The curve, each point the mean of the episodes of one rollout; and what the alarm did: the
        KL at which it rang, or None.
    """
    import gymnasium as gym
    from stable_baselines3.common.logger import Logger

    import llm_gym
    from llm_gym.feedback.diagnostics import (
        GoldProxy,
        GoldProxyCallback,
        OveroptimisationAlarm,
        OveroptimisationWarning,
    )

    environment = gym.make_vec(
        "llm_gym/TextGeneration-v0",
        num_envs=settings.episodes,
        autoreset_mode="SameStep",
        tokenizer=make_tokenizer(settings.words),
        prompts=world.texts(),
        scorer=GoldProxy(world.scorer(proxy.scores, "proxy"), world.scorer(world.gold, "gold")),
        max_new_tokens=settings.answer_words,
        eos_token_id=(),
        pad_token_id=0,
    )
    tokens = settings.episodes * settings.answer_words
    algorithm = llm_gym.PPO(
        "TransformerPolicy",
        environment,
        # `left` falls from 1 to 0.
        learning_rate=lambda left: settings.learning_rate * (1 - 0.9 * left),
        batch_size=tokens // 4,
        n_epochs=settings.epochs,
        kl_coef=0.0,
        reference=world.model,
        seed=seed,
        device="cpu",
        policy_kwargs={"model": str(world.model)},
    )
    algorithm.set_logger(Logger(None, []))
    watch, alarm = GoldProxyCallback(), OveroptimisationAlarm(every=settings.alarm_every)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OveroptimisationWarning)
        algorithm.learn(tokens * settings.iterations, callback=[watch, alarm])
    rows = watch.rows
    curve = _curve(*(np.array([row[name] for row in rows]) for name in ("kl", "proxy", "gold")))
    curve["entropy"] = [row["entropy"] for row in rows]
    kl_at = {look.step: look.kl for look in alarm.looks}
    rang = [kl_at[alert.step] for alert in alarm.alarms]
    return curve, {"rang_at_kl": rang[0] if rang else None}


def _curve(kl: Floats, proxy: Floats, gold: Floats) -> Curve:
    return {"kl": kl.tolist(), "proxy": proxy.tolist(), "gold": gold.tolist()}
