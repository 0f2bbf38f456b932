"""The last PPO of TRL (1.12, `trl.experimental.ppo`), in the peers' own environment.

float32 and no gradient checkpointing (its defaults are bfloat16 and checkpointing), a constant
learning rate, and minibatches made so that each of them gets an optimizer step:
`gradient_accumulation_steps` would merge them into one.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

from benchmarks.systems.base import Clock
from benchmarks.systems.trl_ends import end_as_told
from benchmarks.systems.trl_thread import Gate, TrainerInThread
from benchmarks.tasks import Tally, Task, build_task
from benchmarks.workload import Workload

ENDLESS_BATCHES = 1_000_000


class Rewards(nn.Module):
    """The task's scorer where TRL's PPO insists on a reward model; it costs next to nothing.

    Args:
        task: Its tokenizer turns ids back to text.
        tally: The task's scorer; it remembers the mean of a batch.
    """

    def __init__(self, task: Task, tally: Tally) -> None:
        super().__init__()
        self.tokenizer, self.tally = task.tokenizer, tally
        encoded = task.tokenizer(task.prompts)["input_ids"]
        self.instructions = dict(zip(map(tuple, encoded), task.instructions, strict=True))

    def of(self, queries: Tensor, responses: Tensor) -> Tensor:
        """Scores `(B,)` of token ids `(B, P)`, padded on the left, and `(B, T)`."""
        pad = self.tokenizer.pad_token_id
        read = [tuple(token for token in row if token != pad) for row in queries.tolist()]
        written = self.tokenizer.batch_decode(responses, skip_special_tokens=True)
        self.tally.forget()  # one call is one batch
        scores = self.tally([self.instructions[ids] for ids in read], written)
        return torch.tensor(scores, device=queries.device)


def score_texts(rewards: Rewards) -> Callable[..., tuple[Any, Tensor, Any]]:
    """TRL's `get_reward`, but for the reward model, which is asked for scores of texts."""
    get_reward = ppo_trainer.get_reward

    def ask(
        model: nn.Module, query_responses: Tensor, pad_token_id: int, context_length: int
    ) -> tuple[Any, Tensor, Any]:
        if model is not rewards:
            return get_reward(model, query_responses, pad_token_id, context_length)
        queries, responses = query_responses.tensor_split([context_length], dim=1)
        return None, rewards.of(queries, responses), None

    return ask


def build(workload: Workload, *, seed: int = 0) -> TrainerInThread:
    """The system; policy, value model, reference and reward model as TRL wants them."""
    w = workload
    torch.manual_seed(seed)  # the value model's new head
    folder = tempfile.mkdtemp(prefix="trl-ppo-")
    task, gate = build_task(w, folder), Gate(steps=1)
    tokenizer = task.tokenizer
    tokenizer.padding_side = "left"
    rewards = Rewards(task, Tally(task.score))
    model = GPT2LMHeadModel.from_pretrained(task.model, dtype=torch.float32)
    value_config = copy.deepcopy(model.config)
    value_config.num_labels = 1
    value_model = GPT2ForSequenceClassification(value_config)
    value_model.transformer.load_state_dict(model.transformer.state_dict())
    config = PPOConfig(
        output_dir=folder,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=w.device == "cpu",
        seed=seed,
        per_device_train_batch_size=w.episodes,
        gradient_accumulation_steps=1,
        num_mini_batches=w.minibatches,
        local_rollout_forward_batch_size=w.episodes,
        num_ppo_epochs=w.epochs,
        total_episodes=w.episodes * ENDLESS_BATCHES,
        response_length=w.new_tokens,
        stop_token="eos" if w.task == "polite_email" or w.is_ragged else None,
        temperature=1.0,
        kl_coef=w.kl_coef,
        cliprange=w.clip_range,
        gamma=w.gamma,
        lam=w.gae_lambda,
        learning_rate=w.learning_rate,
        lr_scheduler_type="constant",
        num_sample_generations=0,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    prompts = Dataset.from_dict({"input_ids": tokenizer(task.prompts)["input_ids"]})
    trainer = PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=model,
        ref_model=None,
        reward_model=rewards,
        value_model=value_model,
        train_dataset=prompts,
        eval_dataset=prompts.select(range(w.episodes)),  # it must have one; it is never read
        callbacks=[gate],
    )
    if w.is_ragged:
        end_as_told(model, w, seed)
    clock = Clock(w.device)
    ppo_trainer.batch_generation = clock.wrap(ppo_trainer.batch_generation)
    ppo_trainer.get_reward = score_texts(rewards)
    return TrainerInThread(w, rewards.tally, clock, gate, trainer.train)
