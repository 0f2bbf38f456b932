"""What the systems of a comparison learn: model, prompts and reward, the same for all of them.

`"favoured_words"` is the workload's random GPT-2 and its random prompts. `"polite_email"` is
the task of `llm_gym/PoliteEmail-v0`: the model of about a million parameters that ships with the
library, its training prompts, and the rules of `llm_gym.PolitenessScorer` scaled to 0 to 1.
`"real_model"` is the same task for a pretrained, instruction-tuned model of the user's, which is
asked by its chat template.
The peers take the library's scorer as it is, because a scorer and a reward function are the same
thing: they import it from this tree, for which their environments have Gymnasium.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from benchmarks.workload import FavouredShare, Workload, build_model, build_prompts, build_tokenizer

Score = Callable[[Sequence[str], Sequence[str]], Sequence[float]]


class Task(NamedTuple):
    """A task, ready for any library.

    Attributes:
        model: Directory of the model's weights and of the tokenizer.
        tokenizer: Tokenizer of that model.
        prompts: What the model reads, in its prompt template.
        instructions: What the scorer reads; the same without the marks of the prompt template.
        score: Takes instructions and completions and returns a number each.
    """

    model: str
    tokenizer: PreTrainedTokenizerBase
    prompts: list[str]
    instructions: list[str]
    score: Score


class Tally:
    """A scorer that remembers the mean of all it scored since it was told to forget.

    Args:
        score: Takes instructions and completions and returns a number each.

    Attributes:
        tokens: Of the answers, where a token is a word: the words, and the end of each.
    """

    __name__ = "reward"  # TRL names its metrics by it

    def __init__(self, score: Score) -> None:
        self._score, self._scores = score, list[float]()
        self.tokens = 0

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **_: object
    ) -> list[float]:
        """Scores, one a completion."""
        scores = [float(score) for score in self._score(prompts, completions)]
        self._scores += scores
        self.tokens += sum(len(completion.split()) + 1 for completion in completions)
        return scores

    def forget(self) -> None:
        """Starts a new batch."""
        self._scores.clear()
        self.tokens = 0

    @property
    def last_mean(self) -> float:
        """Mean of the scores of the batch; NaN if there are none."""
        return sum(self._scores) / len(self._scores) if self._scores else float("nan")


def build_task(workload: Workload, folder: str | Path) -> Task:
    """The task that the workload names.

    Args:
        workload: Names the task, the model and the number of prompts.
        folder: Where to save a model that is made here.
    """
    if workload.task == "polite_email":
        return _polite_email()
    if workload.task == "real_model":
        return _real_model(workload.model)
    tokenizer, prompts = build_tokenizer(workload), build_prompts(workload)
    build_model(workload).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Task(str(folder), tokenizer, prompts, prompts, FavouredShare(workload))


def _polite_email() -> Task:
    from llm_gym.language_models import SFT_MODEL, resolve
    from llm_gym.polite_email.task import environment_kwargs

    task = environment_kwargs("train")
    return _emails(resolve(SFT_MODEL), task["tokenizer"], task["prompt_template"])


def _real_model(directory: str) -> Task:
    from llm_gym.language_models import load_tokenizer

    return _emails(directory, load_tokenizer(directory), None)


def _emails(model: str, tokenizer: PreTrainedTokenizerBase, template: str | None) -> Task:
    from llm_gym.language_models.chat import PromptFormat
    from llm_gym.polite_email.judge import PolitenessScorer
    from llm_gym.polite_email.task import environment_kwargs
    from llm_gym.scorers import Scale

    instructions = list(environment_kwargs("train")["prompts"])
    prompt_format = PromptFormat(tokenizer, template)
    prompts = [prompt_format.render(text) for text in instructions]
    return Task(model, tokenizer, prompts, instructions, Scale(PolitenessScorer(), 0.01))
