"""Preferences whose truth is known: the answer with more `w1` is better."""

from __future__ import annotations

import random

from tokenizers.processors import TemplateProcessing

from llm_gym.feedback.preferences import Preference
from llm_gym.testing.tiny import save_tiny_model, tiny_tokenizer


def answer(rng, good):
    words = [f"w{rng.randrange(2, 20)}" for _ in range(rng.randrange(3, 8))]
    for _ in range(good):
        words.insert(rng.randrange(len(words) + 1), "w1")
    return " ".join(words)


def preferences(number=120, seed=0, **columns):
    """One comparison on each prompt; the chosen answer has one to three `w1`, the other none."""
    rng = random.Random(seed)
    return [
        Preference(
            f"w{20 + n % 9} w{n % 20} w{n // 20}",
            answer(rng, good=rng.randrange(1, 4)),
            answer(rng, good=0),
            dict(columns),
        )
        for n in range(number)
    ]


def swapped(rows):
    return [Preference(row.prompt, row.rejected, row.chosen, row.columns) for row in rows]


def texts_and_ratings(number=200, seed=0, raters=3):
    """Texts whose rating is their number of `w1`, plus noise of each rater."""
    rng = random.Random(seed)
    counts = [rng.randrange(5) for _ in range(number)]
    texts = [answer(rng, good) for good in counts]
    return texts, [[12 + 3 * good + rng.gauss(0, 1) for _ in range(raters)] for good in counts]


def save_bert(directory, labels=2, with_head=True):
    """A tiny encoder; its tokenizer writes `[CLS]` and `[SEP]` (here `<unk>` and `<eos>`)."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

    config = BertConfig(
        vocab_size=32,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
        num_labels=labels,
        pad_token_id=0,
    )
    kind = BertForSequenceClassification if with_head else BertForMaskedLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind(config).save_pretrained(directory)
    tokenizer = tiny_tokenizer(29)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<unk> $A <eos>",
        pair="<unk> $A <eos> $B:1 <eos>:1",
        special_tokens=[("<unk>", 2), ("<eos>", 1)],
    )
    tokenizer.model_input_names = ["input_ids", "attention_mask", "token_type_ids"]
    tokenizer.save_pretrained(directory)
    return str(directory)


def save_with_pad_as_eos(directory, architecture="gpt2"):
    """As GPT-2 and many others come: the pad token is the end-of-sequence token, or none."""
    path = save_tiny_model(directory, architecture)
    tokenizer = tiny_tokenizer(29)
    tokenizer.pad_token = "<eos>"
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }} {% if m.role == 'assistant' %}<eos>{% endif %}"
        "{% endfor %}"
    )
    tokenizer.save_pretrained(path)
    return path
