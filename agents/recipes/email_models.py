"""Make the models that ship with the package, from nothing: text, tokenizer, base, fine-tuned.

    python agents/recipes/email_models.py --output DIR

writes `DIR/email-base`, `DIR/email-sft` and `DIR/MODEL_CARD.md`. The text comes from the
library's own generator (`llm_gym.polite_email`), the training from `llm_gym.stages`; every random
choice follows from the seed. On the same machine with the same number of threads the weights come
out bit for bit the same.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llm_gym.files.atomic import sha256_of, write_json, write_text
from llm_gym.files.settings import setting
from llm_gym.language_models import PROMPT_TEMPLATE
from llm_gym.polite_email import documents, email_prompts, instruction_pairs
from llm_gym.supervised.pretrain import PretrainConfig, pretrain
from llm_gym.supervised.sft import SFTConfig, fine_tune

__all__ = ["EmailModelsConfig", "build", "main", "model_card", "text_digest"]


@dataclass(frozen=True)
class EmailModelsConfig:
    """All settings of the embedded models."""

    documents: int = setting(85_000, "documents of pre-training text")
    held_out_documents: int = setting(
        1_000, "documents to measure perplexity on, about other topics"
    )
    pairs: int = setting(24_000, "instruction/answer pairs for fine-tuning")
    held_out_pairs: int = setting(600, "pairs to measure on, about other topics")
    prompts: int = setting(128, "held-out prompts to sample answers to")
    max_new_tokens: int = setting(80, "budget of the sampled answers")
    pretraining: PretrainConfig = setting(
        PretrainConfig(weights="float16"), "settings of pre-training"
    )
    fine_tuning: SFTConfig = setting(
        SFTConfig(weights="float16", prompt_template=PROMPT_TEMPLATE), "settings of fine-tuning"
    )


def build(
    output: str | Path,
    config: EmailModelsConfig | None = None,
    *,
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Makes both models and their card.

    Args:
        output: Directory for `email-base`, `email-sft`, `MODEL_CARD.md`, `figures.json`.
        config: Settings; None means those of the shipped models.
        seed: Seed of text, initial weights and orders.
        quiet: No progress bars.

    Returns:
        The figures in the card.
    """
    import torch

    config = config or EmailModelsConfig()
    output = Path(output)
    base, sft = output / "email-base", output / "email-sft"
    base_metrics = pretrain(
        documents("train", config.documents, seed=seed),
        base,
        replace(config.pretraining, seed=seed),
        held_out=documents("test", config.held_out_documents, seed=seed),
        quiet=quiet,
    )
    sft_metrics = fine_tune(
        base,
        instruction_pairs("train", config.pairs, seed=seed),
        sft,
        replace(config.fine_tuning, seed=seed),
        held_out=instruction_pairs("test", config.held_out_pairs, seed=seed),
        quiet=quiet,
    )
    figures = {
        "seed": seed,
        "threads": torch.get_num_threads(),
        "base": base_metrics,
        "sft": sft_metrics,
        "answers": {
            "email-base": _answers(base, config, seed),
            "email-sft": _answers(sft, config, seed),
        },
        "sha256": {
            "email-base": sha256_of(base / "model.safetensors"),
            "email-sft": sha256_of(sft / "model.safetensors"),
            "text": text_digest(seed),
        },
    }
    write_json(output / "figures.json", figures)
    write_text(output / "MODEL_CARD.md", model_card(figures, config))
    return figures


def _answers(directory: Path, config: EmailModelsConfig, seed: int) -> dict[str, float]:
    from email_figures import answer_figures

    from llm_gym.language_models.loading import load_causal_lm, load_tokenizer
    from llm_gym.polite_email.judge import PolitenessScorer

    figures = answer_figures(
        load_causal_lm(directory),
        load_tokenizer(directory),
        email_prompts("test", config.prompts, seed=seed),
        PolitenessScorer(),
        prompt_template=PROMPT_TEMPLATE,
        max_new_tokens=config.max_new_tokens,
        seed=seed,
    )
    return figures._asdict()


def text_digest(seed: int) -> str:
    """SHA-256 of the generator's first documents and pairs.

    It changes when the generator does, and says that models made before are not what the recipe
    makes now.

    Args:
        seed: Seed of the recipe.
    """
    pairs = instruction_pairs("train", 1000, seed=seed)
    text = [*documents("train", 1000, seed=seed), *(f"{p.prompt}\n{p.completion}" for p in pairs)]
    return hashlib.sha256("\0".join(text).encode()).hexdigest()


