"""GPT-2 with a value head in plain PyTorch, as fast as one honestly writes it.

Same architecture and weights as Hugging Face's `GPT2LMHeadModel`, without its generality: no
masks beyond the causal one (all rows are equally long), one preallocated key-value cache, GELU as
one kernel, and no work on positions that nothing depends on.

Shapes: B rows, T positions, H width, V vocabulary, P tokens of the prompt.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2LMHeadModel


class PlainLayer(nn.Module):
    """One block of GPT-2; weights as `(in, out)`, the way the checkpoint has them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.norm_1 = nn.LayerNorm(width)
        self.norm_2 = nn.LayerNorm(width)
        shapes = {"qkv": (width, 3 * width), "out": (width, width)}
        shapes |= {"up": (width, 4 * width), "down": (4 * width, width)}
        for name, (rows, columns) in shapes.items():
            setattr(self, f"{name}_weight", nn.Parameter(torch.empty(rows, columns)))
            setattr(self, f"{name}_bias", nn.Parameter(torch.empty(columns)))

    def forward(self, hidden: Tensor, first: int = 0) -> Tensor:
        """Full pass over `hidden` (B, T, H); returns positions `first` to T only.

        The last layer needs keys and values of the prompt, but no outputs there.
        """
        batch, length, width = hidden.shape
        projected = self._linear("qkv", self.norm_1(hidden))  # (B, T, 3H)
        query, key, value = self._heads(projected)  # each (B, heads, T, H / heads)
        if first:
            keep = torch.ones(length - first, length, dtype=torch.bool, device=hidden.device)
            attended = F.scaled_dot_product_attention(
                query[:, :, first:], key, value, attn_mask=keep.tril(first)
            )
            hidden = hidden[:, first:]
        else:
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self._finish(hidden, attended.transpose(1, 2).reshape(batch, -1, width))

    def prefill(self, hidden: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """As `forward`, and stores keys and values: (B, heads, H / heads, T) and (.., T, ..)."""
        batch, length, width = hidden.shape
        query, key, value = self._heads(self._linear("qkv", self.norm_1(hidden)))
        keys[..., :length] = key.transpose(2, 3)
        values[:, :, :length] = value
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self._finish(hidden, attended.transpose(1, 2).reshape(batch, length, width))

    def step(self, hidden: Tensor, position: int, keys: Tensor, values: Tensor) -> Tensor:
        """One new token a row: `hidden` (B, H) at `position`, cache as in `prefill`."""
        batch, width = hidden.shape
        projected = torch.addmm(self.qkv_bias, self.norm_1(hidden), self.qkv_weight)
        query, key, value = projected.view(batch, 3, self.heads, 1, -1).unbind(1)
        keys[..., position] = key.squeeze(2)
        values[:, :, position] = value.squeeze(2)
        scores = query @ keys[..., : position + 1]  # (B, heads, 1, position + 1)
        scores.mul_((width // self.heads) ** -0.5)
        attended = scores.softmax(-1) @ values[:, :, : position + 1]
        return self._finish(hidden, attended.view(batch, width))

    def _heads(self, projected: Tensor) -> tuple[Tensor, ...]:
        batch, length, _ = projected.shape
        split = projected.view(batch, length, 3, self.heads, self.width // self.heads)
        return split.permute(2, 0, 3, 1, 4).unbind(0)

    def _finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        hidden = hidden + self._linear("out", attended)
        inner = F.gelu(self._linear("up", self.norm_2(hidden)), approximate="tanh")
        return hidden + self._linear("down", inner)

    def _linear(self, name: str, value: Tensor) -> Tensor:
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        flat = torch.addmm(bias, value.reshape(-1, weight.shape[0]), weight)
        return flat.view(*value.shape[:-1], -1)


class PlainGPT2(nn.Module):
    """GPT-2 with tied embeddings, and a zero-initialised value head on the shared trunk."""

    def __init__(
        self, vocabulary: int, positions: int, width: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(vocabulary, width))
        self.positions = nn.Parameter(torch.empty(positions, width))
        self.layers = nn.ModuleList(PlainLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.value_weight = nn.Parameter(torch.zeros(width))
        self.value_bias = nn.Parameter(torch.zeros(()))
        self.heads = heads

    @classmethod
    def from_transformers(cls, model: GPT2LMHeadModel) -> PlainGPT2:
        """A copy of the weights of `model`."""
        config, source = model.config, model.transformer
        plain = cls(
            config.vocab_size, config.n_positions, config.n_embd, config.n_layer, config.n_head
        ).to(model.device)
        pairs = [(plain.tokens, source.wte.weight), (plain.positions, source.wpe.weight)]
        norms = [(plain.norm, source.ln_f)]
        for layer, block in zip(plain.layers, source.h, strict=True):
            norms += [(layer.norm_1, block.ln_1), (layer.norm_2, block.ln_2)]
            parts = {"qkv": block.attn.c_attn, "out": block.attn.c_proj}
            parts |= {"up": block.mlp.c_fc, "down": block.mlp.c_proj}
            for name, part in parts.items():
                pairs.append((getattr(layer, f"{name}_weight"), part.weight))
                pairs.append((getattr(layer, f"{name}_bias"), part.bias))
        for target, origin in norms:
            pairs += [(target.weight, origin.weight), (target.bias, origin.bias)]
        with torch.no_grad():
            for target, origin in pairs:
                target.copy_(origin)
        return plain

    def new_cache(self, rows: int, length: int) -> list[tuple[Tensor, Tensor]]:
        """Keys (B, heads, H / heads, T) and values (B, heads, T, H / heads) of each layer."""
        size = self.tokens.shape[1] // self.heads
        empty = self.tokens.new_empty
        return [
            (empty(rows, self.heads, size, length), empty(rows, self.heads, length, size))
            for _ in self.layers
        ]

    def forward(self, ids: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Logits (B, T - first, V) and values (B, T - first) after positions `first` to T.

        Args:
            ids: Token ids, int64 (B, T), all rows equally long.
            first: Earlier positions get no logits and no values.
        """
        hidden = self.tokens[ids] + self.positions[: ids.shape[1]]
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden, first if index == last else 0)
        return self._read(self.norm(hidden))

    def prefill(self, ids: Tensor, cache: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Reads the prompts `ids` (B, P); logits (B, V) and values (B,) after their last token."""
        hidden = self.tokens[ids] + self.positions[: ids.shape[1]]
        for layer, (keys, values) in zip(self.layers, cache, strict=True):
            hidden = layer.prefill(hidden, keys, values)
        return self._read(self.norm(hidden[:, -1]))

    def step(
        self, ids: Tensor, position: int, cache: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Reads one token a row, `ids` (B,), at `position`; logits (B, V) and values (B,)."""
        hidden = self.tokens[ids] + self.positions[position]
        for layer, (keys, values) in zip(self.layers, cache, strict=True):
            hidden = layer.step(hidden, position, keys, values)
        return self._read(self.norm(hidden))

    def _read(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        flat = hidden.reshape(-1, hidden.shape[-1])
        logits = (flat @ self.tokens.t()).view(*hidden.shape[:-1], -1)
        return logits, hidden @ self.value_weight + self.value_bias
