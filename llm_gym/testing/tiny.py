"""Tokenizers and randomly initialised models small enough to test on, made in memory.

Nothing here is downloaded. The architectures differ in what usually goes wrong in token-level
reinforcement learning: learned positions (GPT-2, OPT), rotary positions (LLaMA, Qwen, Mistral,
Gemma, GPT-NeoX), ALiBi (Bloom), sliding windows (Mistral, Gemma 2 and 3), soft-capped logits
(Gemma 2), grouped key/value heads (LLaMA, Qwen).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"

#: Keyword arguments of each architecture's configuration, by `model_type`.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "mistral": {"num_key_value_heads": 2, "sliding_window": 6},
    "gemma": {"num_key_value_heads": 1, "head_dim": 8},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6},
    "gemma3_text": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "bloom": {"n_layer": 2, "n_head": 4},
    "gpt_neox": {"rotary_pct": 0.5},
}

_COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_OWN_NAMES = {"gpt2", "bloom"}  # these spell width and depth differently


def tiny_tokenizer(n_words: int = 29, *, with_eos: bool = True) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: `<pad> <eos> <unk> w0 w1 ...`, words separated by spaces.

    Args:
        n_words: Number of ordinary words; the vocabulary has three more entries.
        with_eos: Leave the end-of-sequence token undeclared if false.

    Returns:
        A fast tokenizer whose `decode` is the inverse of `encode` on known words.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = [PAD, EOS, UNK] + [f"w{i}" for i in range(n_words)]
    core = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNK))
    core.pre_tokenizer = WhitespaceSplit()
    special = {"pad_token": PAD, "unk_token": UNK} | ({"eos_token": EOS} if with_eos else {})
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def tiny_model(
    architecture: str = "gpt2", vocab_size: int = 32, *, seed: int = 0, **config: Any
) -> PreTrainedModel:
    """A randomly initialised causal language model of two layers and width 32, on the CPU.

    The initial weights are larger than usual, so that distributions differ visibly from uniform
    and an error in positions or masks shows.

    Args:
        architecture: A key of `ARCHITECTURES`.
        vocab_size: Number of token ids.
        seed: Seed of the weights; the global generator is left as it was.
        **config: Overrides of the configuration.

    Raises:
        ValueError: If the architecture is unknown.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture={architecture!r} is not one of {sorted(ARCHITECTURES)}")
    common = {} if architecture in _OWN_NAMES else dict(_COMMON)
    if architecture == "bloom":
        common["hidden_size"] = 32
    settings = common | ARCHITECTURES[architecture] | {"initializer_range": 0.15} | config
    if architecture == "opt":
        settings["init_std"] = settings.pop("initializer_range")
    ids = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(architecture, vocab_size=vocab_size, **ids, **settings)
        )
    return model.eval()


def save_tiny_model(
    directory: str | Path, architecture: str = "gpt2", vocab_size: int = 32, **kwargs: Any
) -> str:
    """Saves `tiny_model` and a fitting `tiny_tokenizer` and returns the path."""
    directory = Path(directory)
    tiny_model(architecture, vocab_size, **kwargs).save_pretrained(directory)
    tiny_tokenizer(vocab_size - 3).save_pretrained(directory)
    return str(directory)
