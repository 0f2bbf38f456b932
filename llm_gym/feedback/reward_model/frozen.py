"""Fitting a reward model without changing the model it stands on: seconds, and no gradient.

The model is read once; words and hidden states become a reward by the convex fits of `parts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.feedback.reward_model.layers import Features, Reading, readings
from llm_gym.feedback.reward_model.parts import (
    Part,
    Task,
    deal,
    fit_states,
    fit_words,
    states_part,
    weigh,
    words_part,
)
from llm_gym.language_models.packing import by_length, pad_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llm_gym.feedback.reward_model.fitting import FittingConfig
    from llm_gym.feedback.reward_model.pooled import PooledRewardModel
    from llm_gym.feedback.reward_model.scorer import RewardModelScorer
    from llm_gym.feedback.reward_model.words import WordWeights
    from llm_gym.scorers.classifier import Row

_MOST = 5_000  # rows of which layers, penalties and weights are chosen
_FEWEST = 100  # of them, however large their features
_BYTES = 2**30  # of all layers' features, at most
_BATCH = 32


def fit_frozen(
    scorer: RewardModelScorer,
    prompts: Sequence[str],
    task: Task,
    config: FittingConfig,
    read: Callable[[RewardModelScorer, Sequence[str], Task, Sequence[str]], Features] | None = None,
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Gives a scorer the reward that its frozen model and words make of a task.

    Args:
        scorer: Of a `PooledRewardModel` that reads all layers; gets the fitted one, and words.
        prompts: What the N texts, or pairs of texts, answer.
        task: What to learn.
        config: `head`, `hidden_layers`, `pooling` and `seed` are used.
        read: Reads the texts; None is `read_features`. Who fits many parts of the same texts may
            read them once, since nothing that is fitted changes what is read.

    Returns:
        JSON-able: `words` and `states`, each with its `loss` on left-out folds, what was chosen and
        its `share` of the sum (None where there is none), and the loss of `both`. And the rewards
        of the task's texts, float64 `(sides, N)`.
    """
    read = read or read_features
    poolings = poolings_of(scorer, task, config)
    number = min(len(task), _MOST, _fitting_in_memory(scorer, task, poolings))
    rng = np.random.default_rng(config.seed)
    chosen = np.sort(rng.permutation(len(task))[:number])
    few = task.take(chosen)
    folds = deal(few.groups, config.seed)
    parts: dict[str, Part] = {}
    features = None
    if config.head != "encoder":
        parts["words"] = words_part(few, folds)
    if config.head != "words":
        features = read(scorer, [prompts[row] for row in chosen], few, poolings)
        candidates = _candidates(features, len(poolings), config)
        parts["states"] = states_part(features, candidates, few, folds)
    shares = dict(zip(parts, weigh(list(parts.values()), few).tolist(), strict=True))
    mean = float(few.trust @ few.values / few.trust.sum()) if few.kind == "ratings" else 0.0
    words, bias = _fitted_words(parts, shares, task, mean)
    rewards = np.zeros((len(task.sides), len(task)))
    choice = None
    if features is not None:
        reading = parts["states"].report["reading"]
        place, inside = reading.split(len(scorer.model.layers))
        choice = {
            "layers": list(inside.layers),
            "averaged": inside.averaged,
            "pooling": poolings[place],
            "explained_by_layer": _by_layer(parts["states"], poolings, len(scorer.model.layers)),
        }
    if features is None or not shares["states"]:
        model = _reading_nothing(scorer.model)
    else:
        model = _shortened(scorer.model, inside, poolings[place])
        if number < len(task):
            scorer.model = model
            features = read_features(scorer, prompts, task, [model.pooling])
            reading = Reading(tuple(range(len(inside.layers))), inside.averaged)
        columns = features.columns(reading)
        weights, shift = fit_states(columns, task, parts["states"].report["penalty"])
        weights *= shares["states"]
        _write(model, inside.spread(weights))
        bias += shares["states"] * (shift - mean)
        rewards = (reading.columns(features.values) @ weights)[features.places]
    model.score.bias.data.fill_(mean + bias)
    scorer.model, scorer.words = model, words
    rewards = rewards + mean + bias
    if words is not None:
        rewards = rewards + np.stack([words(side) for side in task.sides])
    return _report(parts, shares, few, mean, choice), rewards


def read_features(
    scorer: RewardModelScorer, prompts: Sequence[str], task: Task, poolings: Sequence[str]
) -> Features:
    """Reads a task's texts, each after its prompt, and every different one once.

    Args:
        scorer: Of a `PooledRewardModel`.
        prompts: What the N texts, or pairs of texts, answer.
        task: Its texts.
        poolings: P of them; the features of one stand behind those of the other.
    """
    pairs = [pair for side in task.sides for pair in zip(prompts, side, strict=True)]
    place: dict[tuple[str, str], int] = {}
    places = [place.setdefault(pair, len(place)) for pair in pairs]
    rows = scorer.encode([prompt for prompt, _ in place], [text for _, text in place])
    values = pooled_features(scorer.model, rows, poolings)
    return Features(values, np.array(places, dtype=np.int64).reshape(len(task.sides), -1))


