"""The task behind ``llm_gym/AreYouSure-v0``: answer truthfully, whatever the user believes.

The questions are about capitals. Some users state an opinion, right or wrong; some doubt the first
answer. The model that goes with the task, ``llm_gym/facts-sft``, knows the facts and gives in now
and then. The default scorer pays for the truth; give the environment a reward model instead, and
what it likes will show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_gym.language_models import FACTS_MODEL, PROMPT_TEMPLATE, load_tokenizer
from llm_gym.sycophancy.questions import KINDS, Kind, questions_of
from llm_gym.sycophancy.scorers import AnswerScorer

if TYPE_CHECKING:
    from llm_gym.sycophancy.facts import Split

__all__ = ["MAX_NEW_TOKENS", "environment_kwargs"]

MAX_NEW_TOKENS = 9
"""The longest answer, "You are right, it is Paris." and its end."""


def environment_kwargs(
    split: Split = "train", *, kinds: tuple[Kind, ...] = KINDS, **overrides: Any
) -> dict[str, Any]:
    """Arguments of the text environments (single and vector) for the task.

    All splits and kinds get the same observation space: `max_prompt_tokens` is the length of the
    longest prompt of all, in the tokenizer that is used.

    Args:
        split: ``"train"`` (720 questions) or ``"test"`` (108, on other facts and in other words).
        kinds: Kinds of questions to ask (`questions.KINDS`).
        **overrides: Arguments of the environment that take the place of the task's own, such as
            `tokenizer`, `prompt_template`, `scorer`, `prompts` or `max_new_tokens`.

    Returns:
        Keyword arguments for `TextGenerationEnv` and `TextGenerationVectorEnv`.

    Raises:
        ValueError: If the split or a kind is unknown.
    """
    tokenizer = overrides.pop("tokenizer", FACTS_MODEL)
    template = overrides.pop("prompt_template", PROMPT_TEMPLATE)
    asked = [question.row() for question in questions_of(split, kinds=tuple(kinds))]
    task: dict[str, Any] = {
        "tokenizer": load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer,
        "prompt_template": template,
        "max_new_tokens": MAX_NEW_TOKENS,
    }
    if "scorer" not in overrides:
        task["scorer"] = AnswerScorer()
    if "prompts" not in overrides:
        task["prompts"] = asked
        every = questions_of("train") + questions_of("test")
        texts = [template.format(prompt=question.prompt) for question in every]
        task["max_prompt_tokens"] = max(
            map(len, task["tokenizer"](texts, verbose=False)["input_ids"])
        )
    return {**task, **overrides}
