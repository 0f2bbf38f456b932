"""An encoder from scratch, as an ordinary Hugging Face directory: words, one layer, their mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.real_preferences.settings import Backbone

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, FIRST, LAST, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_backbone(
    texts: Sequence[str], settings: Backbone, seed: int, directory: str | Path
) -> None:
    """Writes tokenizer and untrained model.

    A ModernBERT (Warner et al. 2024, arXiv:2412.13663) with a single layer of local attention, read
    at the mean of its outputs.

    Args:
        texts: Whose words become the vocabulary; no ratings are seen.
        settings: Sizes and spread of the weights, and which words are known.
        seed: Seed of its weights; the global generator is left as it was.
        directory: Receives both as `from_pretrained` reads them.
    """
    import torch
    from transformers import ModernBertConfig, ModernBertForSequenceClassification

    tokenizer = word_tokenizer(texts, settings.fewest, settings.longest)
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.width,
        num_hidden_layers=1,
        layer_types=["sliding_attention"],
        num_attention_heads=max(1, settings.width // 32),
        local_attention=settings.window,
        max_position_embeddings=settings.longest,
        initializer_range=settings.spread,
        norm_eps=settings.norm_eps,
        embedding_dropout=settings.embedding_dropout,
        mlp_dropout=settings.mlp_dropout,
        classifier_pooling="mean",
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        bos_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        eos_token_id=tokenizer.sep_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ModernBertForSequenceClassification(config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def word_tokenizer(texts: Sequence[str], fewest: int, longest: int) -> PreTrainedTokenizerFast:
    """Words and punctuation marks in lower case.

    Args:
        texts: Whose words become the vocabulary.
        fewest: Occurrences of a word, at least.
        longest: Tokens of a text, at most; the rest is cut off.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import NFKC, Lowercase, Sequence
    from tokenizers.pre_tokenizers import Punctuation, WhitespaceSplit
    from tokenizers.pre_tokenizers import Sequence as Splits
    from tokenizers.processors import TemplateProcessing
    from tokenizers.trainers import WordLevelTrainer
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(WordLevel(unk_token=UNKNOWN))
    core.normalizer = Sequence([NFKC(), Lowercase()])
    core.pre_tokenizer = Splits([WhitespaceSplit(), Punctuation()])
    trainer = WordLevelTrainer(
        vocab_size=20_000, min_frequency=fewest, special_tokens=list(SPECIAL), show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    core.post_processor = TemplateProcessing(
        single=f"{FIRST} $A {LAST}",
        pair=f"{FIRST} $A {LAST} $B:1 {LAST}:1",
        special_tokens=[(FIRST, SPECIAL.index(FIRST)), (LAST, SPECIAL.index(LAST))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=FIRST,
        sep_token=LAST,
        mask_token=MASK,
        model_max_length=longest,
    )
