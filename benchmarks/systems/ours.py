"""llm_gym: the vector environment, the policy and the episode buffer, under PPO.

``algorithm="llm_gym"`` is ``llm_gym.PPO``. ``algorithm="stable_baselines3"`` is Stable-Baselines3's
own PPO with our policy and buffer; it has no KL penalty, hence no reference to evaluate.
"""

from __future__ import annotations

import tempfile
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

import llm_gym
from benchmarks.systems.base import Batch, Clock
from benchmarks.workload import FavouredShare, Workload, build_model, build_prompts, build_tokenizer

ALGORITHMS = {"llm_gym": llm_gym.PPO, "stable_baselines3": stable_baselines3.PPO}


def make_environment(workload: Workload, scorer: FavouredShare) -> gym.vector.VectorEnv:
    """The workload as a user makes it: ``gym.make_vec`` with a tokenizer, prompts and a scorer."""
    return gym.make_vec(
        "llm_gym/TextGeneration-v0",
        num_envs=workload.episodes,
        autoreset_mode="SameStep",
        tokenizer=build_tokenizer(workload),
        prompts=build_prompts(workload),
        scorer=scorer,
        max_prompt_tokens=workload.prompt_tokens,
        max_new_tokens=workload.new_tokens,
        eos_token_id=(),
        vocab_size=workload.vocabulary,
    )


class Ours:
    """llm_gym behind the interface of a system.

    Args:
        workload: The workload.
        algorithm: Learns on `training` environments that it was made with.
        training_scorer: That environment's scorer.
        seed: Seeds the environment of bare rollouts.
    """

    def __init__(
        self,
        workload: Workload,
        algorithm: BaseAlgorithm,
        training_scorer: FavouredShare,
        seed: int,
    ) -> None:
        self.workload, self.algorithm = workload, algorithm
        self.training_scorer = training_scorer
        self.rollout_clock = Clock(workload.device)
        algorithm.collect_rollouts = self.rollout_clock.wrap(algorithm.collect_rollouts)
        self.scorer = FavouredShare(workload)
        self.environment = make_environment(workload, self.scorer)
        self.observations, _ = self.environment.reset(seed=seed)

    @torch.no_grad()
    def rollout_batch(self) -> Batch:
        """One batch of episodes through ``step``: tokens, log-probabilities, values and scores."""
        w = self.workload
        values = np.empty((w.new_tokens, w.episodes), dtype=np.float32)
        log_probs = np.empty_like(values)
        for step in range(w.new_tokens):
            tensors = {
                name: torch.as_tensor(array, device=w.device)
                for name, array in self.observations.items()
            }
            actions, value, log_prob = self.algorithm.policy(tensors)
            values[step], log_probs[step] = value.flatten().cpu().numpy(), log_prob.cpu().numpy()
            self.observations, *_ = self.environment.step(actions.cpu().numpy())
        return Batch(w.tokens_per_batch, self.scorer.last_mean)

    def train_batch(self) -> Batch:
        """One iteration of ``learn``."""
        tokens = self.workload.tokens_per_batch
        self.algorithm.learn(tokens, reset_num_timesteps=False)
        return Batch(tokens, self.training_scorer.last_mean)


def build(
    workload: Workload,
    *,
    seed: int = 0,
    algorithm: str = "llm_gym",
    settings: dict[str, Any] | None = None,
    policy: dict[str, Any] | None = None,
) -> Ours:
    """The system.

    Args:
        workload: The workload.
        seed: Of everything that is drawn.
        algorithm: A key of ``ALGORITHMS``.
        settings: Further arguments of the algorithm; they win over the workload's.
        policy: Further arguments of the policy, such as ``{"mixed_precision": "bf16"}``.
    """
    w = workload
    folder = tempfile.mkdtemp(prefix="llm-gym-")
    build_model(w).save_pretrained(folder)
    scorer = FavouredShare(w)
    environment = make_environment(w, scorer)
    chosen: dict[str, Any] = {
        "n_steps": w.new_tokens,
        "batch_size": w.minibatch_episodes * w.new_tokens,
        "n_epochs": w.epochs,
        "clip_range": w.clip_range,
        "gae_lambda": w.gae_lambda,
        "gamma": w.gamma,
        "learning_rate": w.learning_rate,
    }
    if algorithm == "llm_gym":
        chosen["kl_coef"] = w.kl_coef
    else:
        chosen["rollout_buffer_class"] = llm_gym.EpisodeBuffer
    learner = ALGORITHMS[algorithm](
        llm_gym.TransformerActorCriticPolicy,
        llm_gym.GymVecEnv(environment),
        policy_kwargs={"model": folder, **(policy or {})},
        seed=seed,
        device=w.device,
        **{**chosen, **(settings or {})},
    )
    return Ours(w, learner, scorer, seed)
