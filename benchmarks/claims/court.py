"""What a claim is measured with: how much of everything, and trials that are done once.

A trial is a function of settings that returns figures. What it returned is kept in a file, so that
a measurement that was interrupted goes on, and two claims share what both need.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from llm_gym_known_optimum import estimator_figures

from benchmarks.algorithms.store import RunStore
from benchmarks.claims.claim import Figure
from benchmarks.claims.losses import Loss, draw, loss_of
from benchmarks.claims.world import World

Trial = Callable[..., dict[str, Any]]
T = TypeVar("T")

_HERE = Path(__file__).parent
_SHARED = ("world.py", "losses.py", "exact.py", "training.py", "court.py")


class Court:
    """How much is measured, and what was measured already.

    Args:
        store: Where trials are kept; None keeps them in memory.
        quick: Measure everything in small: the figures mean little.

    Attributes:
        quick: See above.
        cpu_seconds: What trials that were asked for took, those of earlier runs included.
        done_seconds: What those took that were done here.
    """

    def __init__(self, store: RunStore | None = None, *, quick: bool = False) -> None:
        self.store, self.quick = store, quick
        self.cpu_seconds = self.done_seconds = 0.0
        kept = [] if store is None else store.runs
        self._done: dict[str, Any] = {run["key"]: run for run in kept if run["status"] == "done"}
        self._shared = hashlib.sha256(b"".join((_HERE / name).read_bytes() for name in _SHARED))

    def pick(self, whole: T, quick: T) -> T:
        """The first, or the second where everything is to be small."""
        return quick if self.quick else whole

    def each(self, trial: Trial, settings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """What a trial returns for each of some settings.

        Args:
            trial: A function at the top of a module; what it returns is written as JSON. It is
                done again when its code was changed, that of a function among its arguments, or
                the court's.
            settings: Its arguments by name: what JSON has, functions, and dataclasses of both.
        """
        found = []
        for arguments in settings:
            key = self._key(trial, arguments)
            if key not in self._done:
                started = time.process_time()
                result = trial(**arguments)
                run = {"key": key, "settings": "", "status": "done", "result": result}
                run["cpu_seconds"] = time.process_time() - started
                self.done_seconds += run["cpu_seconds"]
                self._done[key] = run
                if self.store is not None:
                    self.store.add(run)
            self.cpu_seconds += self._done[key]["cpu_seconds"]
            found.append(self._done[key]["result"])
        return found

    def _key(self, trial: Trial, arguments: dict[str, Any]) -> str:
        code = self._shared.copy()
        code.update(json.dumps([trial, arguments], sort_keys=True, default=_plain).encode())
        names = [str(getattr(value, "name", value)) for value in arguments.values()]
        told = "/".join([f"{trial.__module__}.{trial.__qualname__}", *names])
        return f"{told[:150]}/{code.hexdigest()[:16]}"


def _plain(value: Any) -> Any:
    """What decides a trial's result, as JSON has it: of a function, its code."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    try:
        return inspect.getsource(value)
    except OSError:  # typed in, not written in a file
        code = value.__code__
        return [code.co_code.hex(), repr(code.co_consts), code.co_names]


def gradient_samples(
    world: World,
    loss: Loss,
    logits: torch.Tensor,
    sampler: torch.Tensor,
    *,
    batches: int,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minus a loss's gradient on batches of one group a prompt, and the gradient it should have.

    Args:
        world: The answers.
        loss: The loss.
        logits: The present policy.
        sampler: The policy that samples.
        batches: K.
        seed: Seed of what is sampled.

    Returns:
        Float64 `(K, D)` and `(D,)`.
    """
    generator = torch.Generator().manual_seed(seed)
    leaf = logits.detach().clone().requires_grad_()
    with torch.no_grad():
        old = world.token_log_probs(sampler)
    samples = []
    for _ in range(batches):
        sample = draw(world, sampler, loss.group_size, generator)
        scores = world.rewards[sample.prompts, sample.answers].numpy()
        value = loss_of(loss, world, leaf, old, sample, scores)
        samples.append(-torch.autograd.grad(value, leaf)[0].flatten())
    return torch.stack(samples), world.gradient(logits, loss.objective).flatten()


def cosine(samples: torch.Tensor, exact: torch.Tensor, note: str = "") -> Figure:
    """Cosine between an estimator's expectation and a gradient, noise of the mean taken out.

    The interval is 1.96 jackknife errors of the bias to either side, and all there is where not
    even the sign of the estimator is known.

    Args:
        samples: Of the estimator, `(K, D)`.
        exact: The gradient, `(D,)`.
        note: See `Figure`.
    """
    along = samples @ exact
    error = float(along.std() / len(along) ** 0.5)
    figures = estimator_figures(samples, exact)
    sign = 1.0 if float(along.mean()) > 0 else -1.0
    reach = 1.96 * figures.direction_bias_error
    biases = figures.direction_bias, figures.direction_bias - reach, figures.direction_bias + reach
    value, near, far = (sign / (1 + max(bias, 0.0)) ** 0.5 for bias in biases)
    if abs(float(along.mean())) < 1.96 * error:
        return Figure(value, -1.0, 1.0, note)
    return Figure(value, min(near, far), max(near, far), note)
