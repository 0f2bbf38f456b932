"""From names on a command line to objects: scorers, environments, algorithms."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.language_models.loading import chat_prompt_template, torch_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymnasium.vector import VectorEnv

TEXT_GENERATION = "llm_gym/TextGeneration-v0"  # the environment without a task

SCORER_NAMES = """\
politeness              the built-in judge of polite emails, 0 to 100
length:WORDS            1 at so many words, less the further from it
regex:PATTERN           1 if the pattern is found, else 0
classifier:MODEL#LABEL  a Hugging Face sequence classifier
reward:MODEL            a reward model of `llm-gym reward-model`
https://HOST/PATH       an HTTP endpoint
path/file.py:FUNCTION   your f(prompts, completions, **columns) -> floats
package.module:NAME     the same, importable"""


def scorer_from_name(name: str, device: str = "cpu") -> Callable[..., Any]:
    """Finds or makes a scorer by its name on the command line.

    Args:
        name: One of the forms in `SCORER_NAMES`. Naming a file runs it.
        device: Where a scorer that is a model runs: cpu, cuda or auto.

    Returns:
        A scorer.

    Raises:
        ValueError: The name has none of the forms, or what it names is not there.
        TypeError: It names something that cannot score.
    """
    from llm_gym import scorers

    kind, _, rest = name.partition(":")
    if name == "politeness":
        from llm_gym.polite_email.judge import PolitenessScorer

        return PolitenessScorer()
    if kind == "length":
        try:
            return scorers.LengthScorer(float(rest))
        except ValueError as error:
            raise ValueError(f"scorer {name!r}: length:WORDS needs a number ({error})") from error
    if kind == "regex" and rest:
        return scorers.RegexScorer(rest)
    if kind == "classifier" and rest:
        model, _, label = rest.partition("#")
        if not label:
            raise ValueError(f"scorer {name!r}: name the label too, classifier:MODEL#LABEL")
        return scorers.SequenceClassifierScorer(model, label=label, device=torch_device(device))
    if kind == "reward" and rest:
        from llm_gym.feedback.reward_model import RewardModelScorer

        return RewardModelScorer(rest, device=torch_device(device))
    if kind in ("http", "https"):
        return scorers.HTTPScorer(name)
    source, _, attribute = name.rpartition(":")
    if not source or not attribute:
        raise ValueError(
            f"there is no scorer {name!r}; a scorer is named by one of\n{SCORER_NAMES}"
        )
    module = _module_from(source)
    if not hasattr(module, attribute):
        raise ValueError(f"scorer {name!r}: {source} has no {attribute!r}")
    return scorers.as_scorer(getattr(module, attribute))


def no_score(prompts: list[str], completions: list[str]) -> list[float]:
    """The scorer of who wants answers and no scores: 0 for all."""
    return [0.0] * len(completions)


def _module_from(source: str) -> Any:
    """Imports a module by its dotted name, or runs a `.py` file as one."""
    if not source.endswith(".py"):
        try:
            return importlib.import_module(source)
        except ImportError as error:
            raise ValueError(f"scorer module {source!r} cannot be imported: {error}") from error
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"scorer file {source!r} does not exist")
    spec = importlib.util.spec_from_file_location(f"llm_gym_scorer_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises
        raise ValueError(
            f"scorer file {source!r} cannot be run: {type(error).__name__}: {error}"
        ) from error
    return module


def environment_kwargs(
    env: str,
    model: str,
    *,
    scorer: str | None = None,
    prompts: str | None = None,
    prompt_template: str | None = None,
    device: str = "cpu",
    **options: Any,
) -> dict[str, Any]:
    """Arguments of a text environment that fit a model.

    Args:
        env: Id of the environment.
        model: Name or path of the language model; its tokenizer and vocabulary are used.
        scorer: Name of a scorer; None leaves it to the task.
        prompts: Path of a `.txt` or `.jsonl` file; None leaves them to the task.
        prompt_template: Text around the prompt. None leaves it to the task; for
            `llm_gym/TextGeneration-v0`, which has none, it is the tokenizer's chat template, if the
            tokenizer has one ("{prompt}" is the bare prompt).
        device: Where a scorer that is a model runs; the environment itself holds none.
        **options: Further arguments of the environment; None means not given.

    Returns:
        Keyword arguments for `gymnasium.make` or `gymnasium.make_vec`.
    """
    from transformers import AutoConfig

    from llm_gym.language_models import load_tokenizer, resolve

    tokenizer = load_tokenizer(model)
    config = AutoConfig.from_pretrained(resolve(model), trust_remote_code=False)
    kwargs: dict[str, Any] = {"tokenizer": tokenizer, "vocab_size": config.vocab_size}
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        kwargs["pad_token_id"] = tokenizer.eos_token_id  # masks, not ids, say what is padding
    if scorer is not None:
        kwargs["scorer"] = scorer_from_name(scorer, device)
    if prompts is not None:
        kwargs["prompts"] = prompts
    if prompt_template is not None:
        kwargs["prompt_template"] = prompt_template
    elif env == TEXT_GENERATION and tokenizer.chat_template:
        kwargs["prompt_template"] = chat_prompt_template(tokenizer)
        kwargs["add_special_tokens"] = False  # the chat template writes them
    return kwargs | {name: value for name, value in options.items() if value is not None}


def make_vector_env(env: str, num_envs: int, kwargs: dict[str, Any]) -> VectorEnv:
    """Makes a vector environment to train on.

    Args:
        env: Registered id.
        num_envs: Number of rows.
        kwargs: From `environment_kwargs`.

    Returns:
        The environment; its rows are reset in the step that ends them, as training needs it.

    Raises:
        ValueError: The task needs prompts or a scorer and there are none, or `env` is not text.
    """
    from llm_gym.text.tasks import make_text_vector_env

    check_task(env, kwargs)
    return make_text_vector_env(env, num_envs=num_envs, autoreset_mode="SameStep", **kwargs)


def check_task(env: str, kwargs: dict[str, Any]) -> None:
    """Raises `ValueError` if a task that comes without prompts or scorer was given none."""
    if env == TEXT_GENERATION:
        for needed in ("prompts", "scorer"):
            if needed not in kwargs:
                raise ValueError(f"{env} needs {needed}: give --{needed}, or another --env")
