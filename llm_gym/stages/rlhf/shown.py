"""Texts that the page shows: what the models wrote, and what was said of it."""

from __future__ import annotations

import numpy as np

from llm_gym.files import Comparison, ShownAnswer
from llm_gym.files.page import spread_evenly
from llm_gym.stages.rlhf.results import ANSWERED, Results


def continued(results: Results) -> Comparison:
    """A held-out prompt, and what the first model takes for its continuation."""
    row = results.judged["pretrain"].rows[0]
    return Comparison(row["prompt"], (ShownAnswer(row["completion"]),))


def decided(results: Results) -> list[Comparison]:
    """A comparison, the preferred answer first; none if there is no vote any more."""
    vote = results.vote
    if vote is None:
        return []
    return [Comparison(vote.prompt, (ShownAnswer(vote.chosen), ShownAnswer(vote.rejected)))]


def scored(results: Results) -> list[Comparison]:
    """The held-out answer that the reward model likes least, the middle one, and the best."""
    judged = results.judged["sft"]
    order = np.argsort(judged.reward, kind="stable")
    return [
        Comparison(
            judged.rows[place]["prompt"],
            (
                ShownAnswer(
                    judged.rows[place]["completion"],
                    note=f"{which}: reward {judged.reward[place]:+.2f}, "
                    f"gold score {judged.gold[place]:.1f}",
                ),
            ),
        )
        for which, place in (
            ("the least", order[0]),
            ("in the middle", order[len(order) // 2]),
            ("the most", order[-1]),
        )
    ]


def answered(results: Results, number: int) -> list[Comparison]:
    """Answers of all models to the same few held-out prompts, with what both judges say."""
    stages = [results.judged[stage] for stage in ANSWERED]
    return [
        Comparison(
            stages[0].rows[i]["prompt"],
            tuple(
                ShownAnswer(
                    stage.rows[i]["completion"],
                    float(stage.gold[i]),
                    f"gold {stage.gold[i]:.1f}, reward model {stage.reward[i]:+.2f}",
                )
                for stage in stages
            ),
        )
        for i in spread_evenly(number, len(stages[0].rows))
    ]
