"""One reward model, one policy: what is trained, and what is measured of it."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from llm_gym_sycophancy import (
    FACTS_MODEL,
    AgreementPenalty,
    AnswerPolicy,
    answer_policy,
    biased_rater,
    classifier_rewards,
    controls,
    correction,
    draw_comparisons,
    drift,
    panel_preferences,
    policy_figures,
    questions_of,
    rater_rewards,
    reward_figures,
    truthfulness,
    weighted,
)
from llm_gym_sycophancy.task import environment_kwargs
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedTokenizerBase

import llm_gym  # registers the environments
from benchmarks.sycophancy.entries import (
    LEARNING_RATE,
    N_STEPS,
    NUM_ENVS,
    PANELS,
    PPO,
    REWARD_MODEL,
    TRUTH,
    Policy,
    Settings,
)
from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.reward_model import RewardModelConfig, RewardModelScorer, train_reward_model
from llm_gym.language_models import PROMPT_TEMPLATE, load_causal_lm, load_tokenizer
from llm_gym.scorers import Scorer

SPLITS = ("train", "test")
TEMPLATE = PROMPT_TEMPLATE + "{completion}"  # what the reward model reads
PRESSURES = tuple(np.linspace(0, 4, 33).tolist())  # lambda = 1 / beta of the closed form
CURVES = ("false_agreement", "agreement_wrong_hint", "flip_rate", "accuracy", "kl")
TABLES = "answer_rewards.safetensors"  # beside the reward model: its score of every answer


class World(NamedTuple):
    """What all runs have in common.

    Attributes:
        tokenizer: Tokenizer of the language model.
        references: By split, the policy before reinforcement learning, on one question of each
            fact and kind.
    """

    tokenizer: PreTrainedTokenizerBase
    references: dict[str, AnswerPolicy]


@cache
def world() -> World:
    """The embedded model and its exact policies."""
    model, tokenizer = load_causal_lm(FACTS_MODEL), load_tokenizer(FACTS_MODEL)
    return World(
        tokenizer,
        {
            split: answer_policy(model, tokenizer, questions_of(split, variants=1))
            for split in SPLITS
        },
    )


def votes_of(panel: str, settings: Settings, seed: int) -> list[Preference]:
    """The preferences of a panel; a comparison is the same to all panels of a seed."""
    members = [
        biased_rater(bias, truth=TRUTH, name=f"{number}: b={bias:g}", seed=seed)
        for number, bias in enumerate(PANELS[panel].biases)
    ]
    questions = questions_of("train", variants=6)
    rows = panel_preferences(
        draw_comparisons(questions, settings.comparisons, seed=seed), members, seed=seed
    )
    if not PANELS[panel].weigh:
        return rows
    known = controls(questions_of("train", kinds=("wrong_hint",), variants=3))
    weights = {rater.name: truthfulness(rater, known) for rater in members}
    return weighted(rows, weights)


def train_reward(panel: str, settings: Settings, seed: int, directory: Path) -> dict[str, Any]:
    """Votes, reward model, and what it prefers.

    Args:
        panel: Key of `PANELS`.
        settings: Numbers of comparisons and epochs are in it.
        seed: Seed of comparisons, votes and training.
        directory: Receives the reward model and its table of rewards.

    Returns:
        A record.
    """
    started = time.process_time()
    votes = votes_of(panel, settings, seed)
    config = RewardModelConfig(
        head="finetune",
        model=FACTS_MODEL,
        template=TEMPLATE,
        weight_column="weight" if PANELS[panel].weigh else "",
        epochs=settings.epochs,
        seed=seed,
        **REWARD_MODEL,
    )
    # Held-out comparisons are not needed: what the model prefers is computed exactly below.
    train_reward_model(votes, directory, config, held_out=votes[:1], quiet=True)
    model = RewardModelScorer(directory).model
    tables = {
        split: classifier_rewards(model, world().tokenizer, policy.questions, template=TEMPLATE)
        for split, policy in world().references.items()
    }
    save_file(tables, directory / TABLES)
    record: dict[str, Any] = {"votes": sum(row.columns.get("weight", 1) > 0 for row in votes)}
    for split, reference in world().references.items():
        rewards = tables[split]
        curve = [_figures(reference.tilted(rewards, pressure), reference) for pressure in PRESSURES]
        record[split] = {
            **reward_figures(reference.questions, rewards)._asdict(),
            "drift": drift(reference, rewards),
            "closed_form_by_pressure": {
                "pressure": PRESSURES,
                **{name: [point[name] for point in curve] for name in CURVES},
            },
        }
        if len(PANELS[panel].biases) == 1:
            utility = rater_rewards(
                reference.questions, truth=TRUTH, agreement=PANELS[panel].biases[0]
            )
            record[split]["rater_drift"] = drift(reference, utility)
    return {**record, "cpu_seconds": time.process_time() - started}


def train_policy(
    policy: Policy, settings: Settings, seed: int, reward_model: Path
) -> dict[str, Any]:
    """PPO against a reward model, and the policy that comes out, exactly.

    Args:
        policy: Reward model, KL coefficient and penalty.
        settings: The number of PPO's rollouts is in it.
        seed: Seed of PPO.
        reward_model: Directory of the reward model, as `train_reward` left it.

    Returns:
        A record: figures of the trained policy and of the closed-form optimum of the same
        objective, by split.
    """
    started = time.process_time()
    scorer = RewardModelScorer(reward_model, batch_size=128)
    trained = optimise(scorer, policy, settings, seed)
    tables = load_file(reward_model / TABLES)
    record: dict[str, Any] = {}
    for split, reference in world().references.items():
        questions = reference.questions
        paid = tables[split] - policy.penalty * correction(questions)
        optimum = reference.tilted(paid, 1 / policy.kl_coef)
        learnt = answer_policy(trained, world().tokenizer, questions)
        objectives = [
            float((answers.mean(paid) - policy.kl_coef * answers.kl_to(reference)).mean())
            for answers in (reference, learnt, optimum)
        ]
        record[split] = {
            "ppo": _figures(learnt, reference),
            "closed_form": _figures(optimum, reference),
            "kl_to_optimum": float(learnt.kl_to(optimum).mean()),
            "share_of_gain": (objectives[1] - objectives[0]) / (objectives[2] - objectives[0]),
        }
    return {**record, "cpu_seconds": time.process_time() - started}


def optimise(scorer: Scorer, policy: Policy, settings: Settings, seed: int) -> Any:
    """PPO from the embedded model; returns the trained language model."""
    if policy.penalty:
        scorer = AgreementPenalty(scorer, policy.penalty)
    env = gymnasium.make_vec(
        "llm_gym/TextGeneration-v0",
        num_envs=NUM_ENVS,
        autoreset_mode="SameStep",
        **environment_kwargs("train", scorer=scorer),
    )
    algorithm = llm_gym.PPO(
        "TransformerPolicy",
        env,
        learning_rate=lambda left: LEARNING_RATE * left,
        kl_coef=policy.kl_coef,
        seed=seed,
        device="cpu",
        vf_coef=settings.vf_coef,
        policy_kwargs={"model": FACTS_MODEL, "detach_value": settings.detach_value},
        **PPO,
    )
    algorithm.learn(settings.iterations * N_STEPS * NUM_ENVS)
    return algorithm.policy.model.eval()


def before() -> dict[str, Any]:
    """Figures of the embedded model, by split."""
    return {split: _figures(policy, policy) for split, policy in world().references.items()}


def _figures(policy: AnswerPolicy, reference: AnswerPolicy) -> dict[str, float]:
    """Of a policy: Sharma's measures, mean accuracy over all kinds, KL."""
    truth = policy.mean(rater_rewards(policy.questions))
    kl = float(policy.kl_to(reference).mean())
    return {**policy_figures(policy)._asdict(), "accuracy": float(truth.mean()), "kl": kl}
