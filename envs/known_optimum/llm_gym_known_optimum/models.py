"""Language models on the answer tree: made, named, read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llm_gym_known_optimum.tabular import TabularConfig, TabularLM
from llm_gym_known_optimum.tree import AnswerTree, Layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["REFERENCES", "action_log_probs", "make_reference", "make_tokenizer", "prompt_ids"]

REFERENCES = ("tabular", "transformer")

EOS = "<eos>"
_TOKENS_PER_PASS = 16_384


def make_tokenizer(tree: AnswerTree) -> PreTrainedTokenizerFast:
    """A tokenizer of the words `w0 w1 ...` and, where answers can end early, `<eos>` after.

    It has no padding token: every id is an action. Pass `pad_token_id` to whatever needs one;
    masks say what is padding.

    Args:
        tree: The answers.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = [f"w{i}" for i in range(tree.n_words)] + [EOS] * tree.ends_early
    core = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    core.pre_tokenizer = WhitespaceSplit()
    special = {"eos_token": EOS} if tree.ends_early else {}
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def prompt_ids(tree: AnswerTree, n_prompts: int) -> torch.Tensor:
    """Prompts: the numbers from 0 written with words as digits, int64 `(P, prompt length)`."""
    length = max(1, math.ceil(round(math.log(n_prompts, tree.n_words), 9)))
    return torch.from_numpy(tree.words(length)[:n_prompts].copy())


def make_reference(
    kind: str, tree: AnswerTree, n_prompts: int, *, spread: float, seed: int
) -> PreTrainedModel:
    """A reference model with random weights, in evaluation mode.

    Args:
        kind: `"tabular"`: a table of logits, normal with standard deviation `spread`; or
            `"transformer"`: GPT-2 of one layer and width 16 with an output layer of its own (a
            few thousand parameters), which shares what it learns between prefixes.
        tree: The answers.
        n_prompts: P.
        spread: How far the model is from uniform: the logits' standard deviation (over prefixes,
            for the transformer that of the output layer's contributions).
        seed: Seed of the weights; the global generator is left as it was.

    Raises:
        ValueError: The kind is unknown.
    """
    if kind not in REFERENCES:
        raise ValueError(f"reference={kind!r} is not one of {list(REFERENCES)}")
    prompt_length = prompt_ids(tree, n_prompts).shape[1]
    ends: dict[str, Any] = {"eos_token_id": tree.n_words if tree.ends_early else None}
    ends |= {"bos_token_id": None, "pad_token_id": None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "tabular":
            model: Any = TabularLM(
                TabularConfig(
                    vocab_size=tree.n_actions,
                    n_words=tree.n_words,
                    answer_length=tree.length,
                    n_prompts=n_prompts,
                    prompt_length=prompt_length,
                    **ends,
                )
            )
            torch.nn.init.normal_(model.lm_head.weight, std=spread)
        else:
            from transformers import GPT2Config, GPT2LMHeadModel

            width = 16
            model = GPT2LMHeadModel(
                GPT2Config(
                    vocab_size=tree.n_actions,
                    n_positions=prompt_length + tree.length,
                    n_embd=width,
                    n_layer=1,
                    n_head=2,
                    initializer_range=0.3,
                    tie_word_embeddings=False,
                    **ends,
                )
            )
            # What goes into the output layer is normalised: width numbers of size one.
            torch.nn.init.normal_(model.lm_head.weight, std=spread / math.sqrt(width))
    return model.eval()


def action_log_probs(model: Any, tree: AnswerTree, prompts: torch.Tensor) -> Layers:
    """Log-probability of every action after every prefix, by forward passes over the tree.

    The passes run over the longest prefixes, all of them; a shorter one is read off the first row
    that begins with it. Differentiable where gradients are recorded.

    Args:
        model: A causal language model whose vocabulary is the tree's actions, or an
            `llm_gym.TransformerActorCriticPolicy`, whose temperature, top-k and top-p then
            count.
        tree: The answers.
        prompts: int64 `(P, prompt length)`.

    Returns:
        `T` tensors `(P, V^d, A)`, float64.

    Raises:
        ValueError: The vocabulary is another one.
    """
    policy, model = (model, model.model) if hasattr(model, "actor_trunk") else (None, model)
    if model.config.vocab_size != tree.n_actions:
        raise ValueError(
            f"the model's vocabulary has {model.config.vocab_size} tokens, but the problem has "
            f"{tree.n_actions} actions; use the problem's own reference model or one of its size"
        )
    if policy is not None and policy.truncates:
        return tuple(_asked_log_probs(policy, tree, prompts, depth) for depth in range(tree.length))
    temperature = 1.0 if policy is None else policy.temperature
    n_prompts, prompt_length = prompts.shape
    deepest = torch.from_numpy(tree.words(tree.length - 1))  # (V^(T - 1), T - 1)
    width = prompt_length + tree.length - 1
    sequences = torch.cat(
        [prompts[:, None].expand(-1, len(deepest), -1), deepest.expand(n_prompts, -1, -1)], -1
    ).reshape(-1, width)
    wide = max(1, int(getattr(model.config, "hidden_size", 1)) // 64)  # of a large table's one-hots
    rows = max(1, _TOKENS_PER_PASS // (width * wide))
    logits = torch.cat(
        [
            model(input_ids=part, use_cache=False).logits[:, prompt_length - 1 :].double().cpu()
            for part in sequences.to(model.device).split(rows)
        ]
    ).unflatten(0, (n_prompts, -1))  # (P, V^(T - 1), T, A)
    log_probs = (logits / temperature).log_softmax(-1)
    return tuple(
        log_probs[:, :: tree.n_words ** (tree.length - 1 - depth), depth]
        for depth in range(tree.length)
    )


def _asked_log_probs(
    policy: Any, tree: AnswerTree, prompts: torch.Tensor, depth: int
) -> torch.Tensor:
    """What a policy that cuts tokens off says itself, after the prefixes of one layer."""
    said = torch.from_numpy(tree.words(depth))  # (V^d, d)
    read = torch.cat(
        [prompts[:, None].expand(-1, len(said), -1), said.expand(len(prompts), -1, -1)], -1
    ).flatten(0, 1)
    ids = torch.nn.functional.pad(read, (0, tree.length - depth)).to(policy.device)
    attention_mask = (torch.arange(ids.shape[1]) < read.shape[1]).expand(ids.shape).to(ids)
    actions = policy.get_distribution({"input_ids": ids, "attention_mask": attention_mask})
    logits = actions.distribution.logits.double().cpu().log_softmax(-1)
    return logits.unflatten(0, (len(prompts), -1))


def word_codes(text: str, n_words: int) -> list[int]:
    """The words of a text `"w3 w0"` as numbers.

    Raises:
        ValueError: Something in it is no word of the vocabulary.
    """
    codes = []
    for word in text.split():
        number = word.removeprefix("w")
        if not (word.startswith("w") and number.isdecimal() and int(number) < n_words):
            raise ValueError(f"{text!r} has {word!r}, but words are w0 to w{n_words - 1}")
        codes.append(int(np.int64(number)))
    return codes
