"""The settings of the whole road, and those of each stage that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, TypeVar

from llm_gym.feedback.preferences.files import held_out_prompts
from llm_gym.feedback.reward_model.comparisons import RewardModelConfig
from llm_gym.feedback.reward_model.fitting import MINIMUM
from llm_gym.files.ranges import POSITIVE, Range, check_settings
from llm_gym.files.settings import config_from, setting
from llm_gym.language_models.loading import torch_device
from llm_gym.language_models.model_objects import named
from llm_gym.stages.by_name import PromptsConfig
from llm_gym.stages.compare import CompareConfig
from llm_gym.stages.train import TrainConfig
from llm_gym.supervised.loop import check_dtype
from llm_gym.supervised.lora import LoraSettings, check_base
from llm_gym.supervised.pretrain import PretrainConfig
from llm_gym.supervised.sft import SFTConfig

STAGES = ("pretrain", "sft", "compare", "reward-model", "ppo")
"""Names of the stages, in their order; each is also the command that does the same by itself."""

LEAST_HELD_OUT = 8
"""Fewest prompts to measure on: the fewest of `llm_gym.feedback.diagnostics`, too."""

_PREFIXES: dict[type, str] = {
    PretrainConfig: "pretrain_",
    SFTConfig: "sft_",
    RewardModelConfig: "reward_",
}

_PRAISED = 0.2  # of the generated answers, so that raters who like flattery are offered some

HELD_OUT_VOTES = 0.2
"""Share of the prompts whose votes the reward model is measured on."""

_CLASS: Mapping[str, Any] = MappingProxyType(
    {
        "start_from": "llm_gym/email-base",
        "praise_share": 0.2,  # so that a class may see whether it likes to be flattered
        "train_prompts": 150,
        "pairs_per_prompt": 2,
        "votes_per_comparison": 1,
        "reward_learning_rate": 1e-3,  # of a few hundred votes there are few steps
        "reward_batch_size": 8,
        "total_tokens": 40_000,
    }
)
_QUICK: Mapping[str, Any] = MappingProxyType(
    {
        "start_from": "llm_gym/email-sft",
        "generated_pairs": 160,
        "sft_learning_rate": 5e-4,
        "train_prompts": 64,
        "held_out_prompts": 32,
        "pairs_per_prompt": 2,
        "votes_per_comparison": 1,
        "reward_learning_rate": 1e-3,
        "reward_batch_size": 8,
        "total_tokens": 7_680,
        "num_envs": 32,
        "batch_size": 512,
        "learning_rate": 2e-4,
        "shown_prompts": 3,
    }
)

Stage = TypeVar("Stage", PretrainConfig, SFTConfig, CompareConfig, RewardModelConfig, TrainConfig)


@dataclass(frozen=True)
class RLHFConfig(PromptsConfig, LoraSettings):
    """Everything that determines a run of `rlhf`.

    A setting is that of every stage that has one of the same name; with `pretrain_`, `sft_` or
    `reward_` before the name it is that of this stage alone (see `config_of`). A LoRA adapter is
    begun by fine-tuning; reward model and PPO go on with that one, on the same base.
    """

    start_from: str | None = setting(
        None, "model to start from, by name or directory, not pre-training one"
    )
    text: str | None = setting(None, "file of text to pre-train on; default: generated")
    pairs: str | None = setting(None, "file of instructions with answers; default: generated")
    prompts: str | None = setting(None, "file of prompts; default: those of the pairs")
    prompt_template: str | None = setting(
        None, "text around {prompt}, in every stage; default: the chat template, or the bare prompt"
    )
    documents: int = setting(24_000, "generated documents, if no text is given")
    vocab_size: int = setting(1024, "tokens of the vocabulary")
    context: int = setting(160, "tokens that the model can read")
    width: int = setting(96, "size of the model's hidden states")
    layers: int = setting(3, "transformer blocks")
    heads: int = setting(4, "attention heads of each")
    pretrain_steps: int = setting(800, "gradient steps on the text")
    pretrain_batch_size: int = setting(12, "blocks of text per step")
    pretrain_learning_rate: float = setting(3e-3, "peak step size of pre-training", POSITIVE)
    generated_pairs: int = setting(9_000, "generated pairs, if none are given")
    praise_share: float | None = setting(
        None,
        "share of the generated answers that praise the reader; default: 0.2 if raters like "
        "flattery, else 0",
    )
    sft_epochs: int = setting(1, "passes over the pairs")
    sft_batch_size: int = setting(32, "pairs per step")
    sft_learning_rate: float = setting(2e-3, "peak step size of fine-tuning", POSITIVE)
    train_prompts: int = setting(400, "most prompts to compare answers to and to train on")
    held_out_prompts: int = setting(
        128,
        "most prompts that only measure; of a file at most a fifth",
        Range(LEAST_HELD_OUT, whole=True),
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
    reward_learning_rate: float = setting(3e-4, "peak step size of the reward model", POSITIVE)
    total_tokens: int = setting(80_000, "tokens to generate in PPO")
    num_envs: int = setting(64, "answers written at the same time")
    batch_size: int = setting(
        1024,
        "tokens per gradient step of PPO",
        Range(2, whole=True, note="it whitens their advantages"),
    )
    n_epochs: int = setting(4, "passes over each rollout")
    learning_rate: float = setting(1.5e-4, "step size of PPO", POSITIVE)
    micro_batch_size: int | None = setting(
        None,
        "examples of a gradient step in memory at a time, at every stage; default: all; the result "
        "is the same",
    )
    gradient_checkpointing: bool = setting(
        False, "keep less of PPO's updates in memory, and compute the model's layers twice"
    )
    dtype: str = setting(
        "float32",
        "type of the weights of every model but the pre-trained one: float32 or bfloat16",
    )
    kl_coef: float = setting(0.15, "penalty per nat of divergence from the fine-tuned model")
    kl_target: float | None = setting(None, "nats per answer that the penalty steers to")
    checkpoint_every: int = setting(2, "iterations between two checkpoints of PPO")
    look_every: int = setting(2, "iterations between two measurements on held-out prompts")
    shown_prompts: int = setting(6, "held-out prompts whose answers the report shows")
    seed: int = setting(0, "seed of everything random")
    device: str = setting("cpu", "where the models run: cpu, cuda or auto")

    def __post_init__(self) -> None:
        object.__setattr__(self, "start_from", named(self.start_from, "start_from"))
        check_settings(self, prefixes=_PREFIXES.values())
        super().__post_init__()
        LoraSettings.__post_init__(self)
        check_dtype(self.dtype)
        if self.start_from is not None:
            check_base(self, self.start_from, name="start_from")
        self.check_votes(self.train_prompts)
        if self.start_from is None and self.max_new_tokens >= self.context:
            raise ValueError(
                f"max_new_tokens={self.max_new_tokens} leaves no room for a prompt in "
                f"context={self.context}; lower it or raise context"
            )
        if self.start_from is not None and self.text is not None:
            raise ValueError(
                f"text={self.text!r} is for pre-training, and start_from={self.start_from!r} skips "
                "it; give one of them"
            )
        if self.praise_share is not None and self.pairs is not None:
            raise ValueError(
                f"praise_share={self.praise_share} is for generated pairs, and "
                f"pairs={self.pairs!r} names others; give one of them"
            )
        # What the stages themselves refuse is said before the first of them begins.
        self.config_of(PretrainConfig), self.config_of(SFTConfig)
        self.config_of(CompareConfig), self.config_of(RewardModelConfig)
        self.config_of(TrainConfig)

    @classmethod
    def quick(cls, **named: Any) -> RLHFConfig:
        """Sizes that show the road and a gain at its end in about half a minute.

        From the embedded fine-tuned model; what it can reach takes more of everything.

        Args:
            **named: Settings that are to differ from these.
        """
        return cls._sized(_QUICK, named)

    @classmethod
    def for_class(cls, **named: Any) -> RLHFConfig:
        """Sizes for a class: 300 comparisons with one vote each, and four minutes of computing.

        Args:
            **named: Settings that are to differ, `raters="people"` above all.
        """
        return cls._sized(_CLASS, named)

    @classmethod
    def _sized(cls, sizes: Mapping[str, Any], named: Mapping[str, Any]) -> RLHFConfig:
        values = {**sizes, **named}
        if named.get("text") is not None and "start_from" not in named:
            values["start_from"] = None  # whoever brings text wants it read
        if named.get("pairs") is not None and "praise_share" not in named:
            values["praise_share"] = None
        return cls(**values)

    def config_of(self, stage: type[Stage], **more: Any) -> Stage:
        """The settings of a stage: by name, those of its own (`sft_epochs`) before those of all.

        Args:
            stage: Class of the settings, of which every field takes the value of the run's setting
                with the stage's prefix and the same name, else with the same name.
            **more: What follows from no setting of the run, or must differ from it.
        """
        values = vars(self) | {"device": self.torch_device}
        if stage is RewardModelConfig:  # PPO finds the words that a linear reward pays for
            values["head"] = "finetune"
        if stage is not SFTConfig:  # what comes after goes on with the adapter that it leaves
            values |= {part.name: part.default for part in fields(LoraSettings)}
        return config_from(stage, values, prefix=_PREFIXES.get(stage, ""), **more)

    def check_votes(self, prompts: int) -> None:
        """Refuses settings under which a reward model may have too few votes to learn from.

        Args:
            prompts: How many prompts are compared, at most.

        Raises:
            ValueError: There are, or are enough, fewer than that takes whichever prompts are held
                out.
        """
        a_prompt = self.pairs_per_prompt * self.votes_per_comparison
        least = _least_votes(a_prompt)
        most = prompts * a_prompt
        what = f"{prompts} prompts with {a_prompt} votes each give {most} votes"
        advice = "raise train_prompts, pairs_per_prompt or votes_per_comparison"
        if self.enough_votes is not None and self.enough_votes < most:
            most, what = self.enough_votes, f"enough_votes={self.enough_votes} is too few"
            advice = f"take at least {least}"
        if most < least:
            raise ValueError(
                f"{what}: a reward model learns from {MINIMUM} at least, whichever "
                f"{HELD_OUT_VOTES:.0%} of the prompts are held out to measure it, which takes "
                f"{least} votes; {advice}"
            )

    def with_values(self, **values: Any) -> RLHFConfig:
        """A copy with other values of some fields."""
        return replace(self, **values)

    @property
    def praised(self) -> float:
        """`praise_share`, and what None is with these raters."""
        if self.praise_share is not None:
            return self.praise_share
        return _PRAISED if self.flattery_bias else 0.0

    @property
    def torch_device(self) -> str:
        """Where every model runs, the reward model too: `device`, and what "auto" is here."""
        return torch_device(self.device)


def _least_votes(a_prompt: int) -> int:
    """Fewest votes of which a reward model can learn, however they lie on the prompts.

    Args:
        a_prompt: Most votes on the comparisons of one prompt.
    """

    def left(votes: int, prompts: int) -> int:
        held_out = held_out_prompts(prompts, HELD_OUT_VOTES)
        # At worst those held out have all their votes, and the others have one each.
        return max(votes - held_out * a_prompt, prompts - held_out)

    votes = a_prompt + 1  # fewer could all be on one prompt, of which none can be held out
    while min(left(votes, prompts) for prompts in range(2, votes + 1)) < MINIMUM:
        votes += 1
    return votes
