"""Tokenizers of all kinds: byte-level, sentencepiece; with chat templates and without."""

from __future__ import annotations

import pytest

from llm_gym.testing.tiny import tiny_model

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    " {{ m['content'] }}{{ eos_token }}{% else %}[INST] {{ m['content'] }} [/INST]{% endif %}"
    "{% endfor %}"
)
SPECIAL = (
    "<pad>",
    "<s>",
    "</s>",
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
)


def byte_tokenizer(template=None, *, adds_bos=True, adds_eos=False):
    """Byte-level, without a merge."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({t: i for i, t in enumerate([*SPECIAL, *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return finished(core, template, adds_bos, adds_eos)


def metaspace_tokenizer(template=None, *, adds_bos=True, adds_eos=False, scheme="first"):
    """As sentencepiece's: a space is put before a text, and taken from its decoding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = ["▁", *map(chr, range(33, 127)), "\n", "▁cat", "▁the", "▁hi"]
    parts = [(w, -1.0 if len(w) > 1 else -4.0) for w in words]
    pieces = [(token, 0.0) for token in SPECIAL] + parts
    core = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    core.decoder = decoders.Metaspace(prepend_scheme=scheme, split=False)
    return finished(core, template, adds_bos, adds_eos)


def finished(core, template, adds_bos, adds_eos):
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    start, end = "<s> " * adds_bos, " </s>" * adds_eos
    used = [token for token, on in (("<s>", adds_bos), ("</s>", adds_eos)) if on]
    if used:
        core.post_processor = processors.TemplateProcessing(
            single=f"{start}$A{end}", special_tokens=[(t, SPECIAL.index(t)) for t in used]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=list(SPECIAL[3:]),
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


TOKENIZERS = {
    "chatml": lambda: byte_tokenizer(CHATML, adds_bos=False),
    "chatml of a tokenizer that adds BOS": lambda: byte_tokenizer(CHATML),
    "llama": lambda: byte_tokenizer(LLAMA),
    "sentencepiece": lambda: metaspace_tokenizer(MISTRAL),
    "sentencepiece, always a space": lambda: metaspace_tokenizer(MISTRAL, scheme="always"),
    "sentencepiece without a template": metaspace_tokenizer,
    "bytes without a template": byte_tokenizer,
    "EOS appended": lambda: byte_tokenizer(adds_eos=True),
    "EOS appended, sentencepiece": lambda: metaspace_tokenizer(adds_eos=True),
}
everywhere = pytest.mark.parametrize("kind", TOKENIZERS)


def save_model(kind, directory):
    """A tiny model with such a tokenizer; its path."""
    tokenizer = TOKENIZERS[kind]()
    size = len(tokenizer) + 3
    tiny_model("llama", size, max_position_embeddings=256).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def observed(env):
    observation, _ = env.reset(seed=0)
    return observation["input_ids"][observation["attention_mask"].astype(bool)].tolist()
