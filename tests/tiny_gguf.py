"""A tiny LLaMA in GGUF, as llama.cpp's converter would write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SPECIAL = ["<unk>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny_llama(**config: Any) -> Any:
    """The model whose weights are in the file."""
    from llm_gym.testing.tiny import tiny_model

    return tiny_model("llama", vocab_size=len(vocabulary()), tie_word_embeddings=True, **config)


def vocabulary() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return [*SPECIAL, *sorted(ByteLevel.alphabet()), "\u0120\u0120", "he", "\u010a\u0120"]


def write_gguf(
    path: Path,
    *,
    pre: str | None = "smollm",
    template: str | None = TEMPLATE,
    kind: str | None = None,
    architecture: str = "llama",
    leave_out: str = "",
    metadata: dict[str, Any] | None = None,
    tokens: list[str] | None = None,
    more: dict[str, Any] | None = None,
) -> Any:
    """Writes the file, and returns the model in it.

    Args:
        path: Where to.
        pre: How text is split, in llama.cpp's words.
        template: The chat template.
        kind: Quantisation of the matrices, in gguf's words; None is float32.
        architecture: What the file calls it.
        leave_out: A tensor that is not written.
        metadata: Numbers that take the place of the true ones, by key.
        tokens: Others than `vocabulary()`.
        more: Further tensors by name.
    """
    gguf = pytest.importorskip("gguf", reason="GGUF files need gguf")
    model = tiny_llama()
    config = model.config
    numbers = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "rope.dimension_count": config.hidden_size // config.num_attention_heads,
    }
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name("Tiny \x1b[31mLLaMA")
    writer.add_license("apache-2.0")
    for key, value in {**numbers, **(metadata or {})}.items():
        writer.add_uint32(key if key.startswith("split") else f"{architecture}.{key}", value)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    _add_tokenizer(writer, pre, template, tokens or vocabulary())
    for name, weights in _tensors(model):
        if name == leave_out:
            continue
        if kind is not None and weights.ndim == 2:
            quantised = gguf.GGMLQuantizationType[kind]
            packed = gguf.quants.quantize(weights, quantised)
            writer.add_tensor(name, packed, raw_dtype=quantised)
        else:
            writer.add_tensor(name, weights)
    for name, weights in (more or {}).items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _add_tokenizer(writer: Any, pre: str | None, template: str | None, tokens: list[str]) -> None:
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges(["\u0120 \u0120", "h e", "\u010a \u0120"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(3)  # the text's end; the turn's is the template's to say
    writer.add_unk_token_id(0)
    if template is not None:
        writer.add_chat_template(template)


_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _tensors(model: Any) -> Any:
    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    for name, parameter in model.named_parameters():
        weights = parameter.detach().numpy()
        place = name.removesuffix(".weight").replace("model.layers.", "blk.")
        for theirs, ours in _NAMES.items():
            place = place.replace(theirs, ours)
        for projection, number in heads.items():
            if projection in name:  # llama.cpp rotates neighbours, transformers halves
                rows, width = weights.shape
                parts = weights.reshape(number, 2, rows // number // 2, width)
                weights = parts.swapaxes(1, 2).reshape(rows, width).copy()
        yield f"{place}.weight", weights
