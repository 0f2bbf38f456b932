"""The task behind `llm_gym/PoliteEmail-v0`: answer "Write an email to your boss ..." politely.

The prompts are the library's own; those for training and for testing share no combination of
request, thing and recipient. The model that goes with the task, `llm_gym/email-sft`, writes
emails in all registers, so there is something to learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_gym.language_models import PROMPT_TEMPLATE, SFT_MODEL, load_tokenizer
from llm_gym.polite_email.judge import PolitenessScorer
from llm_gym.polite_email.prompts import email_prompts

if TYPE_CHECKING:
    from llm_gym.polite_email.requests import Split

__all__ = ["MAX_NEW_TOKENS", "NUM_PROMPTS", "environment_kwargs"]

NUM_PROMPTS: dict[Split, int] = {"train": 512, "test": 128}
MAX_NEW_TOKENS = 80


def environment_kwargs(split: Split = "train", **overrides: Any) -> dict[str, Any]:
    """Arguments of the text environments (single and vector) for the task.

    Both splits get the same observation space: `max_prompt_tokens` is the length of the longest
    prompt of either, in the tokenizer that is used.

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
    template = overrides.pop("prompt_template", PROMPT_TEMPLATE)
    task: dict[str, Any] = {
        "tokenizer": load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer,
        "prompt_template": template,
        "max_new_tokens": MAX_NEW_TOKENS,
    }
    if "scorer" not in overrides:
        task["scorer"] = PolitenessScorer()
    if "prompts" not in overrides:
        prompts = {each: email_prompts(each, count) for each, count in NUM_PROMPTS.items()}
        task["prompts"] = prompts[split]
        texts = [template.format(prompt=prompt) for each in prompts.values() for prompt in each]
        encoded = task["tokenizer"](texts, verbose=False)["input_ids"]
        task["max_prompt_tokens"] = max(map(len, encoded))
    return {**task, **overrides}
