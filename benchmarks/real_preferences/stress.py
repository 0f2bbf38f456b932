"""Do a reward model's defaults hold what TF-IDF gives where ratings are few, noisy or elsewhere?

From one file of rated texts many tasks are made: few ratings, short texts to train on and long ones
to be tested on (and the reverse), pairs judged by one person each. A second file, if given, is
trained on and tested on across. TF-IDF with a ridge (ratings) or a logistic regression on
differences (pairs) stands beside each on the same test texts, with the paired interval.

    python benchmarks/real_preferences/stress.py --data FILE --model DIR
    python benchmarks/real_preferences/stress.py --data FILE --other FILE --model DIR
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import columns, record
from benchmarks.real_preferences.data import Rated, read
from benchmarks.real_preferences.reader import Reader
from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.reward_model import RatingModelConfig
from llm_gym.feedback.reward_model.evaluation import accuracy, spearman
from llm_gym.feedback.reward_model.parts import Task
from llm_gym.feedback.reward_model.rival import (
    tfidf_margins,
    tfidf_ratings,
    told_against,
    told_beside,
)
from llm_gym.files.atomic import write_json


@dataclass(frozen=True)
class Settings:
    """What is tried.

    Attributes:
        sizes: Ratings to train on.
        pairs: Pairs to train on.
        test: Texts or pairs to test on, at most.
        seed: Of the draws.
        heads: Reward models.
    """

    sizes: tuple[int, ...] = (200, 500, 1000)
    pairs: tuple[int, ...] = (300, 1000, 2000)
    test: int = 2000
    seed: int = 0
    heads: tuple[str, ...] = ("auto", "encoder", "words")


class Case(NamedTuple):
    """One task.

    Attributes:
        name: What it is.
        train: To learn from.
        test: Texts with ratings, or pairs.
    """

    name: str
    train: Task
    test: Task


def cases(rated: Rated, other: Rated | None, settings: Settings) -> Iterator[Case]:
    """All tasks of the files."""
    rng = np.random.default_rng(settings.seed)
    order = rng.permutation(len(rated.texts))
    test, rest = (
        order[: min(settings.test, len(order) // 2)],
        order[min(settings.test, len(order) // 2) :],
    )
    for size in settings.sizes:
        yield Case(f"{size} ratings", _ratings(rated, rest[:size]), _ratings(rated, test))
    by_length = np.argsort([len(text) for text in rated.texts], kind="stable")
    halves = np.array_split(by_length, 2)
    for name, (train, tested) in {"short to long": halves, "long to short": halves[::-1]}.items():
        yield Case(name, _ratings(rated, train), _ratings(rated, tested[: settings.test]))
    judged = _pairs(rated, test, settings.test, rng)
    for size in settings.pairs:
        name = f"{size} pairs, each by one person's ratings"
        yield Case(name, _pairs(rated, rest, size, rng), judged)
    if other is not None:
        both = (rated, other)
        for name, (one, two) in {"across": both, "across, back": both[::-1]}.items():
            everything = _ratings(one, np.arange(len(one.texts)))
            tested = rng.permutation(len(two.texts))[: settings.test]
            yield Case(name, everything, _ratings(two, tested))


def _ratings(rated: Rated, places: NDArray[np.int64]) -> Task:
    texts = [rated.texts[place] for place in places]
    return Task((texts,), rated.means[places], np.ones(len(texts)), texts)


def _pairs(rated: Rated, places: NDArray[np.int64], number: int, rng: np.random.Generator) -> Task:
    """Pairs of different texts, the chosen one with the higher rating of one person each."""
    chosen, rejected = [], []
    while len(chosen) < number:
        pair = rng.choice(places, size=2, replace=False)
        said = [rng.choice(rated.ratings[place][~np.isnan(rated.ratings[place])]) for place in pair]
        texts = [rated.texts[place] for place in pair]
        if said[0] == said[1] or texts[0] == texts[1]:
            continue
        better = int(said[1] > said[0])
        chosen.append(texts[better])
        rejected.append(texts[1 - better])
    prompts = [str(index) for index in range(number)]
    return Task((chosen, rejected), np.zeros(number), np.ones(number), prompts)


def measure(case: Case, reader: Reader, heads: tuple[str, ...]) -> dict[str, Any]:
    """Figures of the heads and of TF-IDF on one task, JSON-able."""
    pairs = case.train.kind == "comparisons"
    if pairs:
        rival = tfidf_margins(_preferences(case.train), _preferences(case.test))
    else:
        rival = tfidf_ratings(case.train.sides[0], case.train.values, case.test.sides[0])
    truth = case.test.values
    own = accuracy(rival) if pairs else spearman(rival, truth)
    found: dict[str, Any] = {"case": case.name, "n": len(case.train), "TF-IDF": own.to_dict()}
    for head in heads:
        scorer, report = reader.fit(case.train, head=head)
        values = [reader.rewards(scorer, side) for side in case.test.sides]
        if pairs:
            margins = values[0] - values[1]
            figure, gain = accuracy(margins), told_against(margins, rival)["gain"]
        else:
            figure, gain = spearman(values[0], truth), told_beside(values[0], rival, truth)["gain"]
        found[head] = {"figure": figure.to_dict(), "gain": gain, "head": report}
    return found


def _preferences(task: Task) -> list[Preference]:
    return [Preference(*row) for row in zip(task.groups, *task.sides, strict=True)]


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints the table, writes `stress.json` if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="JSON lines")
    parser.add_argument("--other", type=Path, metavar="FILE", help="a second file, for across")
    parser.add_argument("--model", default="llm_gym/email-sft", metavar="NAME_OR_DIR")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON of all figures")
    options = parser.parse_args(arguments)
    settings = Settings()
    rated = read(options.data)
    other = read(options.other) if options.other else None
    texts = rated.texts + (other.texts if other else [])
    reader = Reader(texts, RatingModelConfig(model=options.model, too_long="truncate"))
    found = [measure(case, reader, settings.heads) for case in cases(rated, other, settings)]
    rows = [["", "TF-IDF", *(f"{head} (less TF-IDF)" for head in settings.heads)]]
    for result in found:
        cells = [
            f"{result[head]['figure']['value']:.3f} {_gain(result[head]['gain'])}"
            for head in settings.heads
        ]
        rows.append([result["case"], f"{result['TF-IDF']['value']:.3f}", *cells])
    print(columns(rows))
    if options.output:
        write_json(options.output, record({"model": options.model}) | {"cases": found})


def _gain(gain: dict[str, float]) -> str:
    return f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"


if __name__ == "__main__":
    main()
