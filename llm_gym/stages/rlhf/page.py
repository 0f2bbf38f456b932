"""The page about a finished run: what every stage did, and whether the true rater is better off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from llm_gym.feedback.preferences import answers_scored, labelling_effort
from llm_gym.feedback.reward_model import calibration_chart
from llm_gym.files import (
    Chapter,
    Figure,
    Report,
    Series,
    commit,
    line_chart,
    machine,
    scatter_chart,
    versions,
)
from llm_gym.files.page import duration, interval
from llm_gym.stages.rlhf.bought import chapter_of
from llm_gym.stages.rlhf.results import Results
from llm_gym.stages.rlhf.settings import STAGES, RLHFConfig
from llm_gym.stages.rlhf.shown import answered, continued, decided, scored
from llm_gym.stages.votes import told_biases

MODELS = ("pre-trained", "fine-tuned", "after RLHF")


def report_of(config: RLHFConfig, results: Results, summary: dict[str, Any]) -> Report:
    """The page as `llm_gym.files` renders it.

    Args:
        config: Settings of the run.
        results: Results of `results.gather`.
        summary: Summary of `results.summarise`.
    """
    people = config.raters == "people"
    judges = "people" if people else "simulated raters"
    return Report(
        title="From human preferences to RLHF" if people else "From preferences to RLHF",
        summary=(
            f"{summary['votes']:,} votes of {judges} on {summary['comparisons']:,} comparisons "
            f"made a reward model, and {summary['tokens']:,} tokens of PPO against it took the "
            f"gold score ({config.true_rater}) on {summary['held_out_prompts']} held-out prompts "
            f"from {summary['gold_sft']:.1f} to {summary['gold_rlhf']:.1f}."
        ),
        figures=_tiles(summary),
        chapters=(
            _pretraining(results, config),
            _fine_tuning(results),
            _comparing(results, config),
            _reward_model(results),
            _optimisation(results, summary),
            _judges(results, summary),
            chapter_of(results.bought, *(results.judged[stage].rows for stage in ("sft", "ppo"))),
        ),
        models=MODELS,
        comparisons=answered(results, config.shown_prompts),
        score_range=_range(results),
        sections={
            "Time of each stage": {
                f"{number}. {stage}": duration(results.records[stage].seconds)
                for number, stage in enumerate(STAGES, start=1)
            }
            | {"all": duration(sum(record.seconds for record in results.records.values()))},
            "Settings": asdict(config),
            "Versions": {**versions(), "commit": commit() or "unknown"},
            "Machine": machine(),
        },
    )


def _tiles(summary: dict[str, Any]) -> tuple[Figure, ...]:
    accuracy, low, high = (
        f"{100 * summary[f'reward_model_accuracy{end}']:.1f}" for end in ("", "_low", "_high")
    )
    scored = (("fine-tuned", "gold_sft"), ("after RLHF", "gold_rlhf"))
    return (
        Figure("gold score, pre-trained", f"{summary['gold_pretrained']:.1f}"),
        *(
            Figure(f"gold score, {stage}", f"{summary[name]:.1f}", _interval(summary, name))
            for stage, name in scored
        ),
        Figure(
            "gain from RLHF",
            f"{summary['gold_gain']:+.1f}",
            _interval(summary, "gold_gain", "+.1f"),
        ),
        Figure(
            "reward model's accuracy", f"{accuracy} %", f"{low} to {high} % (95 %), held-out votes"
        ),
        Figure("divergence", f"{summary['kl']:.1f} nats", "KL per answer to the fine-tuned model"),
    )


def _range(results: Results) -> tuple[float, float]:
    """Of the score bars: 0 to 100 where that holds all gold scores, as politeness has it."""
    gold = np.concatenate([judged.gold for judged in results.judged.values()])
    low, high = min(0.0, float(gold.min())), float(gold.max())
    return low, 100.0 if 1.0 < high <= 100.0 else max(high, low + 1.0)


def _interval(summary: dict[str, Any], name: str, style: str = ".1f") -> str:
    return interval(summary[f"{name}_low"], summary[f"{name}_high"], style)


def _pretraining(results: Results, config: RLHFConfig) -> Chapter:
    figures = results.figures("pretrain")
    title = "1. Pre-training"
    shown: dict[str, Any] = {"models": ("how it goes on",), "comparisons": [continued(results)]}
    if config.start_from is not None:
        return Chapter(
            title,
            "Left out: the run starts from another model.",
            {"model": config.start_from},
            **shown,
        )
    return Chapter(
        title,
        "A small language model learns to continue text.",
        {
            "parameters": f"{figures['parameters']:,}",
            "tokens seen": f"{figures['tokens_seen']:,}",
            "held-out perplexity per token": _change(figures, "perplexity"),
            "bits per byte": f"{figures['bits_per_byte']:.3f}",
        },
        [_loss_chart("Loss of pre-training", figures["loss"])],
        **shown,
    )


def _fine_tuning(results: Results) -> Chapter:
    figures = results.figures("sft")
    return Chapter(
        "2. Fine-tuning on instructions",
        "It learns to answer: the loss is on the answers only.",
        {
            "pairs": f"{figures['pairs']:,}",
            "held-out perplexity of the answers": _change(figures, "perplexity"),
            "answers that it ends itself": f"{100 * figures['ended']:.0f} %",
        },
        [_loss_chart("Loss of fine-tuning", figures["loss"])],
    )


def _comparing(results: Results, config: RLHFConfig) -> Chapter:
    figures = results.figures("compare")
    agreement = figures["agreement"]
    measured = figures["seconds_measured_on_votes"]
    rows: dict[str, object] = {
        "comparisons": f"{figures['comparisons']:,}",
        "votes": f"{figures['votes']:,} by {figures['raters']} raters, {figures['ties']} ties",
        "two raters agree": "no comparison has two votes"
        if agreement is None
        else f"{100 * agreement:.1f} % of the time ({100 * figures['agreement_low']:.1f} to "
        f"{100 * figures['agreement_high']:.1f} %), Krippendorff's alpha {figures['alpha']:.2f}",
        "what that takes people": f"{figures['hours']:.1f} hours at "
        f"{figures['seconds_per_vote']:.0f} s a vote "
        + (f"(measured on {measured:,} votes)" if measured else "(assumed)"),
        "what that costs": _cost(figures),
    }
    rows["what raters may like besides"] = told_biases(figures["biases"])
    if config.raters == "simulated":
        rows["the raters"] = _simulated(config)
    return Chapter(
        "3. Comparisons",
        "Which of two answers of the fine-tuned model is better? Below one that was decided.",
        rows,
        models=("preferred", "not preferred"),
        comparisons=decided(results),
    )


def _cost(figures: dict[str, Any]) -> str:
    price = figures["cost"] / figures["hours"] if figures["hours"] else 0.0
    source = "assumed" if figures["price_is_assumed"] else "given"
    return f"{figures['cost']:,.0f}, at {price:,.0f} an hour ({source})"


def _simulated(config: RLHFConfig) -> str:
    tastes = [
        f"{weight:+g} for each {what}"
        for what, weight in (
            ("word", config.length_bias),
            ("flattering phrase", config.flattery_bias),
        )
        if weight
    ]
    return (
        f"simulated: {config.true_rater}{''.join(', ' + taste for taste in tastes)}, with noise "
        f"of scale {config.rater_noise:g}"
    )


def _reward_model(results: Results) -> Chapter:
    figures = results.figures("reward-model")
    low, high = (100 * figures[f"accuracy_{end}"] for end in ("low", "high"))
    return Chapter(
        "4. The reward model",
        "It learns to predict the votes, and is measured on votes about prompts it has not seen.",
        {
            "votes to learn from": f"{figures['votes']:,}",
            "accuracy": f"{100 * figures['accuracy']:.1f} % of {figures['held_out']:,} held-out "
            f"votes ({low:.1f} to {high:.1f} %)",
            "accuracy of a bag of words on the same votes": _percent(figures["bag_of_words"]),
            "calibration error": f"{figures['calibration_error']:.3f}",
            "prefers the answer with the higher gold score": _percent(figures["gold_accuracy"]),
            "the votes themselves do so": _percent(figures["votes_by_gold"]),
        },
        [
            _loss_chart("Loss of the reward model", figures["loss"], unit="nats per comparison"),
            calibration_chart(figures["calibration"]),
        ],
        models=("answer of the fine-tuned model",),
        comparisons=scored(results),
    )


def _optimisation(results: Results, summary: dict[str, Any]) -> Chapter:
    steps = [look["step"] for look in results.looks]
    gold = [float(np.mean(look["gold"])) for look in results.looks]
    kl, length = (
        _curve(results.rollouts, key) for key in ("rollout/kl_per_sequence", "rollout/ep_len_mean")
    )
    axis = "tokens generated"
    by_hand = labelling_effort(answers_scored(summary["tokens"], summary["length_sft"]))
    return Chapter(
        "5. PPO against the reward model",
        "The model is paid by the reward model and never sees the gold score; both are measured on "
        "held-out prompts.",
        {
            "tokens": f"{summary['tokens']:,}",
            "answers that the reward model judged": f"about {by_hand.judgements:,}; by hand, "
            f"{by_hand.hours:,.1f} hours at {by_hand.seconds_per_vote:.0f} s each (assumed)",
            "reward model's score": f"{summary['reward_sft']:.2f} before, "
            f"{summary['reward_rlhf']:.2f} after",
            "perplexity of the answers under the fine-tuned model": "times "
            f"{summary['perplexity_ratio']:.2f}",
            "length of an answer": f"{summary['length_sft']:.1f} tokens before, "
            f"{summary['length_rlhf']:.1f} after",
        },
        [
            line_chart(
                [Series("gold", steps, gold)],
                title="Gold score, held-out prompts",
                x_label=axis,
                y_label="gold score",
                reference=("fine-tuned", gold[0]),
            ),
            line_chart(
                [
                    Series("gold", steps, _gained(results, "gold")),
                    Series("reward model", steps, _gained(results, "proxy")),
                ],
                title="Both judges, held-out prompts",
                x_label=axis,
                y_label="gain (standard deviations at first)",
                reference=("fine-tuned", 0.0),
            ),
            line_chart(
                [Series("KL", *kl)],
                title="Distance from the fine-tuned model",
                x_label=axis,
                y_label="KL (nats per answer)",
            ),
            line_chart(
                [Series("length", *length)],
                title="Length of the answers",
                x_label=axis,
                y_label="tokens",
                reference=("fine-tuned", summary["length_sft"]),
            ),
        ],
    )


def _gained(results: Results, judge: str) -> list[float]:
    """A judge's mean over training, less the first, in standard deviations of the first answers.

    So both have one scale: where the reward model gains and the gold score does not, it is being
    exploited.
    """
    first = np.asarray(results.looks[0][judge], dtype=np.float64)
    spread = float(first.std()) or 1.0  # of answers that are all alike
    return [float((np.mean(look[judge]) - first.mean()) / spread) for look in results.looks]


def _judges(results: Results, summary: dict[str, Any]) -> Chapter:
    before, after = results.judged["sft"], results.judged["ppo"]
    clouds = [
        Series(name, judged.gold.tolist(), judged.reward.tolist())
        for name, judged in (("fine-tuned", before), ("after RLHF", after))
    ]
    return Chapter(
        "Reward model against true rater",
        "Optimisation looks for answers that the reward model overrates, so it should be asked "
        "again how well the two agree on the answers of the trained model. (That these answers "
        "are more alike lowers the correlation, too.)",
        {
            f"rank correlation, {name}": "not defined: all scores are the same"
            if summary[key] is None
            else f"{judged.correlation.value:.2f} ({judged.correlation.low:.2f} to "
            f"{judged.correlation.high:.2f})"
            for name, key, judged in (
                ("answers of the fine-tuned model", "correlation_sft", before),
                ("answers after RLHF", "correlation_rlhf", after),
            )
        },
        [
            scatter_chart(
                clouds,
                title="Answers to held-out prompts",
                x_label="gold score",
                y_label="reward",
            )
        ],
    )


def _loss_chart(title: str, loss: Sequence[float], unit: str = "nats per token") -> str:
    share = [100 * (index + 1) / len(loss) for index in range(len(loss))]
    return line_chart(
        [Series("loss", share, loss)], title=title, x_label="% of the steps", y_label=unit
    )


def _curve(rows: list[dict[str, float]], key: str) -> tuple[list[float], list[float]]:
    points = {row["step"]: row[key] for row in rows if row.get(key) is not None}
    return list(points), list(points.values())


def _change(figures: dict[str, Any], name: str) -> str:
    return f"{figures[f'{name}_before']:.4g} before, {figures[name]:.2f} after"


def _percent(share: float | None) -> str:
    return "no two answers differ in it" if share is None else f"{100 * share:.1f} %"
