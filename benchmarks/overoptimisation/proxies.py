"""Reward models of several sizes, trained on comparisons that follow the gold score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from benchmarks.overoptimisation.settings import Settings
from benchmarks.overoptimisation.world import Floats, World, word_counts


@dataclass(frozen=True, eq=False)
class Proxy:
    """A trained reward model, asked about everything.

    Attributes:
        scores: float64 `(P, A)`, standardised as the gold score is.
        validation_accuracy: Share of held-out comparisons that it predicts.
        agreement: Correlation with the gold score under the initial policy.
    """

    scores: Floats
    validation_accuracy: float
    agreement: float


def train_proxy(settings: Settings, world: World, comparisons: int, width: int, seed: int) -> Proxy:
    """Bradley-Terry training; the step of the lowest validation loss is kept.

    Args:
        settings: Sizes, learning rate and patience of proxies are in it.
        world: Prompts, answers and the gold score that raters follow.
        comparisons: Number of comparisons, a fifth of which validate.
        width: Width of both hidden layers.
        seed: Seed of comparisons, weights and batches.
    """
    rng = np.random.default_rng([seed, comparisons, width])
    chosen, rejected = compare(settings, world, comparisons, rng)
    held_out = comparisons // 5
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        inputs = chosen.shape[1]
        model = nn.Sequential(
            nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, 1),
        )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.proxy_learning_rate)
    best_loss, best_step, best = np.inf, 0, {}
    for step in range(settings.proxy_steps):
        batch = torch.from_numpy(rng.integers(held_out, comparisons, size=256))
        loss = -F.logsigmoid(model(chosen[batch]) - model(rejected[batch])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            with torch.no_grad():
                margins = model(chosen[:held_out]) - model(rejected[:held_out])  # (held_out, 1)
            held_out_loss = float(-F.logsigmoid(margins).mean())
            if held_out_loss < best_loss:
                best_loss, best_step = held_out_loss, step
                best = {name: value.clone() for name, value in model.state_dict().items()}
                accuracy = float((margins.sign() + 1).mean()) / 2  # equal answers count half
            elif step - best_step > settings.proxy_patience:
                break
    model.load_state_dict(best)
    scores = world.standardised(_scores_of_all(model, world))
    agreement = float((world.probabilities * scores * world.gold).sum(1).mean())
    return Proxy(scores, accuracy, agreement)


def compare(
    settings: Settings, world: World, count: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of answers of the initial policy to one prompt; a rater prefers one of them.

    Returns:
        Features of the chosen and of the rejected answers, `(count, D)` each.
    """
    prompts = rng.integers(len(world.prompts), size=count)
    first, second = (draw_answers(world.probabilities, prompts, rng) for _ in range(2))
    advantage = world.gold[prompts, first] - world.gold[prompts, second]
    first_wins = rng.random(count) < 1 / (1 + np.exp(-settings.rater_slope * advantage))
    chosen = features(world, prompts, np.where(first_wins, first, second))
    return chosen, features(world, prompts, np.where(first_wins, second, first))


def draw_answers(
    probabilities: Floats, prompts: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """One answer of the initial policy to each prompt (by number), int64 `(B,)`."""
    drawn = np.zeros(len(prompts), dtype=np.int64)
    for prompt in np.unique(prompts):
        rows = np.flatnonzero(prompts == prompt)
        drawn[rows] = rng.choice(probabilities.shape[1], len(rows), p=probabilities[prompt])
    return drawn


def features(world: World, prompts: NDArray[np.int64], answers: NDArray[np.int64]) -> torch.Tensor:
    """Prompt and answer word by word, one-hot, and how often each word occurs; float `(B, D)`."""
    words = int(world.answers.max()) + 1
    spelled = np.concatenate([world.prompts[prompts], world.answers[answers]], axis=1)
    one_hot = np.eye(words, dtype=np.float32)[spelled].reshape(len(prompts), -1)
    counts = word_counts(world.answers[answers], words).astype(np.float32)
    return torch.from_numpy(np.concatenate([one_hot, counts], axis=1))


def _scores_of_all(model: nn.Module, world: World) -> Floats:
    everything = np.arange(len(world.answers))
    with torch.no_grad():
        rows = [
            model(features(world, np.full(len(everything), prompt), everything))[:, 0].numpy()
            for prompt in range(len(world.prompts))
        ]
    return np.stack(rows).astype(np.float64)
