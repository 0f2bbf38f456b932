"""The exercises of lesson 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from checks import same


def perplexity(answer: Callable[..., Any]) -> None:
    """`exp` of the mean surprise."""
    certain, fair = [0.0, 0.0], [math.log(0.5)] * 3
    same(answer(certain), 1.0, "the perplexity of a text that was certain")
    same(answer(fair), 2.0, "the perplexity where each of three tokens had probability 1/2")
    mixed = [math.log(0.5), math.log(0.125)]
    same(answer(mixed), 4.0, "the perplexity of two tokens with probabilities 1/2 and 1/8")


def with_temperature(answer: Callable[..., Any]) -> None:
    """`softmax(logits / temperature)`."""
    logits = torch.tensor([0.0, math.log(2.0), math.log(4.0)])
    for temperature, squares in ((1.0, [1.0, 2.0, 4.0]), (0.5, [1.0, 4.0, 16.0])):
        wanted = [value / sum(squares) for value in squares]
        asked = f"of logits log 1, log 2, log 4 at temperature {temperature}, the probabilities"
        same(answer(logits, temperature), wanted, asked)
    same(answer(logits + 5, 1e4).round(decimals=3), [0.333] * 3, "at a very high temperature, they")
