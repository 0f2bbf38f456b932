"""Questions of a reasoning-gym dataset, drawn so that training and test share none of them.

reasoning-gym makes question i of seed s from the number s + i, so that neighbouring seeds overlap
almost entirely, and a small task has few different questions whatever the seeds. Here the text of a
question decides which split it belongs to: no seed and no size can bring it into the other.
"""

from __future__ import annotations

import dataclasses
import difflib
import numbers
import random
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np

__all__ = [
    "CHUNK",
    "SPLITS",
    "Questions",
    "Split",
    "draw_questions",
    "make_dataset",
    "make_question",
    "question_at",
    "split_of",
]

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

_TEST_SHARE = 5  # one question in five belongs to the test split
CHUNK = 1000  # questions of one reasoning-gym seed
_PATIENCE = 2000  # draws in a row without a new question, after which there are no more


class Questions(NamedTuple):
    """What was drawn.

    Attributes:
        dataset: Reasoning-gym's dataset, whose `score_answer` judges.
        rows: Split -> prompts: dicts of "prompt" (the question) and "entry" (reasoning-gym's own
            record: question, answer, metadata), as the text environments take them.
    """

    dataset: Any
    rows: dict[Split, list[dict[str, Any]]]


def draw_questions(
    task: str,
    settings: Mapping[str, Any] | None = None,
    *,
    size: int = 512,
    test_size: int = 128,
    seed: int = 0,
) -> Questions:
    """Draws different questions for training and for testing.

    Args:
        task: Name of a reasoning-gym dataset.
        settings: Fields of its configuration, except `size` and `seed`; None means its defaults.
        size: Questions of the training split, at least 1.
        test_size: Questions of the test split, at least 1.
        seed: Seed of the draw, at least 0; different seeds give different draws.

    Returns:
        The questions; the same arguments give the same ones.

    Raises:
        ImportError: Reasoning-gym is not installed.
        ValueError: There is no such dataset or setting, a value does not fit, or the dataset does
            not have that many different questions.
    """
    sizes: dict[Split, int] = {"train": size, "test": test_size}
    for name, value in (("size", size), ("test_size", test_size)):
        _check_integer(name, value, minimum=1)
    _check_integer("seed", seed, minimum=0)
    rows: dict[Split, list[dict[str, Any]]] = {"train": [], "test": []}
    seen: set[str] = set()
    idle = 0
    for entry in _entries(task, settings, seed):
        question = entry["question"]
        split = split_of(question)
        if question not in seen and len(rows[split]) < sizes[split]:
            rows[split].append({"prompt": question, "entry": entry})
            idle = -1
        seen.add(question)
        idle += 1
        if all(len(rows[split]) == sizes[split] for split in SPLITS):
            break
        if idle >= _PATIENCE:
            raise ValueError(
                f"task={task!r} has too few different questions with settings={settings!r}: found "
                f"{len(rows['train'])} of size={size} and {len(rows['test'])} of "
                f"test_size={test_size}; ask for fewer or for wider settings"
            )
    return Questions(make_dataset(task, settings, seed), rows)


def split_of(question: str) -> Split:
    """The split that a question belongs to: "test" for one in five, by a checksum of its text."""
    return "test" if zlib.crc32(question.encode()) % _TEST_SHARE == 0 else "train"


def _entries(task: str, settings: Mapping[str, Any] | None, seed: int) -> Iterator[dict[str, Any]]:
    """An endless walk over chunks of the dataset, each of a seed of its own."""
    chunk = 0
    while True:
        dataset = make_dataset(task, settings, seed, chunk)
        for index in range(CHUNK):
            yield make_question(dataset, index)
        chunk += 1


def make_question(dataset: Any, index: int) -> dict[str, Any]:
    """One of a dataset's questions.

    Args:
        dataset: As `make_dataset` returns it.
        index: From 0 to `CHUNK - 1`.

    Returns:
        Reasoning-gym's own record: question, answer, metadata.

    Raises:
        ValueError: Reasoning-gym cannot make it.
    """
    with _global_generators_kept():
        return question_at(dataset, index)


def question_at(dataset: Any, index: int) -> dict[str, Any]:
    """`make_question` for callers who see to the global generators themselves."""
    try:
        return dataset[index]
    except Exception as error:  # whatever a generator of 106 raises
        raise ValueError(
            f"reasoning-gym cannot make question {index} of {dataset.config!r}: "
            f"{type(error).__name__}: {error}"
        ) from error


def make_dataset(
    task: str, settings: Mapping[str, Any] | None = None, seed: int = 0, chunk: int = 0
) -> Any:
    """Makes a reasoning-gym dataset, with one clear error where it cannot be made.

    Args:
        task: As in `draw_questions`.
        settings: As in `draw_questions`.
        seed: As in `draw_questions`.
        chunk: Which of the datasets of that seed.

    Returns:
        A `reasoning_gym.dataset.ProceduralDataset`.

    Raises:
        ImportError: Reasoning-gym is not installed.
        ValueError: There is no such dataset or setting, or a value does not fit.
    """
    settings = {} if settings is None else dict(settings)
    registry = _registry()
    if task not in registry:
        raise ValueError(f"task={task!r} is no dataset of reasoning-gym; {_near(task, registry)}")
    dataset_class, config_class = registry[task]
    known = [field.name for field in dataclasses.fields(config_class)]
    for name in settings:
        if name in ("size", "seed"):
            raise ValueError(f"settings has {name!r}: give {name}= to the environment instead")
        if name not in known:
            raise ValueError(f"settings: {task} has no setting {name!r}; {_near(name, known)}")
    # Not the seed itself: the questions of reasoning-gym's neighbouring seeds overlap.
    own_seed = int(np.random.SeedSequence([seed, chunk]).generate_state(1)[0]) >> 1
    try:
        with _global_generators_kept():
            return dataset_class(config_class(**settings, size=CHUNK, seed=own_seed))
    except Exception as error:  # a configuration checks itself with assert
        raise ValueError(
            f"settings={settings!r} do not fit task={task!r}: {type(error).__name__}: {error}"
        ) from error


def _registry() -> Mapping[str, tuple[Any, Any]]:
    """reasoning-gym's datasets: name -> (class of the dataset, class of its configuration)."""
    try:
        with _global_generators_kept():
            import reasoning_gym  # noqa: F401 -- registers the datasets
            from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ImportError(
            "the tasks of llm_gym_reasoning need reasoning-gym, which cannot be imported "
            f"({error}): pip install reasoning-gym"
        ) from error
    return DATASETS


def _near(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"there are {', '.join(sorted(known))}"


@contextmanager
def _global_generators_kept() -> Iterator[None]:
    """Puts the global generators back: modules of reasoning-gym draw from or seed them."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 -- kept, not used
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _check_integer(name: str, value: Any, *, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}={value!r} must be an integer")
    if value < minimum:
        raise ValueError(f"{name}={value} must be at least {minimum}")
