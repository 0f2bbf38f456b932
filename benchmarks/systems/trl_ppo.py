"""The last PPO of TRL (1.12, ``trl.experimental.ppo``), in the peers' own environment.

float32 and no gradient checkpointing (its defaults are bfloat16 and checkpointing), a constant
learning rate, and minibatches made so that each of them gets an optimizer step:
``gradient_accumulation_steps`` would merge them into one.
"""

from __future__ import annotations

import copy
import tempfile
from types import SimpleNamespace

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import GPT2ForSequenceClassification, PreTrainedTokenizerBase
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

from benchmarks.systems.base import Clock
from benchmarks.systems.trl_thread import Gate, TrainerInThread
from benchmarks.workload import FavouredShare, Workload, build_model, build_prompts, build_tokenizer

ENDLESS_BATCHES = 1_000_000


class FavouredShareModel(nn.Module):
    """The scorer as the reward model that TRL's PPO insists on; it costs next to nothing.

    TRL reads the reward off a score of the backbone's last hidden state at the last token, so the
    "hidden state" here is the reward itself at every position.
    """

    base_model_prefix = "backbone"

    def __init__(
        self, workload: Workload, tokenizer: PreTrainedTokenizerBase, scorer: FavouredShare
    ) -> None:
        super().__init__()
        self.workload, self.tokenizer, self.scorer = workload, tokenizer, scorer
        self.score = nn.Identity()

    def backbone(self, input_ids: Tensor, **_: object) -> SimpleNamespace:
        """Hidden states (B, T, 1), all of them the score of the row."""
        split = self.workload.prompt_tokens
        prompts = self.tokenizer.batch_decode(input_ids[:, :split])
        scores = self.scorer(prompts, self.tokenizer.batch_decode(input_ids[:, split:]))
        hidden = torch.tensor(scores, device=input_ids.device)[:, None, None]
        return SimpleNamespace(hidden_states=[hidden.expand(*input_ids.shape, 1)])


def build(workload: Workload, *, seed: int = 0) -> TrainerInThread:
    """The system; policy, value model, reference and reward model as TRL wants them."""
    w = workload
    torch.manual_seed(seed)  # the value model's new head
    tokenizer, scorer, gate = build_tokenizer(w), FavouredShare(w), Gate(steps=1)
    model = build_model(w)
    value_config = copy.deepcopy(model.config)
    value_config.num_labels = 1
    value_model = GPT2ForSequenceClassification(value_config)
    value_model.transformer.load_state_dict(model.transformer.state_dict())
    config = PPOConfig(
        output_dir=tempfile.mkdtemp(prefix="trl-ppo-"),
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
    prompts = Dataset.from_dict({"input_ids": tokenizer(build_prompts(w))["input_ids"]})
    trainer = PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=model,
        ref_model=None,
        reward_model=FavouredShareModel(w, tokenizer, scorer),
        value_model=value_model,
        train_dataset=prompts,
        eval_dataset=prompts.select(range(w.episodes)),  # it must have one; it is never read
        callbacks=[gate],
    )
    clock = Clock(w.device)
    ppo_trainer.batch_generation = clock.wrap(ppo_trainer.batch_generation)
    return TrainerInThread(w, scorer, clock, gate, trainer.train)
