"""Tiny random classifiers and reward models, with word tokenizers, made in memory."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
)

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "<eos>"] + [f"w{i}" for i in range(27)]


def tokenizer_for(style, **options):
    core = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = WhitespaceSplit()
    if style == "bert":
        core.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
        )
    inputs = ["input_ids", "attention_mask"] + ["token_type_ids"] * (style == "bert")
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", model_input_names=inputs, **options
    )


def bert(labels=3, **options):
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.5,
        num_labels=labels,
        pad_token_id=0,
        **options,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BertForSequenceClassification(config)


def reward_model(pad_token_id=0, **options):
    config = GPT2Config(
        vocab_size=len(WORDS),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        initializer_range=0.5,
        num_labels=1,
        pad_token_id=pad_token_id,
        bos_token_id=None,
        eos_token_id=4,
        **options,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return GPT2ForSequenceClassification(config)


def save_classifier(directory):
    """Three labels: rude, neutral, polite."""
    bert(id2label={0: "rude", 1: "neutral", 2: "polite"}).save_pretrained(directory)
    tokenizer_for("bert", pad_token="[PAD]").save_pretrained(directory)


def save_reward_model(directory):
    """One label, a decoder."""
    reward_model().save_pretrained(directory)
    tokenizer_for("gpt", pad_token="[PAD]", eos_token="<eos>").save_pretrained(directory)
