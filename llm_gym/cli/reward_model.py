"""The command `reward-model`: from votes, preferences or ratings to a reward model."""

from __future__ import annotations

import warnings
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from llm_gym.cli.config_file import command_directory
from llm_gym.cli.options import Output, with_options_of
from llm_gym.cli.runs import interruptible
from llm_gym.feedback.reward_model.comparisons import RewardModelConfig
from llm_gym.files.page import estimate
from llm_gym.files.rows import DataWarning

EXAMPLES = """\
From the votes of `llm-gym label`, from a file in TRL's format, from ratings:

\b
  llm-gym reward-model votes.db --output runs/reward
  llm-gym reward-model preferences.jsonl --model my-encoder
  llm-gym reward-model preferences.jsonl --model my-model --head finetune --epochs 2
  llm-gym reward-model stars.jsonl --ratings"""


@with_options_of(RewardModelConfig)
def reward_model(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Argument(
            help="Preferences (.jsonl, .json, .csv, .parquet), votes (.db, .sqlite), or with "
            '--ratings rows with "text" and "ratings" (a number or a list).'
        ),
    ],
    output: Output = Path("runs/reward-model"),
    ratings: Annotated[
        bool, typer.Option("--ratings", help="The data are ratings of texts, not comparisons.")
    ] = False,
    learning_curve: Annotated[
        bool,
        typer.Option("--learning-curve", help="Also train on ever larger parts of the data."),
    ] = False,
    **values: Any,
) -> None:
    """Train a model to predict which answer people prefer, or how they rate a text."""
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.stages.pages import closing

    config = RewardModelConfig(**values)
    if ratings and learning_curve:
        raise ValueError("--learning-curve needs comparisons; leave out --ratings")
    quiet_libraries()
    interrupted = f"interrupted; nothing was written to {output}"
    with interruptible(interrupted), command_directory(context, output):
        if ratings:
            command = _train_on_ratings(data, output, config)
        else:
            command = _train_on_comparisons(data, output, config, learning_curve)
    print(closing(output, command))


def _train_on_comparisons(
    data: Path, output: Path, config: RewardModelConfig, learning_curve: bool
) -> str:
    from llm_gym.feedback.preferences import preferences_from
    from llm_gym.feedback.reward_model import curve, train_reward_model
    from llm_gym.feedback.reward_model.rival import told_rival
    from llm_gym.files.atomic import write_json
    from llm_gym.stages.pages import MODEL, reward_model_page

    preferences = preferences_from(data, config.contradictions, bad_rows=config.bad_rows)
    points = curve.learning_curve(preferences, config) if learning_curve else []
    with warnings.catch_warnings():
        if points:  # the curve has said which comparisons are too long
            warnings.simplefilter("ignore", DataWarning)
        metrics = train_reward_model(preferences, output / MODEL, config)
    measured = metrics["held_out"]
    accuracy = measured["accuracy"]
    if points:
        write_json(output / "learning_curve.json", points)
    for point in points:
        print(f"{point['comparisons']:>8} comparisons: accuracy {point['accuracy']['value']:.3f}")
    temperature = measured["temperature"]
    print(
        f"held-out accuracy {accuracy['value']:.3f} (95 %: {accuracy['low']:.3f} to "
        f"{accuracy['high']:.3f}, {accuracy['n']} comparisons), calibration error "
        f"{measured['calibration_error']:.3f}"
        + ("" if temperature is None else f", temperature {temperature:.2f}")
    )
    print(told_rival(metrics))
    print_head(metrics)
    return reward_model_page(output, metrics, points)


def print_head(metrics: dict[str, Any]) -> None:
    """Says what a reward of frozen parts is made of.

    Args:
        metrics: Of the training.
    """
    head = metrics["head"]
    if head is None:
        return
    told = []
    words, states = head["words"], head["states"]
    if words is not None and words["share"]:
        told.append(f"words ({words['share']:.2f} of them)")
    if states is not None and states["share"]:
        first, last = states["layers"][0], states["layers"][-1]
        layers = f"layer {first}" if first == last else f"layers {first} to {last}"
        told.append(f"{layers} by {states['pooling']} ({states['share']:.2f} of them)")
    print(f"made of {' and '.join(told)}")


def _train_on_ratings(data: Path, output: Path, config: RewardModelConfig) -> str:
    from llm_gym.feedback.reward_model import RatingModelConfig, train_rating_model
    from llm_gym.feedback.reward_model.fitting import OF_STEPS
    from llm_gym.feedback.reward_model.rated_texts import read_rated_texts
    from llm_gym.feedback.reward_model.rival import told_rival
    from llm_gym.stages.pages import MODEL, reward_model_page

    rated = read_rated_texts(data, bad_rows=config.bad_rows)
    default = type(config)()
    shared = {field.name for field in fields(RatingModelConfig)}
    misplaced = [
        field.name
        for field in fields(config)
        if field.name not in shared and getattr(config, field.name) != getattr(default, field.name)
    ]
    if misplaced:
        raise ValueError(
            f"--{misplaced[0].replace('_', '-')} is for comparisons; leave it out with --ratings"
        )
    values = {name: getattr(config, name) for name in shared if hasattr(config, name)}
    if config.head != "finetune":  # comparisons have other defaults, and none counts
        values = {name: value for name, value in values.items() if name not in OF_STEPS}
    if config.template == "auto":  # ratings come without prompts
        del values["template"]
    metrics = train_rating_model(
        rated.texts,
        rated.ratings,
        output / MODEL,
        RatingModelConfig(**values),
        places=rated.places,
    )
    held_out = metrics["held_out"]
    spearman = held_out["spearman"]
    found = estimate(spearman["value"], spearman["low"], spearman["high"], ".3f")
    print(f"held-out rank correlation with the mean rating of {spearman['n']} texts: {found}")
    print(told_rival(metrics))
    print_head(metrics)
    print(f"error {held_out['rmse']:.2f}")
    return reward_model_page(output, metrics)
