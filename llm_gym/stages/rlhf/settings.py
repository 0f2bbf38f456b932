"""The settings of the whole road, and those of each stage that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from llm_gym.feedback.reward_model.comparisons import RewardModelConfig
from llm_gym.files.settings import setting
from llm_gym.language_models import PROMPT_TEMPLATE
from llm_gym.language_models.loading import torch_device
from llm_gym.stages.compare import CompareConfig
from llm_gym.stages.train import TrainConfig
from llm_gym.supervised.pretrain import PretrainConfig
from llm_gym.supervised.sft import SFTConfig

__all__ = ["LEAST_HELD_OUT", "RLHFConfig"]

LEAST_HELD_OUT = 8
"""Fewest prompts to measure on: the fewest of `llm_gym.feedback.diagnostics`, too."""


@dataclass(frozen=True)
class RLHFConfig:
    """Everything that determines a run of `rlhf`."""

    start_from: str | None = setting(
        None, "model to start from, by name or directory, not pre-training one"
    )
    text: str | None = setting(None, "text to pre-train on, .txt or .jsonl; default: generated")
    pairs: str | None = setting(None, '.jsonl of "prompt" and "completion"; default: generated')
    prompts: str | None = setting(None, ".txt or .jsonl of prompts; default: those of the pairs")
    prompt_template: str = setting(PROMPT_TEMPLATE, "text around {prompt}, in every stage")
    documents: int = setting(24_000, "generated documents, if no text is given")
    vocab_size: int = setting(1024, "tokens of the vocabulary")
    context: int = setting(160, "tokens that the model can read")
    width: int = setting(96, "of the model's hidden states")
    layers: int = setting(3, "transformer blocks")
    heads: int = setting(4, "attention heads of each")
    pretrain_steps: int = setting(800, "gradient steps on the text")
    pretrain_batch_size: int = setting(12, "blocks of text per step")
    pretrain_learning_rate: float = setting(3e-3, "peak step size of pre-training")
    generated_pairs: int = setting(9_000, "generated pairs, if none are given")
    sft_epochs: int = setting(1, "passes over the pairs")
    sft_batch_size: int = setting(32, "pairs per step")
    sft_learning_rate: float = setting(2e-3, "peak step size of fine-tuning")
    train_prompts: int = setting(400, "most prompts to compare answers to and to train on")
    held_out_prompts: int = setting(
        128, "most prompts that only measure; of a file at most a fifth"
    )
    max_new_tokens: int = setting(80, "most tokens of an answer")
    pairs_per_prompt: int = setting(3, "comparisons of each prompt, of two answers each")
    raters: str = setting("simulated", "who compares: simulated, or people (with `llm-gym label`)")
    simulated_raters: int = setting(3, "how many of them there are")
    votes_per_comparison: int = setting(2, "raters who judge each comparison")
    enough_votes: int | None = setting(
        None, "votes of people to go on with; default: all that are wanted"
    )
    true_rater: str = setting(
        "politeness", "the gold score: what simulated raters go by; a scorer's name"
    )
    rater_noise: float = setting(10.0, "scale of their noise, in units of the gold score")
    rater_lapse: float = setting(0.0, "share of their votes that are cast without looking")
    length_bias: float = setting(0.0, "worth of each word to them, in units of the gold score")
    flattery_bias: float = setting(
        0.0, "worth of each flattering word or phrase, in the same units"
    )
    reward_epochs: int = setting(2, "passes over the votes")
    reward_batch_size: int = setting(16, "votes per step")
    reward_learning_rate: float = setting(3e-4, "peak step size of the reward model")
    total_tokens: int = setting(80_000, "tokens to generate in PPO")
    num_envs: int = setting(64, "answers written at the same time")
    batch_size: int = setting(1024, "tokens per gradient step of PPO")
    n_epochs: int = setting(4, "passes over each rollout")
    learning_rate: float = setting(1.5e-4, "step size of PPO")
    kl_coef: float = setting(0.15, "penalty per nat of divergence from the fine-tuned model")
    kl_target: float | None = setting(None, "nats per answer that the penalty steers to")
    checkpoint_every: int = setting(2, "iterations between two checkpoints of PPO")
    look_every: int = setting(2, "iterations between two measurements on held-out prompts")
    shown_prompts: int = setting(6, "held-out prompts whose answers the report shows")
    seed: int = setting(0, "of everything random")
    device: str = setting("cpu", "cpu, cuda or auto")

    def __post_init__(self) -> None:
        least_one = ("documents", "generated_pairs", "train_prompts")
        for name in (*least_one, "total_tokens", "num_envs", "checkpoint_every", "look_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.held_out_prompts < LEAST_HELD_OUT:
            raise ValueError(
                f"held_out_prompts must be at least {LEAST_HELD_OUT}, got {self.held_out_prompts}"
            )
        if self.shown_prompts < 0:
            raise ValueError(f"shown_prompts must be at least 0, got {self.shown_prompts}")
        if self.enough_votes is not None and self.enough_votes < 1:
            raise ValueError(f"enough_votes must be at least 1 or None, got {self.enough_votes}")
        if self.start_from is not None and self.text is not None:
            raise ValueError(
                f"text={self.text!r} is for pre-training, and start_from={self.start_from!r} skips "
                "it; give one of them"
            )
        # What the stages themselves refuse is said before the first of them begins.
        self.pretraining(), self.fine_tuning(), self.comparing(""), self.reward_model("")

    @classmethod
    def quick(cls) -> RLHFConfig:
        """Sizes that show the whole road in half a minute, and nothing of what it can reach."""
        return cls(
            documents=300,
            vocab_size=512,
            context=192,
            width=32,
            layers=2,
            pretrain_steps=30,
            pretrain_batch_size=8,
            generated_pairs=400,
            train_prompts=32,
            held_out_prompts=12,
            max_new_tokens=16,
            pairs_per_prompt=1,
            reward_epochs=1,
            total_tokens=1_536,
            num_envs=16,
            batch_size=128,
            n_epochs=1,
            checkpoint_every=1,
            shown_prompts=3,
        )

    def pretraining(self) -> PretrainConfig:
        """Settings of the first stage."""
        return PretrainConfig(
            vocab_size=self.vocab_size,
            context=self.context,
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            steps=self.pretrain_steps,
            batch_size=self.pretrain_batch_size,
            learning_rate=self.pretrain_learning_rate,
            seed=self.seed,
            device=self.torch_device,
        )

    def fine_tuning(self) -> SFTConfig:
        """Settings of the second stage."""
        return SFTConfig(
            prompt_template=self.prompt_template,
            epochs=self.sft_epochs,
            batch_size=self.sft_batch_size,
            learning_rate=self.sft_learning_rate,
            seed=self.seed,
            device=self.torch_device,
        )

    def comparing(self, model: str) -> CompareConfig:
        """Settings of the third stage; `model` is the fine-tuned one."""
        return CompareConfig(
            model=model,
            max_prompts=self.train_prompts,
            pairs_per_prompt=self.pairs_per_prompt,
            prompt_template=self.prompt_template,
            max_new_tokens=self.max_new_tokens,
            raters=self.raters,
            simulated_raters=self.simulated_raters,
            votes_per_comparison=self.votes_per_comparison,
            true_rater=self.true_rater,
            rater_noise=self.rater_noise,
            rater_lapse=self.rater_lapse,
            length_bias=self.length_bias,
            flattery_bias=self.flattery_bias,
            seed=self.seed,
            device=self.torch_device,
        )

    def reward_model(self, model: str) -> RewardModelConfig:
        """Settings of the fourth stage; `model` is the fine-tuned one."""
        return RewardModelConfig(
            model=model,
            epochs=self.reward_epochs,
            batch_size=self.reward_batch_size,
            learning_rate=self.reward_learning_rate,
            held_out_share=0.2,
            contradictions="keep",
            seed=self.seed,
            device=self.torch_device,
        )

    def training(self, model: str, reward_model: str, prompts: Path) -> TrainConfig:
        """Settings of the fifth stage: the fine-tuned model, and what it is paid by."""
        return TrainConfig(
            model=model,
            scorer=f"reward:{reward_model}",
            prompts=str(prompts),
            prompt_template=self.prompt_template,
            max_new_tokens=self.max_new_tokens,
            total_tokens=self.total_tokens,
            num_envs=self.num_envs,
            batch_size=self.batch_size,
            n_epochs=self.n_epochs,
            learning_rate=self.learning_rate,
            kl_coef=self.kl_coef,
            kl_target=self.kl_target,
            seed=self.seed,
            device=self.device,
            checkpoint_every=self.checkpoint_every,
        )

    def with_values(self, **values: object) -> RLHFConfig:
        """A copy with other values of some fields."""
        return replace(self, **values)  # type: ignore[arg-type]

    @property
    def torch_device(self) -> str:
        """Where every model runs, the reward model too: `device`, and what "auto" is here."""
        return torch_device(self.device)
