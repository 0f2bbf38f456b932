"""The textbook set-up of Stable-Baselines3 on text: every transition is a padded prefix.

Stock `PPO` with `MultiInputPolicy`, a features extractor that reads the whole prefix, a
`DictRolloutBuffer`, and a `DummyVecEnv` of single environments. No cache, no KL penalty, and
untied output weights, because that is what one gets without writing more than an extractor.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv

import llm_gym
from benchmarks.systems.base import Batch, Clock
from benchmarks.workload import FavouredShare, Workload, build_model, build_prompts, build_tokenizer


class LastHiddenState(BaseFeaturesExtractor):
    """The transformer's hidden state after the last token of a right-padded prefix."""

    def __init__(self, observation_space: spaces.Dict, workload: Workload) -> None:
        super().__init__(observation_space, features_dim=workload.width)
        self.transformer = build_model(workload).transformer

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Features (N, H) of observations (N, L), which Stable-Baselines3 has made floats."""
        mask = observations["attention_mask"].long()
        # The padding's id lies outside the embedding table.
        ids = observations["input_ids"].long() * mask
        hidden = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]


class FirstMinibatches(DictRolloutBuffer):
    """The stock buffer, cut short after `limit` minibatches an epoch (0: not at all).

    One epoch of this set-up takes minutes; a quick look does a part of it, and says so.
    """

    limit = 0

    def get(self, batch_size: int | None = None) -> Generator[DictRolloutBufferSamples, None, None]:
        """Minibatches as the stock buffer yields them."""
        for index, samples in enumerate(super().get(batch_size), start=1):
            yield samples
            if index == self.limit:
                return


class TextbookSB3:
    """Stock PPO behind the interface of a system.

    Args:
        workload: Model, task and sizes of everything.
        seed: Seed of everything that is drawn.
        minibatches: Minibatches of learning done a batch, of the `epochs * minibatches` there
            are; the seconds of learning are scaled up. 0 does all of them.
    """

    def __init__(self, workload: Workload, seed: int, minibatches: int) -> None:
        w = self.workload = workload
        self.scorer = FavouredShare(w)
        tokenizer, prompts = build_tokenizer(w), build_prompts(w)
        environments = DummyVecEnv([lambda: self._environment(tokenizer, prompts)] * w.episodes)
        self.algorithm = stable_baselines3.PPO(
            "MultiInputPolicy",
            environments,
            n_steps=w.new_tokens,
            batch_size=w.minibatch_episodes * w.new_tokens,
            n_epochs=1 if minibatches else w.epochs,
            clip_range=w.clip_range,
            gae_lambda=w.gae_lambda,
            gamma=w.gamma,
            learning_rate=w.learning_rate,
            policy_kwargs={
                "features_extractor_class": LastHiddenState,
                "features_extractor_kwargs": {"workload": w},
                "net_arch": [],
                "ortho_init": False,
            },
            rollout_buffer_class=FirstMinibatches,
            stats_window_size=w.episodes,
            seed=seed,
            device=w.device,
        )
        self.algorithm.rollout_buffer.limit = minibatches
        self.scale = w.epochs * w.minibatches / minibatches if minibatches else 1.0
        self.rollout_clock = Clock(w.device)
        self.algorithm.collect_rollouts = self.rollout_clock.wrap(self.algorithm.collect_rollouts)

    def _environment(self, tokenizer: Any, prompts: list[str]) -> Monitor:
        w = self.workload
        return Monitor(
            llm_gym.TextGenerationEnv(
                tokenizer=tokenizer,
                prompts=prompts,
                scorer=self.scorer,
                max_prompt_tokens=w.prompt_tokens,
                max_new_tokens=w.new_tokens,
                eos_token_id=(),
                vocab_size=w.vocabulary,
            )
        )

    def train_batch(self) -> Batch:
        """One iteration of `learn`."""
        tokens = self.workload.tokens_per_batch
        self.algorithm.learn(tokens, reset_num_timesteps=False)
        finished = [episode["r"] for episode in self.algorithm.ep_info_buffer]
        return Batch(tokens, sum(finished) / len(finished), self.scale)


def build(workload: Workload, *, seed: int = 0, minibatches: int = 0) -> TextbookSB3:
    """The system; see `TextbookSB3` for `minibatches`."""
    return TextbookSB3(workload, seed, minibatches)
