"""Scorers by name: on a command line, in a registered task, in a specification written as JSON.

A name is looked up when it is used. Scorers of higher floors stand here as `"module:class"`, which
is imported then and not before.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from llm_gym.files.importing import object_named
from llm_gym.language_models.loading import torch_device
from llm_gym.scorers.classifier import SequenceClassifierScorer
from llm_gym.scorers.http import HTTPScorer
from llm_gym.scorers.protocol import Scorer, as_scorer
from llm_gym.scorers.rules import LengthScorer, RegexScorer

SCORER_NAMES = """\
politeness              the built-in judge of polite emails, 0 to 100
length:WORDS            1 at so many words, less the further from it
regex:PATTERN           1 if the pattern is found, else 0
classifier:MODEL#LABEL  a Hugging Face sequence classifier
reward:MODEL            a reward model of `llm-gym reward-model`
https://HOST/PATH       an HTTP endpoint
path/file.py:FUNCTION   your f(prompts, completions, **columns) -> floats
package.module:NAME     the same, importable"""


def scorer_from_name(name: str, device: str = "cpu") -> Scorer:
    """Finds or makes a scorer by its name.

    Args:
        name: One of the forms in `SCORER_NAMES`. Naming a file or a module runs it.
        device: Where a scorer that is a model runs: cpu, cuda or auto.

    Returns:
        A scorer.

    Raises:
        ValueError: The name has none of the forms, or what it names is not there.
        TypeError: It names something that cannot score.
    """
    kind, _, rest = name.partition(":")
    if name == "politeness":
        return _imported("llm_gym.polite_email.judge:PolitenessScorer")()
    if kind in _MAKERS and rest:
        return _MAKERS[kind](name, rest, device)
    source, _, attribute = name.rpartition(":")
    if not source or not attribute:
        raise ValueError(
            f"there is no scorer {name!r}; a scorer is named by one of\n{SCORER_NAMES}"
        )
    return as_scorer(object_named("scorer", name))


def _length(name: str, words: str, device: str) -> Scorer:
    try:
        return LengthScorer(float(words))
    except ValueError as error:
        raise ValueError(f"scorer {name!r}: length:WORDS needs a number ({error})") from error


def _regex(name: str, pattern: str, device: str) -> Scorer:
    return RegexScorer(pattern)


def _classifier(name: str, model_and_label: str, device: str) -> Scorer:
    model, _, label = model_and_label.partition("#")
    if not label:
        raise ValueError(f"scorer {name!r}: name the label too, classifier:MODEL#LABEL")
    return SequenceClassifierScorer(model, label=label, device=torch_device(device))


def _reward(name: str, model: str, device: str) -> Scorer:
    reward_model = _imported("llm_gym.feedback.reward_model:RewardModelScorer")
    return reward_model(model, device=torch_device(device))


def _http(name: str, address: str, device: str) -> Scorer:
    return HTTPScorer(name)


_MAKERS: dict[str, Callable[[str, str, str], Scorer]] = {
    "length": _length,
    "regex": _regex,
    "classifier": _classifier,
    "reward": _reward,
    "http": _http,
    "https": _http,
}


def _imported(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)
