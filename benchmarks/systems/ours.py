"""llm_gym: the vector environment, the policy and the episode buffer, under PPO.

`algorithm="llm_gym"` is `llm_gym.PPO`. `algorithm="stable_baselines3"` is Stable-Baselines3's
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
from stable_baselines3.common.callbacks import BaseCallback

import llm_gym
from benchmarks.systems.base import Batch, Clock
from benchmarks.systems.ragged import policy_for
from benchmarks.tasks import Tally, Task, build_task
from benchmarks.workload import END, Workload
from llm_gym.policy import trunk
from llm_gym.runs.callbacks import CriticStart

ALGORITHMS = {"llm_gym": llm_gym.PPO, "stable_baselines3": stable_baselines3.PPO}


def make_environment(workload: Workload, task: Task, scorer: Tally) -> gym.vector.VectorEnv:
    """The workload as a user makes it: `gym.make_vec` with a tokenizer, prompts and a scorer."""
    shared: dict[str, Any] = {
        "num_envs": workload.episodes,
        "autoreset_mode": "SameStep",
        "scorer": scorer,
        "max_new_tokens": workload.new_tokens,
    }
    if workload.task == "polite_email":
        return gym.make_vec("llm_gym/PoliteEmail-v0", **shared)
    return gym.make_vec(
        "llm_gym/TextGeneration-v0",
        tokenizer=task.tokenizer,
        prompts=task.prompts,
        max_prompt_tokens=workload.prompt_tokens,
        eos_token_id=(END,) if workload.is_ragged else (),
        vocab_size=workload.vocabulary,
        **shared,
    )


class Ours:
    """llm_gym behind the interface of a system.

    Args:
        workload: Model, task and sizes of everything.
        task: What `build_task` made of the workload.
        algorithm: Learns on the environment that it was made with.
        training_scorer: Scorer of that environment, read for the reward of a batch.
        seed: Seeds the environment of bare rollouts.
        callback: Is handed to `learn`.
    """

    def __init__(
        self,
        workload: Workload,
        task: Task,
        algorithm: BaseAlgorithm,
        training_scorer: Tally,
        seed: int,
        callback: BaseCallback | None = None,
    ) -> None:
        self.workload, self.algorithm, self.callback = workload, algorithm, callback
        self.training_scorer = training_scorer
        self.rollout_clock = Clock(workload.device)
        algorithm.collect_rollouts = self.rollout_clock.wrap(algorithm.collect_rollouts)
        self.scorer = Tally(task.score)
        self.environment = make_environment(workload, task, self.scorer)
        self.observations, _ = self.environment.reset(seed=seed)

    @torch.no_grad()
    def rollout_batch(self) -> Batch:
        """One batch of episodes through `step`: tokens, log-probabilities, values and scores.

        Of ragged ones a rollout of the algorithm: it knows what to do with rows that have ended.
        """
        w = self.workload
        if w.is_ragged:
            return self._whole_answers()
        self.scorer.forget()
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

    def _whole_answers(self) -> Batch:
        algorithm: Any = self.algorithm
        self.training_scorer.forget()
        before = algorithm.num_timesteps
        _, callback = algorithm._setup_learn(1, self.callback, reset_num_timesteps=False)
        buffer, steps = algorithm.rollout_buffer, algorithm.n_steps
        algorithm.collect_rollouts(algorithm.env, callback, buffer, steps)
        return Batch(algorithm.num_timesteps - before, self.training_scorer.last_mean)

    def train_batch(self) -> Batch:
        """One iteration of `learn`."""
        self.training_scorer.forget()
        before = self.algorithm.num_timesteps
        self.algorithm.learn(1, callback=self.callback, reset_num_timesteps=False)
        return Batch(self.algorithm.num_timesteps - before, self.training_scorer.last_mean)


def build(
    workload: Workload,
    *,
    seed: int = 0,
    algorithm: str = "llm_gym",
    settings: dict[str, Any] | None = None,
    policy: dict[str, Any] | None = None,
    critic_start: bool = False,
    one_pass: bool = False,
) -> Ours:
    """The system.

    Args:
        workload: Model, task and sizes of everything.
        seed: Seed of everything that is drawn.
        algorithm: A key of `ALGORITHMS`.
        settings: Further arguments of the algorithm; they win over the workload's.
        policy: Further arguments of the policy, such as `{"mixed_precision": "bf16"}`.
        critic_start: Whether the critic starts at the level of the first returns.
        one_pass: Pad all rows of an update to the longest one, as was done before they were read in
            a few passes.
    """
    w = workload
    if one_pass:
        trunk.price_of_a_pass = lambda device: 10**9  # type: ignore[assignment]
    task = build_task(w, tempfile.mkdtemp(prefix="llm-gym-"))
    scorer = Tally(task.score)
    environment = make_environment(w, task, scorer)
    chosen: dict[str, Any] = {
        "n_steps": None if w.is_ragged and algorithm == "llm_gym" else w.new_tokens,
        "batch_size": w.minibatch_episodes * w.new_tokens,
        "n_epochs": w.epochs,
        "clip_range": w.clip_range,
        "gae_lambda": w.gae_lambda,
        "gamma": w.gamma,
        "learning_rate": w.learning_rate,
    }
    if algorithm == "llm_gym":
        chosen |= {"kl_coef": w.kl_coef, "critic_start": critic_start}
    else:
        chosen["rollout_buffer_class"] = llm_gym.EpisodeBuffer
    learner = ALGORITHMS[algorithm](
        policy_for(w),
        llm_gym.GymVecEnv(environment),
        policy_kwargs={"model": task.model, **(policy or {})},
        seed=seed,
        device=w.device,
        **{**chosen, **(settings or {})},
    )
    return Ours(w, task, learner, scorer, seed, CriticStart() if critic_start else None)
