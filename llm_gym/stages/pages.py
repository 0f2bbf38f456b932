"""What a command that trains leaves for people: one page, and a command that tries the model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files import Figure, Report, write_report
from llm_gym.files.page import duration, estimate, interval
from llm_gym.files.provenance import commit, machine, versions
from llm_gym.language_models import SFT_MODEL
from llm_gym.language_models.chat import Messages
from llm_gym.scorers.texts import prompt_text
from llm_gym.stages.examples import (
    MODEL,
    SHOWN,
    answers_of,
    before_and_after,
    curves_chart,
    examples_of,
    loss_chart,
    rewarded,
    score_range_of,
    training_charts,
    writes_text,
)

if TYPE_CHECKING:
    from llm_gym.runs.callbacks import History
    from llm_gym.runs.evaluation import Evaluation

PAGE = "report.html"
"""The page of a run."""


def circumstances(settings: Mapping[str, Any]) -> dict[str, Mapping[str, object]]:
    """The tables at the end of every page: settings, versions, machine."""
    return {
        "Settings": settings,
        "Versions": {**versions(), "commit": commit() or "unknown"},
        "Machine": machine(),
    }


def command_to_try(model: str | Path, prompt: str | Messages, *options: str) -> str:
    """A command line that runs as it is: the model answers one prompt.

    Args:
        model: Its directory or name.
        prompt: Of which the first line is asked; of a conversation, the user's last turn.
        *options: Further words of the command line.
    """
    lines = (line.strip() for line in prompt_text(prompt, "prompt").splitlines())
    line = next((line for line in lines if line), "Hello")[:100]
    end_of_options = ["--"] if line.startswith("-") else []
    words = ["llm-gym", "generate", "--model", str(model), *options, *end_of_options, line]
    return shlex.join(words)


def closing(output: Path, command: str) -> str:
    """The last lines of a run: its page, its model, and a command that tries it.

    Args:
        output: Directory of the run.
        command: From `command_to_try`.
    """
    return f"report: {output / PAGE}\nmodel:  {output / MODEL}\ntry it:\n  {command}"


def pretraining_page(output: Path, metrics: Mapping[str, Any]) -> str:
    """Writes the page of `llm-gym pretrain`.

    Args:
        output: Directory of the run.
        metrics: From `llm_gym.supervised.pretrain.pretrain`.

    Returns:
        A command that tries the model.
    """
    before, after = metrics["held_out_perplexity_before"], metrics["held_out_perplexity"]
    beginnings = metrics["examples"]
    report = Report(
        title="A language model, from scratch",
        summary=f"A model of {metrics['parameters']:,} parameters has read "
        f"{metrics['tokens_seen']:,} tokens and continues text.",
        figures=(
            Figure("perplexity before", f"{before:.1f}", "per token of held-out text"),
            Figure("perplexity after", f"{after:.2f}", "the lower, the less surprised"),
            Figure("bits per byte", f"{metrics['held_out_bits_per_byte']:.3f}", "of the same text"),
            Figure("time", duration(metrics["seconds"])),
        ),
        charts=[loss_chart(metrics["loss"], metrics["config"]["steps"])],
        models=("how the model goes on",),
        comparisons=answers_of([output / MODEL], beginnings, prompt_template="{prompt}"),
        comparisons_title="Beginnings of held-out text",
        sections=circumstances(metrics["config"]),
    )
    write_report(report, output / PAGE)
    first = beginnings[0]["prompt"] if beginnings else "The"
    return command_to_try(output / MODEL, first, "--prompt-template", "{prompt}")


def fine_tuning_page(output: Path, model: str, metrics: Mapping[str, Any]) -> str:
    """Writes the page of `llm-gym sft`.

    Args:
        output: Directory of the run.
        model: Name or directory of the model that it started from.
        metrics: From `llm_gym.supervised.sft.fine_tune`.

    Returns:
        A command that tries the model.
    """
    before = metrics["held_out_answer_perplexity_before"]
    report = Report(
        title="A language model learns to answer",
        summary=f"{model} was tuned on {metrics['pairs']:,} pairs of instruction and answer.",
        figures=(
            Figure("perplexity before", f"{before:.1f}", "per token of held-out answers"),
            Figure("perplexity after", f"{metrics['held_out_answer_perplexity']:.2f}"),
            Figure("time", duration(metrics["seconds"])),
        ),
        charts=[loss_chart(metrics["loss"])],
        **before_and_after(output, model, metrics, "the pair's own answer"),
        sections=circumstances({**metrics["config"], "prompts shown as": metrics["prompt_format"]}),
    )
    write_report(report, output / PAGE)
    return command_to_try(output / MODEL, metrics["examples"][0]["prompt"])


def dpo_page(output: Path, metrics: Mapping[str, Any]) -> str:
    """Writes the page of `llm-gym dpo`.

    Args:
        output: Directory of the run.
        metrics: From `llm_gym.feedback.dpo.train_dpo`.

    Returns:
        A command that tries the model.
    """
    held_out, curves = metrics["held_out"], metrics["curves"]
    report = Report(
        title="A language model learns from preferences",
        summary=f"{metrics['config']['model']} was tuned on {metrics['preferences']:,} preferences "
        "by DPO.",
        figures=(
            Figure(
                "held-out accuracy",
                f"{100 * held_out['accuracy']:.1f} %",
                f"{held_out['pairs']:g} preferences",
            ),
            Figure("margin", f"{held_out['margin']:.3f}", "of the implicit rewards"),
            Figure("loss before", f"{metrics['held_out_before']['loss']:.3f}", "held out"),
            Figure("loss after", f"{held_out['loss']:.3f}", "held out"),
            Figure("time", duration(metrics["seconds"])),
        ),
        charts=[
            loss_chart(curves["loss"], metrics["steps"]),
            curves_chart(
                "Pairs told apart", "share", {"accuracy": curves["accuracy"]}, metrics["steps"]
            ),
            curves_chart(
                "How probable the answers are",
                "log-probability, nats",
                {"chosen": curves["chosen_log_prob"], "rejected": curves["rejected_log_prob"]},
                metrics["steps"],
            ),
        ],
        **before_and_after(output, metrics["config"]["model"], metrics, "the chosen answer"),
        sections=circumstances({**metrics["config"], "prompts shown as": metrics["prompt_format"]}),
    )
    write_report(report, output / PAGE)
    return command_to_try(output / MODEL, metrics["examples"][0]["prompt"])


def reward_model_page(
    output: Path, metrics: Mapping[str, Any], points: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Writes the page of `llm-gym reward-model`.

    Args:
        output: Directory of the run.
        metrics: From `llm_gym.feedback.reward_model.train_reward_model`, or of ratings from
            `train_rating_model`.
        points: From `learning_curve`, if one was measured.

    Returns:
        A command in which the model scores an answer.
    """
    from llm_gym.feedback.reward_model import evaluation_parts
    from llm_gym.feedback.reward_model.pictures import has_layers, layers_chart

    settings, held_out = metrics["config"], metrics["held_out"]
    examples = metrics.get("examples", ())
    if examples:
        figures, charts = evaluation_parts(held_out, points)
        words, gain = metrics["tfidf"]["accuracy"], metrics["tfidf"]["gain"]
        figures.append(
            Figure(
                "TF-IDF",
                f"{100 * words['value']:.1f} %",
                "the same comparisons by a logistic regression on words and pairs of words; this "
                f"model's figure is {100 * gain['value']:+.1f} points from it, paired 95 %: "
                f"{100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}",
            )
        )
        learnt = f"{metrics['comparisons']:,} comparisons, to say which answer people prefer"
    else:
        spearman = held_out["spearman"]
        found = estimate(spearman["value"], spearman["low"], spearman["high"], ".3f")
        value, _, note = found.partition(", " if spearman["value"] is not None else ": ")
        figures = [
            Figure("rank correlation", value, note),
            Figure("error", f"{held_out['rmse']:.2f}", "root mean square, in units of the ratings"),
        ]
        charts = []
        learnt = f"{metrics['texts']:,} rated texts, to say how people rate one"
    if metrics["loss"]:
        charts.append(loss_chart(metrics["loss"]))
    if has_layers(metrics["head"]):
        charts.append(layers_chart(metrics["head"]))
    report = Report(
        title="A reward model",
        summary=f"{settings['model']} has learnt from {learnt}.",
        figures=[*figures, Figure("time", duration(metrics["seconds"]))],
        charts=charts,
        models=("chosen", "rejected"),
        comparisons=rewarded(output / MODEL, examples),
        comparisons_title="Held-out comparisons, and the reward of both answers",
        sections=circumstances({**settings, "template": metrics["template"]}),
    )
    write_report(report, output / PAGE)
    writer = settings["model"] if writes_text(settings["model"]) else SFT_MODEL
    prompt = examples[0]["prompt"] if examples else "Write a short email"
    return command_to_try(writer, prompt, "--scorer", f"reward:{output / MODEL}")


def training_page(
    output: Path,
    settings: Mapping[str, Any],
    history: History,
    evaluations: Mapping[str, Evaluation],
) -> None:
    """Writes the page of `llm-gym train`.

    Args:
        output: Directory of the run.
        settings: Of the run, with `algorithm`, `env`, `model` and `total_tokens`.
        history: The logged figures.
        evaluations: "before" and "after", if there are held-out prompts.
    """
    write_report(
        Report(
            title=f"A language model learns by {settings.get('algorithm', 'PPO')}",
            summary=f"{settings['model']} on {settings['env']}, {settings['total_tokens']:,} "
            "tokens.",
            figures=[
                Figure(f"score {when}", f"{e.mean_score:.4g}", interval(e.low, e.high, ".4g"))
                for when, e in evaluations.items()
            ],
            charts=training_charts(history, evaluations.get("before")),
            models=tuple(evaluations),
            comparisons=examples_of(list(evaluations.values()), SHOWN),
            score_range=score_range_of(list(evaluations.values())),
            sections=circumstances(settings),
        ),
        output / PAGE,
    )
