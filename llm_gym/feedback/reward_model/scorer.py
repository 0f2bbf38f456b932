"""A reward model as a scorer that reads its texts exactly as they were read in training.

How prompt and answer become the model's input, and which tokenizer that was, stands in the model's
`config.json`, so that it goes wherever `save_pretrained` takes the model.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.feedback.reward_model.rewards import rewards_of
from llm_gym.feedback.reward_model.words import WordWeights, load_words
from llm_gym.files import schema
from llm_gym.language_models.adapter_files import read_object
from llm_gym.language_models.chat import plain_text
from llm_gym.language_models.classifier_adapters import CONFIG
from llm_gym.language_models.loading import DTYPES
from llm_gym.scorers.classifier import Row, SequenceClassifierScorer, check_template
from llm_gym.scorers.protocol import Columns

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEAD = "reward_head.json"
"""File of a directory whose model is a trunk with a linear head (`pooled.PooledRewardModel`)."""

RECORD = "llm_gym_reward_model"
"""Name of the record in the model's configuration."""

DTYPE = "dtype"
"""Key of the record: type in which the weights are read that were not trained."""

# Upper case, accents, digits, punctuation, two spaces, a line break, an emoji: what tokenizers of
# one vocabulary may still treat differently.
_PROBE = "Hello  wörld, it's 2026!\n\tCAN you?  <|x|> 🙂"


class RewardModelScorer(SequenceClassifierScorer):
    """Scores answers with a reward model that `llm_gym.feedback.reward_model` trained.

    The same numbers come from `SequenceClassifierScorer(directory, template=...)` with the recorded
    template; this class reads the template, and refuses a tokenizer that is not the model's own.
    A model with a frozen trunk (`pooled.PooledRewardModel`, with or without words beside it) is
    read by this class alone.

    Args:
        model: Directory, hub name, or a loaded model.
        tokenizer: As for `SequenceClassifierScorer`.
        template: "recorded" for the one in the model's configuration; anything else as for
            `SequenceClassifierScorer`.
        **options: Further arguments of `SequenceClassifierScorer`; weights that training left as
            they were are read in the type that they had in it, unless `dtype` says another.

    Raises:
        ValueError: The model cannot be loaded, carries no record, or the tokenizer is another.
        TypeError: A loaded model without a tokenizer.
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        template: str | None = "recorded",
        **options: Any,
    ) -> None:
        recorded = template == "recorded"
        self.words: WordWeights | None = None
        words = None
        if isinstance(model, (str, Path)):
            options.setdefault("dtype", recorded_dtype(model))
            if (Path(model) / HEAD).is_file():
                words = load_words(model)
                model, tokenizer = _load_pooled(model, tokenizer, options["dtype"])
        super().__init__(
            model, tokenizer=tokenizer, template=None if recorded else template, **options
        )
        self.words = words
        record: dict[str, Any] | None = getattr(self.model.config, RECORD, None)
        if record is None:
            if not recorded:
                return
            raise ValueError(
                f"model {self.name!r} was not trained by llm_gym.feedback.reward_model: its "
                "configuration does not say how it reads prompt and answer; pass template=None (as "
                "a pair), 'chat' or a format string"
            )
        check = schema.record(
            {
                "template": schema.anything,
                "tokenizer": schema.text,
                "tokens": schema.whole(),
            },
            others=schema.anything,
        )
        check(f"the configuration of reward model {self.name!r}: {RECORD}", record)
        if record["tokenizer"] != tokenizer_fingerprint(self.tokenizer):
            raise ValueError(
                f"the tokenizer ({len(self.tokenizer)} tokens) is not the one that the reward "
                f"model {self.name!r} was trained with ({record['tokens']} tokens): the same text "
                "would become other ids, and the rewards nonsense; use the tokenizer saved with it"
            )
        if recorded:
            try:
                check_template(record["template"], self.tokenizer)
            except ValueError as error:
                raise ValueError(
                    f"the configuration of reward model {self.name!r}: {RECORD}: {error}"
                ) from error
            self.template = record["template"]

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> np.ndarray:
        """Rewards of texts, of their words included. See `Scorer.compute`."""
        if getattr(self.model, "reads_nothing", False):
            values = np.full(len(completions), self.model.score.bias.item())
        else:
            values = super().compute(prompts, completions, columns)
        return values if self.words is None else values + self.words(completions)

    def rewards(
        self, prompts: Sequence[str], completions: Sequence[str], rows: Sequence[Row] | None = None
    ) -> NDArray[np.float64]:
        """Rewards of N texts, many at a time, float64 `(N,)`.

        Args:
            prompts: N prompts.
            completions: N answers.
            rows: What `encode` made of them, if it is known.
        """
        rows = self.encode(prompts, completions) if rows is None else rows
        values = rewards_of(self.model, rows)
        return values if self.words is None else values + self.words(completions)

    def lengths(self, prompts: Sequence[str], completions: Sequence[str]) -> list[int]:
        """Tokens of each of B texts before anything is cut off; the arguments are `encode`'s."""
        whole = copy.copy(self)
        whole.max_length = None
        return [len(row["input_ids"]) for row in whole.encode(prompts, completions)]

    def encode(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Row]:
        """Makes the model's input: ids without padding, cut to `max_length` from the left.

        Args:
            prompts: B prompts.
            completions: B answers.

        Returns:
            B rows, each with `input_ids`, `attention_mask` and what else the model takes.
        """
        pairs = list(zip(prompts, completions, strict=True))
        if self.template is None or self.template == "chat" or not pairs:
            rows = [self._encode(*pair) for pair in pairs]
            self.check_ends(rows)
            return rows
        # All at once is many times as fast, and gives the same.
        texts = [
            self.template.format(prompt=plain_text(prompt), completion=completion)
            for prompt, completion in pairs
        ]
        table = self.tokenizer(
            texts,
            truncation=self.max_length is not None,
            max_length=self.max_length,
            return_attention_mask=True,
            verbose=False,
        )
        keys = [key for key in table if key in self._inputs]
        rows = [{key: table[key][row] for key in keys} for row in range(len(pairs))]
        rows = [self._with_one_bos(row) for row in rows]
        self.check_ends(rows)
        return rows


