"""Looks whose answers to the five questions are known, made by hand."""

from __future__ import annotations

import json

import numpy as np

from llm_gym.files import atomic
from llm_gym.runs.trace import LOOKS, Look, TracedAnswer, encode

WORDS = ["Dear", " Ada", ",", " thank", " you", "!"]
PROB = [0.5, 0.9, 0.8, 0.125, 0.9, 0.7]
AFTER = [0.4, 0.9, 0.7, 0.625, 0.8, 0.6]
ADVANTAGE = [1.0, 2.0, -3.0, 4.0, 12.5, 0.5]
VALUE = [40.0, 42.0, 44.0, 43.0, 60.0, 71.0]
KL = [0.25, 3.5, 0.0, 0.5, -1.0, 0.25]
VOCABULARY = {token: f" word{token}" for token in range(20)}


def answer(words=tuple(WORDS), *, kind="rollout", number=0, prompt="Write to Ada.", **changes):
    n = len(words)
    columns = {
        "log_prob": np.log(PROB), "log_prob_after": np.log(AFTER), "advantage": ADVANTAGE,
        "value": VALUE, "kl": KL, "entropy": [0.5] * 6, "clipped": [0, 0, 0, 1, 0, 0],
        "reward": [0, 0, 0, 0, 0, 72],
    }  # fmt: skip
    quantities = {
        name: np.resize(np.asarray(column, dtype=np.float32), n) for name, column in columns.items()
    }
    tops = np.log(np.tile(np.float32([0.5, 0.25, 0.1, 0.05, 0.025]), (n, 1)))
    fields = {
        "kind": kind, "number": number, "prompt": prompt, "prompt_ids": (1, 2),
        "texts": tuple(words), "ids": np.arange(n, dtype=np.int32),
        "by_agent": np.ones(n, dtype=bool),
        "quantities": quantities, "score": 72.0, "stop_reason": "eos",
        "top_ids": np.tile(np.arange(3, 8, dtype=np.int32), (n, 1)),
        "top_log_prob": tops, "top_log_prob_after": tops[:, ::-1],
    }  # fmt: skip
    return TracedAnswer(**(fields | changes))


def probe(words, **changes):
    kept = {"log_prob", "log_prob_after", "value", "kl", "entropy"}
    quantities = {n: c for n, c in answer(words).quantities.items() if n in kept}
    return answer(
        words,
        kind="probe",
        prompt="Ask for a day off.",
        score=None,
        quantities=quantities,
        **changes,
    )


def write_look(directory, step, *answers, **fields):
    defaults = {"algorithm": "PPO", "vocabulary": VOCABULARY, "clip": (0.2, 0.2), "kl_coef": 0.1}
    look = Look(step=step, end=step + 100, answers=answers, **(defaults | fields))
    return atomic.write_bytes(LOOKS.file_of(directory, step), encode(look))


def write_run(directory):
    """Two looks: the same prompt's answer before and after, and a sample that was learnt from."""
    write_look(directory, 0, probe(["No", " way", "."]), answer())
    cut = answer(stop_reason="length", number=1)
    write_look(directory, 100, probe(["Please", ",", " sir", "."]), answer(), cut)
    rows = [{"step": 100 * k, "rollout/ep_rew_mean": 10.0 * k, "train/loss": None} for k in (1, 2)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    atomic.write_text(directory / "metrics.jsonl", text)
    return directory
