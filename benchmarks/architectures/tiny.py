"""Tiny random models of every causal architecture of `transformers`, from its config class."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

ARCHITECTURES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

VOCABULARY, WINDOW = 48, 6

# Configurations call the same thing by many names; whichever of these one has is set.
_SIZES: dict[int | float | bool, str] = {
    32: "hidden_size n_embd d_model dim embed_dim word_embed_proj_dim model_dim lru_width "
    "embedding_size hidden_size_per_layer_input decoder_hidden_size n_embed emb_dim "
    "output_embedding_size input_embedding_size",
    4: "num_hidden_layers n_layer n_layers num_layers num_blocks decoder_layers encoder_layers "
    "num_decoder_layers num_encoder_layers num_attention_heads n_head n_heads num_heads "
    "decoder_attention_heads encoder_attention_heads attention_heads "
    "num_decoder_attention_heads num_encoder_attention_heads qk_rope_head_dim rotary_dim "
    "num_experts n_routed_experts num_local_experts moe_num_experts mamba_n_heads mamba_num_heads",
    2: "num_key_value_heads num_kv_heads n_head_kv kv_n_heads num_experts_per_tok moe_k "
    "top_k_experts num_experts_per_token moe_topk moe_top_k num_selected_experts eos_token_id "
    "linear_num_key_heads linear_num_value_heads",
    64: "intermediate_size ffn_dim n_inner decoder_ffn_dim encoder_ffn_dim dff dim_ff "
    "feed_forward_size moe_intermediate_size ffn_hidden_size shared_expert_intermediate_size "
    "mlp_hidden_size d_inner moe_shared_expert_intermediate_size block_ff_dim "
    "shared_intermediate_size intermediate_size_mlp max_position_embeddings n_positions n_ctx "
    "max_seq_len seq_length max_sequence_length context_length",
    VOCABULARY: "vocab_size decoder_vocab_size vocab_size_per_layer_input audio_vocab_size",
    WINDOW: "sliding_window window_size sliding_window_size attention_window "
    "attention_chunk_size attention_window_size local_window_size local_attention",
    8: "head_dim kv_channels attention_head_dim d_kv global_head_dim swa_head_dim attn_head_dim "
    "qk_nope_head_dim qk_head_dim v_head_dim swa_v_head_dim mamba_d_state state_size "
    "ssm_state_size linear_key_head_dim linear_value_head_dim chunk_size mamba_chunk_size",
    16: "kv_lora_rank q_lora_rank mamba_d_head mamba_head_dim",
    1: "n_shared_experts num_shared_experts moe_num_shared_experts n_group topk_group bos_token_id "
    "mamba_n_groups n_groups decoder_start_token_id first_k_dense_replace",
    0: "pad_token_id num_kv_shared_layers",
    0.15: "initializer_range init_std",  # larger than usual: errors show
}
_SMALL = {name: size for size, names in _SIZES.items() for name in names.split()} | {
    "is_decoder": True
}
_TEXT_PARTS = ("text_config", "decoder", "generator")
_OTHER_PARTS = ("vision_config", "audio_config", "vq_config", "speech_config")

_LATENT_ATTENTION = {"num_key_value_heads": 4, "head_dim": 4}
# What has to fit together in one architecture.
_OVERRIDES: dict[str, dict[str, Any]] = {
    "dots3_note": {"num_key_value_heads": 4},
    "dots3_note_text": {"num_key_value_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "num_layers": 4},
    "longcat_flash": {"num_key_value_heads": 4, "head_dim": 4, "ffn_hidden_size": 64},
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 8]},
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
    "zamba": {"num_hidden_layers": 12},
    "zamba2": {"num_hidden_layers": 54},
    "zaya": {"num_experts_per_tok": 1},
}


def tiny_config(architecture: str, **overrides: Any) -> Any:
    """A configuration of width 32 and four layers, windows of 6 tokens where there are any."""
    cls = CONFIG_MAPPING[architecture]
    return cls(**_small(cls) | _OVERRIDES.get(architecture, {}) | overrides)


def tiny_model(architecture: str, *, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """A random model of that configuration, in evaluation mode on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(tiny_config(architecture, **overrides)).eval()


def _small(cls: Any) -> dict[str, Any]:
    default = cls()
    present = default.to_dict()
    other_names = getattr(cls, "attribute_map", {})
    kwargs = {
        name: [size] * 4 if isinstance(present.get(name), list) else size
        for name, size in _SMALL.items()
        if name in present or (name in other_names and other_names[name] not in _SMALL)
    }
    if "kv_lora_rank" in present:
        kwargs |= _LATENT_ATTENTION
    for name in (*_TEXT_PARTS, *_OTHER_PARTS):
        part = getattr(default, name, None)
        if hasattr(part, "to_dict"):
            kwargs[name] = _small(type(part)) | {"model_type": part.model_type}
    return kwargs
