"""llm_gym's RLOO and GRPO, with the settings under which they are TRL's.

What TRL 1.16 does, read from its source, and what says the same here:

==================================  ============================================================
RLOOTrainer                         here
==================================  ============================================================
reward - beta * sum_t log(pi/ref)   `kl_in="reward"`, `kl_estimator="k1"`, `gamma=1`
baseline: mean of the others        `advantage="rloo"`, not normalised
clip of the whole answer's ratio    `loss="clipped"`, `ratio="answer"`
mean over answers                   `aggregation="constant"`, `aggregation_constant=1`
GRPOTrainer, `loss_type="grpo"`   here
(r - mean) / (std + 1e-4), ddof 1   `advantage="grpo"`
clip of each token's ratio          `loss="clipped"`
mean over tokens, then answers      `aggregation="sequence_mean"`
beta * k3 in the loss               `kl_in="loss"`, `kl_estimator="k3"`
Trainer                             here
AdamW, eps 1e-8, no weight decay    the policy's own optimizer
gradient's norm at most 1           `max_grad_norm=1.0`
==================================  ============================================================
"""

from __future__ import annotations

import tempfile
from typing import Any

import gymnasium as gym

import llm_gym
from benchmarks.systems.base import Batch, Clock
from benchmarks.systems.like_trl import FixedMinibatches
from benchmarks.systems.ragged import policy_for
from benchmarks.tasks import Tally, Task, build_task
from benchmarks.workload import END, Workload

ALGORITHMS: dict[str, tuple[type[llm_gym.PolicyGradient], dict[str, Any]]] = {
    "rloo": (llm_gym.RLOO, {"loss": "clipped", "ratio": "answer", "aggregation_constant": 1.0}),
    # The ratio and the clip of each token, as in PPO; otherwise the same.
    "rloo_tokens": (llm_gym.RLOO, {"loss": "clipped"}),
    "grpo": (llm_gym.GRPO, {}),
}


def make_environment(workload: Workload, task: Task, scorer: Tally) -> gym.vector.VectorEnv:
    """The task as a user makes it: groups of rows answer the same prompt."""
    w = workload
    shared: dict[str, Any] = {
        "num_envs": w.episodes,
        "group_size": w.group_size,
        "autoreset_mode": "SameStep",
        "scorer": scorer,
    }
    if w.task == "polite_email":
        return gym.make_vec("llm_gym/PoliteEmail-v0", max_new_tokens=w.new_tokens, **shared)
    if w.task == "real_model":
        return gym.make_vec(
            "llm_gym/TextGeneration-v0",
            tokenizer=task.tokenizer,
            prompts=task.instructions,
            max_new_tokens=w.new_tokens,
            **shared,
        )
    return gym.make_vec(
        "llm_gym/TextGeneration-v0",
        tokenizer=task.tokenizer,
        prompts=task.prompts,
        max_prompt_tokens=w.prompt_tokens,
        max_new_tokens=w.new_tokens,
        eos_token_id=(END,) if w.is_ragged else (),
        vocab_size=w.vocabulary,
        **shared,
    )


class OursInGroups:
    """An algorithm of llm_gym behind the interface of a system.

    Args:
        workload: Model, task and sizes of everything.
        algorithm: Learns on the environment that it was made with.
        scorer: Its environment's scorer, read for the reward of a batch.
    """

    def __init__(
        self, workload: Workload, algorithm: llm_gym.PolicyGradient, scorer: Tally
    ) -> None:
        self.workload, self.algorithm, self.scorer = workload, algorithm, scorer
        self.rollout_clock = Clock(workload.device)
        algorithm.collect_rollouts = self.rollout_clock.wrap(algorithm.collect_rollouts)

    def train_batch(self) -> Batch:
        """One iteration of `learn`; it ends with its rollout, whatever episodes' lengths."""
        self.scorer.forget()
        before = self.algorithm.num_timesteps
        self.algorithm.learn(1, reset_num_timesteps=False)
        return Batch(self.algorithm.num_timesteps - before, self.scorer.last_mean)


def build(
    workload: Workload,
    *,
    algorithm: str,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    policy: dict[str, Any] | None = None,
) -> OursInGroups:
    """The system.

    Args:
        workload: Model, task and sizes of everything.
        algorithm: A key of `ALGORITHMS`.
        seed: Seed of everything that is drawn.
        settings: Further arguments of the algorithm; they win over the workload's.
        policy: Further arguments of the policy, such as `{"mixed_precision": "bf16"}`.
    """
    w = workload
    task = build_task(w, tempfile.mkdtemp(prefix="llm-gym-"))
    scorer = Tally(task.score)
    learner, choices = ALGORITHMS[algorithm]
    chosen: dict[str, Any] = {
        "n_steps": w.new_tokens,
        "batch_size": w.minibatch_episodes * w.new_tokens,
        "n_epochs": w.epochs,
        "clip_range": w.clip_range,
        "gamma": 1.0,
        "learning_rate": w.learning_rate,
        "max_grad_norm": 1.0,
        "kl_coef": w.kl_coef,
        "rollout_buffer_class": FixedMinibatches,
    }
    algorithm_of_ours = learner(
        policy_for(w),
        llm_gym.GymVecEnv(make_environment(w, task, scorer)),
        policy_kwargs={"model": task.model, **(policy or {})},
        seed=seed,
        device=w.device,
        **{**chosen, **choices, **(settings or {})},
    )
    return OursInGroups(w, algorithm_of_ours, scorer)
