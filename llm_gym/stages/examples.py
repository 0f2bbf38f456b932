"""What the pages of runs are made of: curves, and answers of models beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files import Comparison, Series, ShownAnswer, line_chart
from llm_gym.files.page import spread_evenly
from llm_gym.language_models.chat import plain_text

if TYPE_CHECKING:
    from llm_gym.runs.callbacks import History
    from llm_gym.runs.evaluation import Evaluation

MODEL = "model"
"""The directory of a run's final model."""

SHOWN = 6  # examples on a page
_ANSWER = 64  # most tokens of an answer there


def training_charts(
    history: History, before: Evaluation | None = None, answers: str = "answers"
) -> list[str]:
    """The curves of a run of reinforcement learning.

    Args:
        history: The logged figures.
        before: How good the model was, drawn as a line.
        answers: What an answer is called.
    """
    level = None if before is None else ("before", before.mean_score)
    length = None if before is None else ("before", before.mean_length)
    charts = [
        (f"Score of the sampled {answers}", "score", ["rollout/ep_rew_mean"], level),
        ("Distance from the first model", "KL (nats)", ["rollout/kl_per_sequence"], None),
        (f"Length of the {answers}", "tokens", ["rollout/ep_len_mean"], length),
        ("How sure the model is", "entropy (nats a token)", ["train/entropy"], None),
        ("How well the critic predicts", "explained variance", ["train/explained_variance"], None),
    ]
    if not history.curve("train/entropy")[0]:  # of imitation and DPO; elsewhere it means nothing
        charts.append(("Loss", "loss", ["train/loss"], None))
    drawn = []
    for title, label, keys, reference in charts:
        steps, values = history.curve(*keys)
        if steps:
            drawn.append(
                line_chart(
                    [Series(title, steps, values)],
                    title=title,
                    x_label="tokens generated",
                    y_label=label,
                    reference=reference,
                )
            )
    return drawn


def examples_of(evaluations: Sequence[Evaluation], number: int) -> list[Comparison]:
    """The same few answers of several models, spread over the prompts: not picked by result."""
    rows = list(zip(*(evaluation.rows for evaluation in evaluations), strict=True))
    return [
        Comparison(
            rows[i][0].prompt, tuple(ShownAnswer(row.completion, row.score) for row in rows[i])
        )
        for i in spread_evenly(number, len(rows))
    ]


def loss_chart(losses: Sequence[float], steps: int | None = None) -> str:
    """The loss over the steps."""
    return curves_chart("Loss while it learnt", "loss", {"loss": losses}, steps)


def curves_chart(
    title: str, label: str, curves: Mapping[str, Sequence[float]], steps: int | None = None
) -> str:
    """Curves that were thinned out, over the steps or, where their number is not known, in %."""
    longest = max(map(len, curves.values()))
    width = (steps or 100) / max(longest, 1)
    return line_chart(
        [
            Series(name, [width * (n + 1) for n in range(len(values))], list(values))
            for name, values in curves.items()
        ],
        title=title,
        x_label="steps" if steps else "% of the steps",
        y_label=label,
    )


def before_and_after(
    output: Path, model: str, metrics: Mapping[str, Any], right: str
) -> dict[str, Any]:
    """What the two models answer to the held-out examples, beside the answer of the data."""
    template = metrics["config"]["prompt_template"]
    comparisons = answers_of([model, output / MODEL], metrics["examples"], template)
    answers = {plain_text(row["prompt"]): row["completion"] for row in metrics["examples"]}
    return {
        "models": ("before", "after", right),
        "comparisons": [
            Comparison(c.prompt, (*c.answers, ShownAnswer(answers[c.prompt]))) for c in comparisons
        ],
    }


def rewarded(model: Path, examples: Sequence[Mapping[str, Any]]) -> list[Comparison]:
    """Held-out comparisons with the rewards of their answers."""
    from llm_gym.feedback.reward_model import RewardModelScorer

    if not examples:
        return []
    scorer = RewardModelScorer(model)
    prompts = [row["prompt"] for row in examples]
    sides = []
    for side in ("chosen", "rejected"):
        texts = [row[side] for row in examples]
        rewards = scorer(prompts, texts)
        sides.append(
            [ShownAnswer(t, note=f"reward {r:+.2f}") for t, r in zip(texts, rewards, strict=True)]
        )
    return [
        Comparison(plain_text(prompt), answers)
        for prompt, answers in zip(prompts, zip(*sides, strict=True), strict=True)
    ]


def writes_text(model: str) -> bool:
    """Whether a model writes texts, as a causal language model does."""
    from llm_gym.language_models.adapter_files import is_adapter
    from llm_gym.language_models.classifier_adapters import is_classifier
    from llm_gym.language_models.embedded import resolve
    from llm_gym.language_models.loading import load_config

    source = resolve(model)
    if is_adapter(source) and is_classifier(source):
        return False
    kinds = tuple(load_config(model).architectures or ())
    return any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds)


def answers_of(
    models: Sequence[str | Path],
    examples: Sequence[Mapping[str, Any]],
    prompt_template: str | None = None,
) -> list[Comparison]:
    """Answers of models to examples; a prompt that fills the context of one is left out."""
    from llm_gym.runs.evaluation import evaluate
    from llm_gym.stages.by_name import (
        TEXT_GENERATION,
        context_left,
        environment_kwargs,
        no_score,
    )

    rooms = context_left(str(models[-1]), examples, prompt_template)
    fitting = [
        (row, _ANSWER if room is None else min(room, _ANSWER))
        for row, room in zip(examples, rooms, strict=True)
        if room is None or room >= 1
    ]
    if not fitting:
        return []
    shown, most = [row for row, _ in fitting], min(room for _, room in fitting)
    evaluations = []
    for model in map(str, models):
        kwargs = environment_kwargs(
            TEXT_GENERATION, model, prompt_template=prompt_template, max_new_tokens=most
        )
        prompts = [{"prompt": row["prompt"]} for row in shown]
        evaluations.append(evaluate(model, {**kwargs, "scorer": no_score, "prompts": prompts}))
    rows = zip(*(evaluation.rows for evaluation in evaluations), strict=True)
    return [
        Comparison(plain_text(example["prompt"]), tuple(ShownAnswer(a.completion) for a in answers))
        for example, answers in zip(shown, rows, strict=True)
    ]


def score_range_of(evaluations: Sequence[Evaluation]) -> tuple[float, float]:
    """Of the score bars: of all that was scored."""
    scores = [row.score for e in evaluations for row in e.rows if row.score is not None]
    low, high = min(scores, default=0.0), max(scores, default=1.0)
    return min(low, 0.0), max(high, low + 1e-9, 1e-9)
