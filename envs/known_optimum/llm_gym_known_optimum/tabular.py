"""A causal language model that is a table: one row of logits for each prefix of a small tree.

Its hidden state after a prefix is the one-hot of that prefix, so that the output layer *is* the
table of logits, and a value head on it is a table of values. Nothing is shared between prefixes:
what an algorithm does to such a model is the algorithm's doing alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    Cache,
    DynamicCache,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

__all__ = ["TabularConfig", "TabularLM", "TabularModel"]


class TabularConfig(PretrainedConfig):
    """Which prefixes the table has rows for.

    Token ids `0 .. n_words - 1` are words; all others end an answer. A prompt is a number
    `0 .. n_prompts - 1` written with `prompt_length` words as its digits.

    Args:
        vocab_size: Number of token ids, words and the others.
        n_words: Number of words.
        answer_length: Most words of an answer; prefixes of up to one word less have a row.
        n_prompts: Number of prompts.
        prompt_length: Words of a prompt.
        **kwargs: Those of every configuration.
    """

    model_type = "llm_gym_tabular"

    def __init__(
        self,
        vocab_size: int = 2,
        n_words: int = 2,
        answer_length: int = 1,
        n_prompts: int = 1,
        prompt_length: int = 1,
        **kwargs: Any,
    ) -> None:
        self.vocab_size, self.n_words = vocab_size, n_words
        self.answer_length, self.n_prompts = answer_length, n_prompts
        self.prompt_length = prompt_length
        self.num_hidden_layers = 1  # what a cache keeps: the tokens themselves
        self.max_position_embeddings = prompt_length + answer_length
        kwargs["tie_word_embeddings"] = False
        super().__init__(**kwargs)

    @property
    def nodes_per_prompt(self) -> int:
        """Prefixes of an answer to one prompt after which a token is chosen."""
        return sum(self.n_words**depth for depth in range(self.answer_length))

    @property
    def hidden_size(self) -> int:
        """Rows of the table."""
        return self.n_prompts * self.nodes_per_prompt


class _TabularBase(PreTrainedModel):
    config_class = TabularConfig
    base_model_prefix = "model"

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)  # uniform
        if isinstance(module, TabularModel):
            nn.init.ones_(module.one)


class TabularModel(_TabularBase):
    """Prefixes to one-hot vectors.

    It reads earlier tokens from a cache like any decoder: what it stores as keys are the tokens.
    """

    def __init__(self, config: TabularConfig) -> None:
        super().__init__(config)
        # The one of "one-hot"; as a buffer it has the model's type and device.
        self.register_buffer("one", torch.ones(1))
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        """One-hot prefixes, float `(B, S, H)`, all zero where the table has no row.

        Args:
            input_ids: int64 `(B, S)`.
            attention_mask: `(B, K)`, zero at tokens that are not there (left padding too), for
                the `K` tokens that end with `input_ids`.
            past_key_values: What was read before.
            use_cache: Make a cache where none is given.
        """
        if past_key_values is None and use_cache:
            past_key_values = DynamicCache()
        tokens = input_ids  # (B, K)
        if past_key_values is not None:
            keys = input_ids[:, None, :, None].to(self.one.dtype)
            tokens = past_key_values.update(keys, keys, 0)[0][:, 0, :, 0].long()
        nodes = prefix_nodes(tokens, attention_mask, self.config)[:, -input_ids.shape[1] :]
        hidden = self.one.new_zeros((*nodes.shape, self.config.hidden_size + 1))
        hidden.scatter_(-1, nodes[..., None], self.one.expand(*nodes.shape, 1))
        return BaseModelOutputWithPast(
            last_hidden_state=hidden[..., 1:],
            past_key_values=past_key_values,
        )


class TabularLM(_TabularBase, GenerationMixin):
    """The table of logits as a causal language model.

    `AutoModelForCausalLM.from_pretrained` loads its directory once
    this module is imported.
    """

    def __init__(self, config: TabularConfig) -> None:
        super().__init__(config)
        self.model = TabularModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The table, as a linear layer."""
        return self.lm_head

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Logits, float `(B, S, V)`; arguments as of `TabularModel.forward`."""
        output = self.model(input_ids, attention_mask, past_key_values, use_cache)
        return CausalLMOutputWithPast(
            logits=self.lm_head(output.last_hidden_state),
            past_key_values=output.past_key_values,
        )


def prefix_nodes(
    tokens: torch.Tensor, visible: torch.Tensor | None, config: TabularConfig
) -> torch.Tensor:
    """The row of the table after every token, counted from 1; 0 where there is none.

    Rows of a prompt come by the length of the prefix, and then by its words read as the digits of
    a number.

    Args:
        tokens: int64 `(B, K)`.
        visible: `(B, K)`, zero at tokens to pass over; `None` is all.
        config: Shape of the table.

    Returns:
        int64 `(B, K)`.
    """
    n_words, prompt_length = config.n_words, config.prompt_length
    offsets = tokens.new_tensor(
        [0] + [n_words**depth for depth in range(config.answer_length)]
    ).cumsum(0)
    prompt = tokens.new_zeros(len(tokens))
    code, count = prompt.clone(), prompt.clone()
    inside = torch.ones_like(prompt, dtype=torch.bool)
    nodes = []
    for column in range(tokens.shape[1]):
        token = tokens[:, column]
        seen = inside if visible is None else visible[:, column].bool()
        in_prompt = count < prompt_length
        prompt = torch.where(seen & in_prompt, prompt * n_words + token, prompt)
        code = torch.where(seen & ~in_prompt, code * n_words + token, code)
        if visible is None:
            inside, count = inside & (token < n_words), count + 1
        else:
            inside, count = inside & (~seen | (token < n_words)), count + seen.long()
        depth = count - prompt_length
        known = inside & (depth >= 0) & (depth < config.answer_length) & (prompt < config.n_prompts)
        row = prompt * config.nodes_per_prompt + offsets[depth.clamp(0, config.answer_length)]
        nodes.append(torch.where(known, row + code + 1, 0))
    return torch.stack(nodes, 1)


AutoConfig.register(TabularConfig.model_type, TabularConfig, exist_ok=True)
AutoModel.register(TabularConfig, TabularModel, exist_ok=True)
AutoModelForCausalLM.register(TabularConfig, TabularLM, exist_ok=True)
