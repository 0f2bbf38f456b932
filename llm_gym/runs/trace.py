"""What a run keeps of single tokens: looks, a file each, and the function that reads them.

    for path in trace_files("runs/train"):
        look = read_look(path)

A look is what was seen of one iteration: answers that the policy wrote as it stood, and how
probable their tokens were before the update that followed and after it. Each lies in a file of its
own, `trace/look-000000012345.safetensors` below the run's directory, numbered by the tokens that
had been generated before. A file appears whole or not at all, and is never written to again.

The format (`FORMAT`, which the metadata say). All tokens of all answers stand one after the
other, `T` of them; a quantity that the run does not have has no tensor, and `absent` says why.

| tensor | | |
|---|---|---|
| `lengths` | int32 `(E,)` | tokens of each answer |
| `ids` | int32 `(T,)` | tokens, without the prompt's |
| `by_agent` | uint8 `(T,)` | 1 where the policy chose the token, 0 where a world wrote it |
| `log_prob` | float32 `(T,)` | log-probability in nats when it was sampled |
| `log_prob_after` | float32 `(T,)` | after the update |
| `entropy` | float32 `(T,)` | of the policy that sampled it, in nats |
| `kl` | float32 `(T,)` | `log pi - log pi_ref`, whose mean is the divergence |
| `value` | float32 `(T,)` | what the critic expected before the token, in units of the reward |
| `advantage` | float32 `(T,)` | likewise, before it is whitened; of estimators that divide by a \
standard deviation it has no unit |
| `reward` | float32 `(T,)` | what the environment paid for it, without penalties |
| `clipped` | float32 `(T,)` | 1 where the ratio lies beyond the clip range after the update |
| `top_ids` | int32 `(T, 5)` | the most probable tokens when it was sampled, the first first |
| `top_log_prob` | float16 `(T, 5)` | their log-probabilities |
| `top_log_prob_after` | float16 `(T, 5)` | likewise after the update |

Quantities are NaN where a world wrote; those of answers outside the rollout (`kind` "probe") are
NaN where only a rollout has them. The metadata have one entry, "look", which is JSON: `format`,
`step`, `end` (tokens generated before and after the iteration), `algorithm`, `clip` (how far a
ratio may fall and rise), `kl_coef`, `absent` (quantity -> why), `answers` (for each `kind`,
`number`, `prompt`, `prompt_ids`, `texts` of its tokens, `score`, `stop_reason`, `begins` and
`ends`: whether its beginning and end are there) and `vocabulary` (text of each alternative by its
id; -1 stands where a vocabulary has fewer). All texts are as a model wrote them: untrusted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym.files.schema import (
    boolean,
    list_of,
    number,
    one_of,
    optional,
    record,
    row_of,
    text,
    whole,
)
from llm_gym.runs.looks import LookFiles, Tensors

FORMAT = "llm_gym token trace 1"
ALTERNATIVES = 5
QUANTITIES = (
    "log_prob",
    "log_prob_after",
    "entropy",
    "kl",
    "value",
    "advantage",
    "reward",
    "clipped",
)
"""What is known of a token that the policy chose, where the run has it."""

_TOPS = {"top_ids": np.int32, "top_log_prob": np.float16, "top_log_prob_after": np.float16}


@dataclass(frozen=True)
class TracedAnswer:
    """One answer, token by token; `n` tokens, the policy's and a world's.

    Attributes:
        kind: "probe", the most probable answer to a prompt that is asked again and again, or
            "rollout", one that was learnt from.
        number: Which of the look's answers of its kind; probes keep theirs from look to look.
        prompt: As the model read it, without special tokens.
        prompt_ids: Its tokens; of an answer that began in an earlier rollout, all before it.
        ids: int32 `(n,)`.
        texts: What each token adds to the text.
        by_agent: Bool `(n,)`, whether the policy chose it.
        quantities: float32 `(n,)` by name, see `QUANTITIES`; those that are absent are not there.
        top_ids: int32 `(n, 5)`.
        top_log_prob: float32 `(n, 5)`.
        top_log_prob_after: float32 `(n, 5)`.
        score: What the answer was worth; None if it was not scored.
        stop_reason: What ended it, as the environment says; None if that is not known.
        begins: Whether its first token is there.
        ends: Whether its last token is.
    """

    kind: str
    number: int
    prompt: str
    prompt_ids: tuple[int, ...]
    ids: NDArray[np.int32]
    texts: tuple[str, ...]
    by_agent: NDArray[np.bool_]
    quantities: dict[str, NDArray[np.float32]]
    top_ids: NDArray[np.int32]
    top_log_prob: NDArray[np.float32]
    top_log_prob_after: NDArray[np.float32]
    score: float | None = None
    stop_reason: str | None = None
    begins: bool = True
    ends: bool = True


@dataclass(frozen=True)
class Look:
    """What was seen of one iteration.

    Attributes:
        step: Tokens that had been generated before it: those that the writer had learnt from.
        end: Tokens that had been generated after it; `metrics.jsonl` has its row at this step.
        algorithm: Name of the algorithm's class.
        answers: Probes first.
        vocabulary: Text of every alternative by its id.
        absent: Why a quantity is not there, by its name.
        clip: How far a ratio may fall below 1 and rise above it; None where nothing is clipped.
        kl_coef: What a nat of divergence costs; None without a reference.
    """

    step: int
    end: int
    algorithm: str
    answers: tuple[TracedAnswer, ...]
    vocabulary: dict[int, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    clip: tuple[float, float] | None = None
    kl_coef: float | None = None


_ANSWER = {
    "kind": one_of("probe", "rollout"),
    "number": whole(),
    "prompt": text,
    "prompt_ids": list_of(whole()),
    "texts": list_of(text),
    "score": optional(number()),
    "stop_reason": optional(text),
    "begins": boolean,
    "ends": boolean,
}
_LOOK = record(
    {
        "format": text,
        "step": whole(),
        "end": whole(),
        "algorithm": text,
        "clip": optional(row_of(number(), number())),
        "kl_coef": optional(number()),
        "absent": record({}, others=text),
        "answers": list_of(record(_ANSWER)),
        "vocabulary": record({}, others=text),
    }
)


LOOKS = LookFiles(
    prefix="look",
    called="a look",
    refusal="is no look of a trace",
    key="look",
    format=FORMAT,
    check=_LOOK,
)


def trace_files(directory: str | Path) -> list[Path]:
    """The looks of a run, oldest first; none if it keeps none.

    Args:
        directory: Of the run.
    """
    return LOOKS.files(directory)


def encode(look: Look) -> bytes:
    """A look as the content of its file."""
    answers = look.answers
    names = [name for name in QUANTITIES if any(name in each.quantities for each in answers)]
    tensors: Tensors = {
        "lengths": np.array([len(each.ids) for each in answers], dtype=np.int32),
        "ids": _joined([each.ids for each in answers], np.int32),
        "by_agent": _joined([each.by_agent for each in answers], np.uint8),
    }
    for name in names:
        columns = [each.quantities.get(name, np.full(len(each.ids), np.nan)) for each in answers]
        tensors[name] = _joined(columns, np.float32)
    for name, kind in _TOPS.items():
        rows = [getattr(each, name).reshape(-1, ALTERNATIVES) for each in answers]
        with np.errstate(over="ignore"):  # of a token that is all but impossible
            tensors[name] = _joined(rows, kind, width=ALTERNATIVES)
    told = {
        "step": look.step,
        "end": look.end,
        "algorithm": look.algorithm,
        "clip": look.clip,
        "kl_coef": look.kl_coef,
        "absent": look.absent,
        "answers": [{name: getattr(each, name) for name in _ANSWER} for each in answers],
        "vocabulary": {str(token): look.vocabulary[token] for token in sorted(look.vocabulary)},
    }
    return LOOKS.encode(told, tensors)


def read_look(path: str | Path) -> Look:
    """Reads a look.

    Args:
        path: One of `trace_files`.

    Raises:
        ValueError: The file is damaged, or of another format.
        OSError: It cannot be read.
    """
    return decode(Path(path).read_bytes(), str(path))


def decode(content: bytes, where: str) -> Look:
    """A look from the content of its file.

    Args:
        content: All of it.
        where: Its name in messages.

    Raises:
        ValueError: See `read_look`.
    """
    return LOOKS.decode(content, where, _look_of)


def _look_of(values: dict[str, Any], tensors: Tensors) -> Look:
    ends = np.cumsum(tensors["lengths"])
    told = values.pop("answers")
    if len(told) != len(ends) or (len(ends) and ends[-1] != len(tensors["ids"])):
        raise ValueError("its answers are not as long as their tokens")
    answers = tuple(
        _answer_of(each, tensors, slice(int(end - length), int(end)))
        for each, length, end in zip(told, tensors["lengths"], ends, strict=True)
    )
    vocabulary = {int(token): piece for token, piece in values.pop("vocabulary").items()}
    clip = values.pop("clip")
    return Look(
        answers=answers,
        vocabulary=vocabulary,
        clip=None if clip is None else (float(clip[0]), float(clip[1])),
        **values,
    )


def _answer_of(told: dict[str, Any], tensors: Tensors, place: slice) -> TracedAnswer:
    if len(told["texts"]) != place.stop - place.start:
        raise ValueError("an answer has another number of texts than of tokens")
    quantities = {name: tensors[name][place] for name in QUANTITIES if name in tensors}
    if told["kind"] == "probe":  # columns are of all answers alike; what is all NaN is not known
        quantities = {n: column for n, column in quantities.items() if not np.isnan(column).all()}
    return TracedAnswer(
        **{**told, "texts": tuple(told["texts"]), "prompt_ids": tuple(told["prompt_ids"])},
        ids=tensors["ids"][place],
        by_agent=tensors["by_agent"][place].astype(bool),
        quantities=quantities,
        top_ids=tensors["top_ids"][place],
        top_log_prob=tensors["top_log_prob"][place].astype(np.float32),
        top_log_prob_after=tensors["top_log_prob_after"][place].astype(np.float32),
    )


def _joined(rows: list[Any], kind: Any, *, width: int | None = None) -> NDArray[Any]:
    """Arrays one after the other; of none an empty one."""
    empty = np.zeros((0,) if width is None else (0, width))
    return np.ascontiguousarray(np.concatenate([empty, *rows]).astype(kind))
