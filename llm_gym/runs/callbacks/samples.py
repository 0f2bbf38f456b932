"""Samples of what the model writes while it learns, as text."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from llm_gym.files.ranges import check_numbers
from llm_gym.files.untrusted import as_markdown
from llm_gym.runs.logs import cut_rows
from llm_gym.text.answer import Answer, Conversation, transcript

SHOWN = 40
"""Most messages of a conversation that are kept of it: its first and its last."""


class SampleCallback(BaseCallback):
    """Logs the last finished episodes of every rollout as text.

    They go to TensorBoard (key `samples/text`, shown literally whatever the model wrote), to
    `latest` for a live display, and, if a path is given, to a file of JSON lines.

    Args:
        per_rollout: How many episodes to keep of each rollout.
        path: Append the samples to this file, one JSON object a line. A run that begins starts it
            anew; one that goes on keeps what was written up to there.

    Attributes:
        latest: The last answers of this rollout; a prompt is as the model read it, template
            included, without special tokens.
    """

    def __init__(self, per_rollout: int = 4, path: str | Path | None = None) -> None:
        super().__init__()
        check_numbers(per_rollout=per_rollout)
        self.path = None if path is None else Path(path)
        self.latest: deque[Answer] = deque(maxlen=per_rollout)

    def _on_training_start(self) -> None:
        self._tokenizer = self.training_env.get_attr("tokenizer")[0]
        if self.path is not None:
            cut_rows(self.path, self.model.num_timesteps or None)

    def _on_rollout_start(self) -> None:
        self.latest.clear()

    def _on_step(self) -> bool:
        dones = self.locals["dones"]
        if dones.any():
            infos = self.locals["infos"]
            # The deque keeps the last few, so rows before those need not be looked at.
            for row in np.flatnonzero(dones)[-(self.latest.maxlen or 1) :]:
                if "completion" in infos[row]:
                    self.latest.append(self._sample(infos[row]))
        return True

    def _sample(self, info: dict[str, Any]) -> Answer:
        # The row has begun its next episode; what is left of this one is its last observation.
        score = info.get("score")
        if "messages" in info:
            messages = tuple(info["messages"])
            return Conversation(
                prompt=messages[0]["content"],
                completion=transcript(_shortened(messages)[1:]),
                score=float(info["episode"]["r"] if score is None else score),
                stop_reason=info["stop_reason"],
                messages=messages,
                tokens=info["episode"]["l"],
                end_reason=info["end_reason"],
            )
        last = info["terminal_observation"]
        is_prompt = (last["attention_mask"] == 1) & (last["completion_mask"] == 0)
        return Answer(
            prompt=self._tokenizer.decode(last["input_ids"][is_prompt], skip_special_tokens=True),
            completion=info["completion"],
            score=None if score is None else float(score),
            stop_reason=info["stop_reason"],
        )

    def _on_rollout_end(self) -> None:
        if not self.latest:
            return
        text = "\n\n---\n\n".join(_markdown(sample) for sample in self.latest)
        self.logger.record("samples/text", text, exclude=("stdout", "log", "json", "csv"))
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                for sample in self.latest:
                    row = {"step": self.model.num_timesteps, **_json_row(sample)}
                    file.write(json.dumps(row) + "\n")


def _shortened(messages: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """First and last messages of a conversation."""
    left_out = len(messages) - SHOWN
    if left_out <= 0:
        return list(messages)
    gap = {"role": "note", "content": f"... {left_out} messages ..."}
    return [*messages[: SHOWN // 2], gap, *messages[-SHOWN // 2 :]]


def _json_row(sample: Answer) -> dict[str, Any]:
    if isinstance(sample, Conversation):
        return {
            "messages": _shortened(sample.messages),
            "turns": sample.turns,
            "score": sample.score,
            "end_reason": sample.end_reason,
        }
    return {
        "prompt": sample.prompt,
        "completion": sample.completion,
        "score": sample.score,
        "stop_reason": sample.stop_reason,
    }


def _markdown(sample: Answer) -> str:
    score = "not scored" if sample.score is None else f"score {sample.score:.4g}"
    return "\n\n".join(
        [
            f"**{score}**, {sample.stop_reason}",
            as_markdown(sample.prompt),
            "answer:",
            as_markdown(sample.completion),
        ]
    )
