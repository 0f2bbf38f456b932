"""What a causal language model is made of, whatever its class: text part, decoder, context.

Models that also see or hear keep what concerns text in a configuration of its own, inside the
outer one (Gemma 3, Llama 4, Qwen 3.5), so `config.vocab_size` is not always there to be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["check_ids", "context_length", "decoder_of", "text_config", "vocabulary_size"]


def text_config(model_or_config: PreTrainedModel | PreTrainedConfig) -> Any:
    """The configuration of the part that reads and writes text, of a model or a configuration."""
    config: Any = getattr(model_or_config, "config", model_or_config)
    return config.get_text_config(decoder=True)


def vocabulary_size(model_or_config: PreTrainedModel | PreTrainedConfig) -> int:
    """Number of token ids that a model reads and writes."""
    return int(text_config(model_or_config).vocab_size)


def context_length(model_or_config: PreTrainedModel | PreTrainedConfig) -> int | None:
    """Most tokens that a model was made for; `None` if its configuration names no limit."""
    limit = getattr(text_config(model_or_config), "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def check_ids(rows: Sequence[Sequence[int]], model: PreTrainedModel, tokenizer: Any) -> None:
    """Checks that a model has an embedding for every token of some rows.

    Args:
        rows: Token ids.
        model: A language model.
        tokenizer: What made the ids.

    Raises:
        ValueError: If tokens were added to the tokenizer and the model was not resized. It names
            the row and the token.
    """
    embeddings: Any = model.get_input_embeddings()
    size = len(embeddings.weight)
    for number, row in enumerate(rows):
        outside = [token for token in row if token >= size]
        if outside:
            word = tokenizer.convert_ids_to_tokens(int(outside[0]))
            raise ValueError(
                f"row {number} has the token {word!r} (id {outside[0]}), but the model has "
                f"embeddings for {size} ids only: tokens were added to the tokenizer and the model "
                f"was not resized. Call model.resize_token_embeddings({len(tokenizer)}) and save "
                "the model again"
            )


def decoder_of(model: PreTrainedModel) -> nn.Module:
    """The transformer below the language-model head.

    Raises:
        ValueError: If the model's class does not say which of its parts that is.
    """
    from transformers import PreTrainedModel

    if model.base_model is not model:
        return model.base_model
    below = [child for child in model.children() if isinstance(child, PreTrainedModel)]
    if len(below) != 1:
        raise ValueError(
            f"{type(model).__name__} does not say which of its parts is the transformer below the "
            "language-model head; this architecture is not supported"
        )
    return below[0]
