"""Make the model that ships for this task, from nothing: text, tokenizer, pre-training, tuning.

    python agents/recipes/facts_recipe.py --output DIR

writes `DIR/facts-sft` with its model card. Every random choice follows from the seed; on the same
machine with one thread the weights come out bit for bit the same.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facts_card import model_card
from llm_gym_sycophancy.corpus import conversations, documents

from llm_gym.files.atomic import as_json, sha256_of
from llm_gym.files.owned import add_text
from llm_gym.files.settings import setting
from llm_gym.language_models import PROMPT_TEMPLATE
from llm_gym.supervised.sft import SFTConfig, fine_tune

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["FactsConfig", "build", "main", "text_digest", "word_tokenizer"]

NAME = "facts-sft"


@dataclass(frozen=True)
class FactsConfig:
    """All settings of the embedded model."""

    documents: int = setting(100_000, "documents of pre-training text")
    conversations: int = setting(120_000, "pairs for fine-tuning")
    held_out: int = setting(
        1_000, "pairs to measure the fine-tuning on: other draws of the same world"
    )
    context: int = setting(48, "longest sequence that the model can read")
    width: int = setting(32, "size of the hidden states")
    layers: int = setting(2, "transformer blocks")
    heads: int = setting(4, "attention heads")
    steps: int = setting(2000, "optimiser steps of pre-training")
    batch_size: int = setting(128, "documents per step")
    learning_rate: float = setting(4e-3, "peak of pre-training's cosine schedule")
    fine_tuning: SFTConfig = setting(
        SFTConfig(
            batch_size=64, learning_rate=3e-3, weights="float16", prompt_template=PROMPT_TEMPLATE
        ),
        "settings of fine-tuning",
    )


def word_tokenizer(texts: Iterable[str], *, context: int) -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each word, the space before it included.

    Args:
        texts: All words it shall know; any other becomes `<|unk|>`.
        context: Longest input of the model it is for (`model_max_length`).

    Returns:
        A tokenizer with the special tokens and the chat template of the library's other models.
        Text of known words survives encoding and decoding.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    from llm_gym.supervised.documents import ASSISTANT, END_OF_TEXT, PAD, USER, chat_tokenizer

    split = pre_tokenizers.Split(Regex(r" ?\w+|[^\w\s]"), behavior="isolated")
    special = [END_OF_TEXT, PAD, USER, ASSISTANT, "<|unk|>"]
    parts = (part for text in texts for part in re.split("|".join(map(re.escape, special)), text))
    words = sorted({word for part in parts for word, _ in split.pre_tokenize_str(part)})
    core = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(special + words)}, unk_token="<|unk|>")  # noqa: S106
    )
    core.pre_tokenizer = split
    core.decoder = decoders.Fuse()
    return chat_tokenizer(core, context=context, unk_token="<|unk|>")  # noqa: S106


def build(
    output: str | Path, config: FactsConfig | None = None, *, seed: int = 0, quiet: bool = False
) -> dict[str, Any]:
    """Makes the model and its card.

    Args:
        output: Directory for `facts-sft`.
        config: Settings; None means those of the shipped model.
        seed: Seed of text, initial weights and orders.
        quiet: No progress bars.

    Returns:
        The figures in the card.
    """
    import torch

    from llm_gym.supervised.loop import new_gpt2, save_model

    config = config or FactsConfig()
    started = time.process_time()
    text = documents(config.documents, seed=seed)
    pairs = conversations(config.conversations, seed=seed)
    spoken = [part for pair in pairs for part in (pair.prompt, pair.completion)]
    tokenizer = word_tokenizer([*text, *spoken], context=config.context)
    model = new_gpt2(
        tokenizer,
        context=config.context,
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        seed=seed,
    )
    losses = _pretrain(model, tokenizer, text, config, seed, quiet=quiet)
    target = Path(output) / NAME
    with tempfile.TemporaryDirectory() as scratch:
        save_model(model, tokenizer, Path(scratch), "float32")
        tuned = fine_tune(
            scratch,
            pairs,
            target,
            replace(config.fine_tuning, seed=seed),
            held_out=conversations(config.held_out, seed=seed + 1),
            quiet=quiet,
        )
    figures = {
        "seed": seed,
        "threads": torch.get_num_threads(),
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "pretraining_loss": losses[-1],
        "answer_perplexity": tuned["held_out_answer_perplexity"],
        "cpu_seconds": time.process_time() - started,
        "answers": {split: _answers(target, split) for split in ("train", "test")},
        "sha256": {"weights": sha256_of(target / "model.safetensors"), "text": text_digest(seed)},
        "recipe": asdict(config),
    }
    add_text(target, "metrics.json", as_json(figures))
    add_text(target, "MODEL_CARD.md", model_card(figures))
    return figures


def text_digest(seed: int) -> str:
    """SHA-256 of the first documents and conversations.

    It changes when the text does, and says that a model made before is not what the recipe makes
    now.

    Args:
        seed: Seed of the recipe.
    """
    pairs = (f"{pair.prompt}\n{pair.completion}" for pair in conversations(1000, seed=seed))
    return hashlib.sha256("\0".join([*documents(1000, seed=seed), *pairs]).encode()).hexdigest()


def _answers(directory: Path, split: Any) -> dict[str, float]:
    from llm_gym_sycophancy.measures import policy_figures
    from llm_gym_sycophancy.policies import answer_policy
    from llm_gym_sycophancy.questions import questions_of

    from llm_gym.language_models.loading import load_causal_lm, load_tokenizer

    model, tokenizer = load_causal_lm(directory), load_tokenizer(directory)
    return policy_figures(answer_policy(model, tokenizer, questions_of(split)))._asdict()


def _pretrain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    text: Sequence[str],
    config: FactsConfig,
    seed: int,
    *,
    quiet: bool,
) -> list[float]:
    """Minimises the next-token loss on single documents; returns the thinned loss curve."""
    import torch

    from llm_gym.supervised.loop import IGNORED, TrainingConfig, descend, next_token_loss

    labels = _encoded(tokenizer, text)  # (D, T)
    ids = labels.where(labels != IGNORED, 0)
    generator = torch.Generator().manual_seed(seed)
    batches = [
        torch.randint(len(ids), (config.batch_size,), generator=generator).tolist()
        for _ in range(config.steps)
    ]
    return descend(
        model,
        batches,
        lambda rows: next_token_loss(model(input_ids=ids[rows]).logits, labels[rows]),
        TrainingConfig(learning_rate=config.learning_rate, weight_decay=0.1),
        title="pre-training",
        quiet=quiet,
    )


def _encoded(tokenizer: PreTrainedTokenizerFast, text: Sequence[str]) -> torch.Tensor:
    """Token ids with EOS, padded on the right with `IGNORED`: int64 `(D, T)`."""
    from llm_gym.language_models.packing import IGNORED, pad

    rows = [[*ids, tokenizer.eos_token_id] for ids in tokenizer(list(text))["input_ids"]]
    return pad(rows, IGNORED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the recipe.

    Args:
        arguments: Without the program's name; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python agents/recipes/facts_recipe.py", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--output", required=True, help="directory to write into")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(arguments)
    figures = build(options.output, seed=options.seed, quiet=options.quiet)
    for split, answers in figures["answers"].items():
        print(split, {key: round(value, 4) for key, value in answers.items()})


if __name__ == "__main__":
    main()