def model_card(figures: dict[str, Any], config: EmailModelsConfig) -> str:
    """The model card as Markdown.

    Args:
        figures: What `build` measured.
        config: Settings it ran with.
    """
    base, sft, answers = figures["base"], figures["sft"], figures["answers"]
    rows = "\n".join(
        f"| {name} | {a['ended_share']:.1%} | {a['mean_tokens']:.0f} | {a['mean_score']:.1f} "
        f"| {a['score_std']:.1f} | {a['greedy_score']:.1f} | {a['best_score']:.1f} |"
        for name, a in answers.items()
    )
    hashes = "\n".join(f"* `{name}`: `{value}`" for name, value in figures["sha256"].items())
    return _CARD.format(
        parameters=base["parameters"],
        layers=config.pretraining.layers,
        width=config.pretraining.width,
        context=config.pretraining.context,
        vocabulary=config.pretraining.vocab_size,
        documents=config.documents,
        tokens_seen=base["tokens_seen"],
        pairs=config.pairs,
        answer_tokens=sft["answer_tokens"],
        before=base["held_out_perplexity_before"],
        after=base["held_out_perplexity"],
        bits=base["held_out_bits_per_byte"],
        sft_before=sft["held_out_answer_perplexity_before"],
        sft_after=sft["held_out_answer_perplexity"],
        prompts=config.prompts,
        budget=config.max_new_tokens,
        rows=rows,
        base_minutes=base["seconds"] / 60,
        sft_minutes=sft["seconds"] / 60,
        hashes=hashes,
        seed=figures["seed"],
        threads=figures["threads"],
        pretraining=_settings(asdict(config.pretraining)),
        fine_tuning=_settings(asdict(config.fine_tuning)),
    )


def _settings(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if name != "seed")


_CARD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---

# email-base and email-sft

Two language models of {parameters:,} parameters each that ship with llm_gym, so that its examples
run at once and offline. GPT-2 architecture: {layers} layers, width {width}, context {context},
byte-level BPE with {vocabulary} tokens, float16 weights. `email-base` continues text about an
office. `email-sft` answers an instruction ("Write an email to your boss asking for ...") with an
email that is sometimes polite, often neutral or rude: reinforcement learning is to mend that.

## How they were made

    python agents/recipes/email_models.py --output DIR --seed {seed}

1. `llm_gym.polite_email` wrote {documents:,} documents: emails in mixed registers, notes, chats,
   stories, minutes. They contain no instructions.
2. Pre-training: next-token prediction, {tokens_seen:,} tokens seen, {base_minutes:.1f} minutes with
   {threads} CPU threads.
3. Fine-tuning: {pairs:,} instruction/answer pairs, loss on the {answer_tokens:,} tokens of the
   answers only, {sft_minutes:.1f} minutes.

Held-out text and prompts share no combination of request, thing and recipient with the text and
prompts of training. The prompt format is `<|user|>PROMPT<|assistant|>`, the answer ends with
`<|endoftext|>`.

* pre-training: `{pretraining}`
* fine-tuning: `{fine_tuning}`

## Figures

| held-out perplexity per token | before | after |
|---|---|---|
| pre-training, office text | {before:.1f} | {after:.2f} ({bits:.2f} bits per byte) |
| fine-tuning, answers given their prompts | {sft_before:.2f} | {sft_after:.2f} |

Answers to {prompts} held-out prompts, 8 samples each at temperature 1, at most {budget} tokens,
scored from 0 to 100 by `llm_gym.polite_email.judge.PolitenessScorer`:

| model | ended by EOS | tokens | mean score | std | greedy | best of 8 |
|---|---|---|---|---|---|---|
{rows}

SHA-256 of the weights, and of the generator's first 1000 documents and pairs ("text"):

{hashes}

## Use and limits

For teaching, tests and demonstrations of reinforcement learning. The models know the small world of
their generator and nothing else: no facts, one language, one kind of document. `email-sft` insults
the reader now and then, on purpose and mildly. Do not use either to write to people.

Licence: Apache-2.0, like the library. The training text was generated; it contains no data about
real people.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the recipe.

    Args:
        arguments: Without the program's name; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python agents/recipes/email_models.py", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--output", required=True, help="directory to write into")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(arguments)
    figures = build(options.output, seed=options.seed, quiet=options.quiet)
    for name, answers in figures["answers"].items():
        print(name, {key: round(value, 3) for key, value in answers.items()})


if __name__ == "__main__":
    main()
