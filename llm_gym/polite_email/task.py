"""The task behind `llm_gym/PoliteEmail-v0`: answer "Write an email to your boss ..." politely.

The prompts are the library's own; those for training and for testing share no combination of
request, thing and recipient. The model that goes with the task, `llm_gym/email-sft`, writes
emails in all registers, so there is something to learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_gym.language_models import SFT_MODEL, load_tokenizer
from llm_gym.polite_email.judge import PolitenessScorer
from llm_gym.polite_email.prompts import email_prompts
from llm_gym.text.tasks import longest_prompt

if TYPE_CHECKING:
    from llm_gym.polite_email.requests import Split

NUM_PROMPTS: dict[Split, int] = {"train": 512, "test": 128}
MAX_NEW_TOKENS = 80


def environment_kwargs(split: Split = "train", **overrides: Any) -> dict[str, Any]:
    """Writes an email as asked, judged for politeness from 0 to 100 (`llm_gym/PoliteEmail-v0`).

    ## Description

    "Write an email to your boss asking for a raise." The model that goes with the task,
    `llm_gym/email-sft`, writes emails in all registers, from kind to rude.

    ## Action Space

    The next token, `Discrete(V)`; V is 1024 with the embedded tokenizer.

    ## Observation Space

    That of `TextGenerationEnv`: a `Dict` of `input_ids`, `attention_mask` and `completion_mask`,
    each `(L,)`, where L holds the longest prompt of both splits and an email of 80 tokens.

    ## Rewards

    0 until the email ends, then the judgement of `llm_gym.PolitenessScorer`, 0 to 100; its parts
    (greeting, request, tone, ...) are in `info["score_parts"]`. `scorer=` takes any other scorer.

    ## Starting State

    A prompt drawn from 512 (`split="train"`) or 128 (`split="test"`); the two share no combination
    of request, thing and recipient.

    ## Episode End

    Terminated by the end-of-text token or after 80 tokens (`max_new_tokens`); never truncated.

    ## Arguments

    `gym.make("llm_gym/PoliteEmail-v0", split="test", max_new_tokens=40)`; see below. The vector
    form also takes `group_size`. Both splits get the same observation space: `max_prompt_tokens` is
    the length of the longest prompt of either, in the tokenizer that is used.

    ## Version History

    * v0: initial version.

    Args:
        split: `"train"` (512 prompts) or `"test"` (128 others).
        **overrides: Arguments of the environment that take the place of the task's own, such as
            `tokenizer`, `prompt_template`, `scorer`, `prompts` or `max_new_tokens`.

    Returns:
        Keyword arguments for `TextGenerationEnv` and `TextGenerationVectorEnv`.

    Raises:
        ValueError: If the split is unknown.
    """
    if split not in NUM_PROMPTS:
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    tokenizer = overrides.pop("tokenizer", SFT_MODEL)
    template = overrides.pop("prompt_template", None)
    task: dict[str, Any] = {
        "tokenizer": load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer,
        "prompt_template": template,
        "max_new_tokens": MAX_NEW_TOKENS,
    }
    if "scorer" not in overrides:
        task["scorer"] = PolitenessScorer()
    if "prompts" not in overrides:
        prompts = {name: email_prompts(name, count) for name, count in NUM_PROMPTS.items()}
        task["prompts"] = prompts[split]
        both = prompts["train"] + prompts["test"]
        task["max_prompt_tokens"] = longest_prompt(
            both,
            task["tokenizer"],
            template,
            add_special_tokens=overrides.get("add_special_tokens"),
        )
    return {**task, **overrides}