def recorded_dtype(directory: str | Path) -> str:
    """The type in which a reward model's weights are to be read.

    Args:
        directory: Of the model; of a name on the hub nothing is known, which means float32.

    Raises:
        ValueError: The record names a type that there is not.
    """
    for name in ("config.json", CONFIG):
        path = Path(directory) / name
        if path.is_file():
            record = read_object(path).get(RECORD)
            dtype = record.get(DTYPE, "float32") if isinstance(record, dict) else "float32"
            schema.one_of(*DTYPES)(f"{path}: {RECORD}.{DTYPE}", dtype)
            return str(dtype)
    return "float32"


def _load_pooled(
    directory: str | Path, tokenizer: PreTrainedTokenizerBase | None, dtype: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from llm_gym.feedback.reward_model.pooled import load_pooled
    from llm_gym.language_models import load_tokenizer

    model: Any = load_pooled(directory, dtype)
    return model, tokenizer or load_tokenizer(directory)


def record_of(template: str | None, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What the configuration of a reward model says of its texts.

    Args:
        template: As for `SequenceClassifierScorer`.
        tokenizer: The model's own.
    """
    return {
        "template": template,
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "tokens": len(tokenizer),
    }


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash that differs between tokenizers that read the same text differently.

    Args:
        tokenizer: Its vocabulary, special tokens, chat template and its reading of a probe count.
    """
    ids = tokenizer(_PROBE, _PROBE, truncation=False, verbose=False)["input_ids"]
    special = {name: str(token) for name, token in sorted(tokenizer.special_tokens_map.items())}
    content = [sorted(tokenizer.get_vocab().items()), ids, special, tokenizer.chat_template]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