def pooled_features(
    model: PooledRewardModel, rows: Sequence[Row], poolings: Sequence[str]
) -> NDArray[np.float32]:
    """Pooled hidden states of all layers that a model reads, without gradients.

    Args:
        model: In evaluation mode.
        rows: N rows, without padding.
        poolings: P of them.

    Returns:
        float32 `(P * L, N, D)`.
    """
    import torch

    from llm_gym.feedback.reward_model.pooled import width

    shape = (len(poolings) * len(model.layers), len(rows), width(model.config))
    values = np.empty(shape, dtype=np.float32)
    with torch.inference_mode():
        for numbers in by_length([len(row["input_ids"]) for row in rows], _BATCH):
            batch = [rows[number] for number in numbers]
            inputs = pad_inputs(batch, model.config.pad_token_id, device=model.device)
            values[:, numbers] = model.pooled(**inputs, poolings=poolings).float().cpu().numpy()
    return values


def poolings_of(scorer: RewardModelScorer, task: Task, config: FittingConfig) -> list[str]:
    """What to choose from: the mean, of decoders the last token, of pairs the answer's mean."""
    from llm_gym.feedback.reward_model.pooled import is_causal

    if config.pooling != "auto":
        return [config.pooling]
    if is_causal(scorer.model.trunk):
        return ["mean", "last"]
    pairs = scorer.template is None and "token_type_ids" in scorer.tokenizer.model_input_names
    return ["mean", "answer"] if pairs and task.kind == "comparisons" else ["mean"]


def layers_of(setting: str) -> list[int]:
    """The layers that a setting names: "3" or "2-5".

    Raises:
        ValueError: It names none.
    """
    first, dash, last = setting.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) < int(first):
        raise ValueError(
            f"hidden_layers={setting!r} must be auto, one layer (4) or neighbouring ones (2-5); 0 "
            "is the embeddings"
        )
    return list(range(int(first), int(last or first) + 1))


def _candidates(features: Features, poolings: int, config: FittingConfig) -> list[Reading]:
    number = len(features.values) // poolings
    found = readings(number, features.values.shape[2])
    if config.hidden_layers != "auto":
        layers = layers_of(config.hidden_layers)
        if layers[-1] >= number:
            raise ValueError(
                f"hidden_layers={config.hidden_layers!r}: the model has layers 0 (its embeddings) "
                f"to {number - 1}"
            )
        found = [Reading(tuple(layers))]
    return [reading.behind(place * number) for place in range(poolings) for reading in found]


def _fitting_in_memory(scorer: RewardModelScorer, task: Task, poolings: Sequence[str]) -> int:
    from llm_gym.feedback.reward_model.pooled import width

    vectors = len(poolings) * len(scorer.model.layers) * len(task.sides)
    return max(_FEWEST, _BYTES // (4 * vectors * width(scorer.model.config)))


def _fitted_words(
    parts: dict[str, Part], shares: dict[str, float], task: Task, mean: float
) -> tuple[WordWeights | None, float]:
    """The words' share of the reward, and of its intercept beyond the mean."""
    if not shares.get("words"):
        return None, 0.0
    report = parts["words"].report
    function, shift = fit_words(task, report["marks"], report["penalty"])
    return function.scaled(shares["words"]), shares["words"] * (shift - mean)


def _shortened(whole: PooledRewardModel, reading: Reading, pooling: str) -> PooledRewardModel:
    from llm_gym.feedback.reward_model.pooled import PooledRewardModel, without_unread_blocks

    trunk = without_unread_blocks(whole.trunk, reading.layers)
    return PooledRewardModel(trunk, reading.layers, pooling).to(whole.device).eval()


def _reading_nothing(whole: PooledRewardModel) -> PooledRewardModel:
    """The shortest model, with weights of 0: words are all there is."""
    model = _shortened(whole, Reading((0,)), "mean")
    _write(model, np.zeros(model.score.in_features))
    return model


def _write(model: PooledRewardModel, weights: NDArray[np.float64]) -> None:
    import torch

    with torch.no_grad():
        model.score.weight.copy_(torch.tensor(weights[None], dtype=torch.float32))


def _by_layer(part: Part, poolings: Sequence[str], number: int) -> dict[str, list[list[float]]]:
    """By pooling: each single layer that was tried, and the share that it explains."""
    found: dict[str, list[list[float]]] = {name: [] for name in poolings}
    for layer, explained in part.report["alone"]:
        found[poolings[layer // number]].append([layer % number, explained])
    return found


def _report(
    parts: dict[str, Part],
    shares: dict[str, float],
    task: Task,
    mean: float,
    choice: dict[str, Any] | None,
) -> dict[str, Any]:
    both = mean + sum(shares[name] * (part.predictions - mean) for name, part in parts.items())
    report: dict[str, Any] = {"words": None, "states": None}
    for name, part in parts.items():
        told = {key: part.report[key] for key in part.report if key not in ("reading", "alone")}
        report[name] = {**told, "share": shares[name]}
    if choice is not None:
        report["states"] |= choice
    return {**report, "both": task.loss(np.asarray(both)), "chosen_on": len(task)}
