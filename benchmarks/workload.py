"""Workloads W and R as data: the model, the prompts, the reward and what every system shares.

A random GPT-2 continues random prompts for a fixed number of tokens; the reward is the share of the
new tokens that lie in a fixed tenth of the vocabulary. In W nothing ends an episode early, so that
every system does exactly the same amount of work. In R prompts differ in length, and so do answers:
whoever samples ends them as often after so many tokens as the embedded model ends its emails
(`end_hazards`). This module needs torch, transformers and tokenizers only: it also runs in the
virtual environments of the peers, where llm_gym is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

TASKS = ("favoured_words", "ragged_words", "polite_email", "real_model")  # see benchmarks/tasks.py

# Every 16th part of 948 emails that `llm_gym/email-sft` wrote to the task's prompts, from 8 to 64.
EMAIL_LENGTHS = (8, 24, 27, 31, 33, 35, 37, 39, 41, 43, 46, 48, 50, 52, 55, 59, 64)
END, PAD = 0, 1  # tokens of "ragged_words"


@dataclass(frozen=True)
class Workload:
    """Everything that is equal for all systems.

    Raises:
        ValueError: The task is unknown, or the episodes cannot be split into whole minibatches or
            groups.
    """

    task: str = "favoured_words"  # one of TASKS; the others bring prompts of their own
    model: str = ""  # directory of the model of "real_model"; the other tasks bring one
    layers: int = 4
    width: int = 256
    heads: int = 4
    vocabulary: int = 4096
    favoured_share: float = 0.1  # of the vocabulary; these tokens earn the reward
    prompts: int = 256  # in the list that all systems draw from
    prompt_tokens: int = 16
    shortest_prompt: int | None = None  # prompts of so many to `prompt_tokens`; None: all the same
    new_tokens: int = 64  # exactly, or at most where answers are ragged
    episodes: int = 32  # per batch, in parallel
    group_size: int = 8  # completions of one prompt, for the systems that work by groups
    epochs: int = 4
    minibatch_episodes: int = 8
    clip_range: float = 0.2
    gae_lambda: float = 0.95
    gamma: float = 1.0
    kl_coef: float = 0.05  # per token, in the reward, against a frozen copy of the start
    learning_rate: float = 1e-4
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuses settings under which the systems would not do the same work."""
        if self.task not in TASKS:
            raise ValueError(f"task={self.task!r} must be one of {', '.join(TASKS)}")
        for name in ("minibatch_episodes", "group_size"):
            size = getattr(self, name)
            if size < 1 or self.episodes % size:
                raise ValueError(
                    f"{name}={size} does not divide episodes={self.episodes}; choose a divisor"
                )

    @property
    def is_ragged(self) -> bool:
        """Whether answers differ in length."""
        return self.task == "ragged_words"

    @property
    def tokens_per_batch(self) -> int:
        """Generated tokens of one batch."""
        return self.episodes * self.new_tokens

    @property
    def minibatches(self) -> int:
        """Minibatches of one epoch."""
        return self.episodes // self.minibatch_episodes

    @property
    def length(self) -> int:
        """Tokens of a finished episode, the prompt included."""
        return self.prompt_tokens + self.new_tokens

    @property
    def favoured(self) -> int:
        """Tokens with an id below this one earn the reward."""
        return round(self.vocabulary * self.favoured_share)

    def as_dict(self) -> dict[str, Any]:
        """The settings, ready for JSON."""
        return asdict(self)


# Shapes of public models with random weights, for machines where W is too small to say much.
MODEL_SIZES: dict[str, dict[str, int]] = {
    "w": {},
    "gpt2-small": {"layers": 12, "width": 768, "heads": 12, "vocabulary": 50257},
    "1b": {"layers": 22, "width": 1920, "heads": 20, "vocabulary": 50257},
}

# The ragged workload: what differs from W.
RAGGED: dict[str, Any] = {
    "task": "ragged_words",
    "prompt_tokens": 48,
    "shortest_prompt": 8,
    "episodes": 64,
    "minibatch_episodes": 16,
}

# W measures speed: its KL penalty of 0.05 a token outweighs a reward of at most 1 an episode. This
# variant can be learnt in 20 batches.
LEARNING_VARIANT: dict[str, float] = {"vocabulary": 64, "kl_coef": 0.001}


def word(token_id: int) -> str:
    """The word of a token; words never contain a space, so decoding is lossless."""
    return f"w{token_id}"


def build_tokenizer(workload: Workload) -> PreTrainedTokenizerFast:
    """A word-level tokenizer; its only special token in W is one that the model cannot sample."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word(token): token for token in range(workload.vocabulary)}
    special = {"<end>": workload.vocabulary}
    if workload.is_ragged:
        special = {"<end>": END, "<pad>": PAD}
        vocabulary = {name: t for name, t in vocabulary.items() if t not in special.values()}
    vocabulary |= special
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))  # noqa: S106, a token
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<end>",  # noqa: S106, a token of text
        pad_token=list(special)[-1],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_prompt_ids(workload: Workload) -> NDArray[np.int64]:
    """Token ids of the prompts, shape `(prompts, prompt_tokens)`, the same for the same seed."""
    rng = np.random.default_rng(workload.seed)
    return rng.integers(workload.vocabulary, size=(workload.prompts, workload.prompt_tokens))


def build_prompts(workload: Workload) -> list[str]:
    """The prompts as text; in R each has as many of its first tokens as chance wants."""
    rows = build_prompt_ids(workload).tolist()
    if workload.shortest_prompt is not None:
        rng = np.random.default_rng(workload.seed)
        lengths = rng.integers(workload.shortest_prompt, workload.prompt_tokens + 1, len(rows))
        # No token that ends or pads.
        rows = [[max(t, PAD + 1) for t in row[:n]] for row, n in zip(rows, lengths, strict=True)]
    return [" ".join(map(word, row)) for row in rows]


def end_hazards(workload: Workload) -> torch.Tensor:
    """How probably an answer ends with each token, if it has got so far: float `(new_tokens,)`."""
    lengths = np.minimum(EMAIL_LENGTHS, workload.new_tokens)
    counts = np.bincount(lengths, minlength=workload.new_tokens + 1)[1:]
    still = counts[::-1].cumsum()[::-1]
    return torch.from_numpy(counts / still)


def build_model(workload: Workload) -> GPT2LMHeadModel:
    """The random GPT-2 of the workload, float32, no dropout, on the workload's device."""
    config = GPT2Config(
        vocab_size=workload.vocabulary,
        n_positions=workload.length,
        n_embd=workload.width,
        n_layer=workload.layers,
        n_head=workload.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(workload.seed)
        model = GPT2LMHeadModel(config)
    return model.to(workload.device)


class FavouredShare:
    """Scorer: the share of a completion's words that are favoured ones.

    It takes what a scorer of llm_gym and a reward function of TRL take, and remembers the mean of
    its last call, which is how a worker learns the reward of a batch from any of them.
    """

    __name__ = "favoured_share"  # TRL names its metrics by it

    def __init__(self, workload: Workload) -> None:
        self._words = frozenset(word(token) for token in range(workload.favoured))
        self.last_mean = float("nan")

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **_: object
    ) -> list[float]:
        """Scores from 0 to 1, one a completion."""
        scores = []
        for completion in completions:
            words = completion.split()
            scores.append(sum(word in self._words for word in words) / max(len(words), 1))
        self.last_mean = sum(scores) / len(scores)
        return scores
