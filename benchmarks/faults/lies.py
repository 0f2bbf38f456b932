"""Lies that a checkpoint can tell although every digest in it fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

Tensors = dict[str, torch.Tensor]


class Lie(NamedTuple):
    """A change of a checkpoint.

    Attributes:
        what: The tensor or the value, and what becomes of it.
        tell: Changes the values of `checkpoint.json` and the tensors, in place.
    """

    what: str
    tell: Callable[[dict[str, Any], Tensors], None]


class _Gone:
    def __repr__(self) -> str:
        return "left out"


GONE = _Gone()

_DEEP: list[Any] = []
for _ in range(200):
    _DEEP = [_DEEP]

VALUES: list[tuple[str, Any]] = [
    ("format", "2"),
    ("format", True),
    ("llm_gym", None),
    ("algorithm", GONE),
    ("algorithm", ["PPO"]),
    ("num_timesteps", "x"),
    ("num_timesteps", -1),
    ("num_timesteps", 40.5),
    ("num_timesteps", 10**400),
    ("total_timesteps", "x"),
    ("total_timesteps", None),
    ("total_timesteps", True),
    ("n_updates", []),
    ("n_updates", GONE),
    ("progress_remaining", "x"),
    ("progress_remaining", 1.5),
    ("progress_remaining", 10**400),
    ("episode_infos", None),
    ("episode_infos", {}),
    ("episode_infos.0", {}),
    ("episode_infos.0.r", "x"),
    ("episode_infos.0", 7),
    ("episode_successes", "x"),
    ("episode_successes", [_DEEP]),
    ("last_episode_starts", [True]),
    ("last_episode_starts", [0, 1, 0, 1]),
    ("last_episode_starts", None),
    ("last_episode_starts", "xxxx"),
    ("optimizer", None),
    ("optimizer.param_groups", []),
    ("optimizer.param_groups.0.lr", "x"),
    ("optimizer.param_groups.0.lr", -1.0),
    ("optimizer.param_groups.0.betas", 0.9),
    ("optimizer.param_groups.0.betas", [5.0, -3.0]),
    ("optimizer.param_groups.0.maximize", True),
    ("optimizer.param_groups.0.fused", "yes"),
    ("optimizer.param_groups.0.params", [0]),
    ("optimizer.param_groups.0.params.0", 10**9),
    ("optimizer.param_groups.0.surplus", 1),
    ("optimizer.scalars", []),
    ("optimizer.scalars.x", {}),
    ("optimizer.scalars.99", {}),
    ("optimizer.scalars.0", GONE),
    ("optimizer.scalars.0.exp_avg", 1.0),
    ("random", {}),
    ("random.policy_device", "nowhere"),
    ("random.policy_device", "cuda"),
    ("random.numpy", ["MT19937", 10**6, 0, 0.0]),
    ("random.numpy", ["PCG64", 1, 0, 0.0]),
    ("random.python", [3, [1, 2, 3], None]),
    ("random.python.1.624", 10**6),
    ("random.python.0", 4),
    ("random.buffer", None),
    ("random.buffer.bit_generator", "test"),
    ("random.buffer.bit_generator", "seed"),
    ("random.buffer.state.state", -1),
    ("random.buffer.state.inc", 2),
    ("environment", None),
    ("environment", "x"),
    ("environment.env", []),
    ("environment.env.rngs", []),
    ("environment.env.rngs.0.bit_generator", "MT19937"),
    ("environment.env.rngs.0.state.state", 2**200),
    ("environment.env.has_begun", True),
    ("environment.env.episodes.source.checksum", 1),
    ("environment.env.episodes.cursors.0.position", 10**6),
    ("environment.env.episodes.cursors.0.pass_rng", None),
    ("environment.env.episodes.rows.0.prompt.index", 10**6),
    ("environment.env.episodes.rows.0.prompt.index", -1),
    ("environment.env.episodes.rows.0.completion_ids", [10**6]),
    ("environment.env.episodes.rows.0.completion_ids", [1] * 1000),
    ("environment.env.episodes.rows.0.completion_ids", "x"),
    ("environment.env.episodes.rows.0.running", "yes"),
    ("environment.returns", [0.0]),
    ("environment.lengths.0", -5),
    ("own", "x"),
    ("own", {}),
    ("own.kl_coef", -1.0),
    ("own.return_statistics.var", -1.0),
    ("own.return_statistics.count", "x"),
    ("own.unfinished", [[0]]),
    ("own.surplus", 1),
    ("reference_sha256", "0" * 64),
    ("reference_sha256", 5),
    ("shared_tensors", ["policy.model.lm_head.weight"]),
    ("shared_tensors.policy\\.model\\.lm_head\\.weight", "nowhere"),
    ("shared_tensors.policy\\.model\\.lm_head\\.weight", GONE),
    ("shared_tensors.policy\\.value_head\\.weight", "policy.value_head.weight"),
    ("surplus", 1),
]
"""A place in `checkpoint.json`, and what is written there."""

_MOMENT = "optimizer.0.exp_avg"


def _filled(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: torch.full_like(tensor, value)


TENSORS: list[tuple[str, str, Callable[[torch.Tensor], torch.Tensor | None]]] = [
    (_MOMENT, "a row too few", lambda t: t[:-1].clone()),
    (_MOMENT, "one number", lambda t: torch.zeros(1)),
    (_MOMENT, "no number", lambda t: torch.zeros(0)),
    (_MOMENT, "of float64", lambda t: t.double()),
    (_MOMENT, "of int64", lambda t: t.long()),
    (_MOMENT, "left out", lambda t: None),
    (_MOMENT, "NaN", _filled(float("nan"))),
    (_MOMENT, "infinite", _filled(float("inf"))),
    ("optimizer.0.exp_avg_sq", "negative", _filled(-1.0)),
    ("optimizer.0.exp_avg_sq", "of another shape", lambda t: torch.zeros(3, 3)),
    ("optimizer.0.step", "negative", _filled(-1.0)),
    ("optimizer.0.step", "a row", lambda t: torch.ones(7)),
    ("optimizer.0.surplus", "added", lambda t: torch.ones(7)),
    ("optimizer.99.exp_avg", "added", lambda t: torch.ones(7)),
    ("optimizer.x.exp_avg", "added", lambda t: torch.ones(7)),
    ("policy.value_head.weight", "a row too many", lambda t: torch.cat([t, t])),
    ("policy.value_head.weight", "of bfloat16", lambda t: t.bfloat16()),
    ("policy.value_head.weight", "NaN", _filled(float("nan"))),
    ("policy.value_head.weight", "left out", lambda t: None),
    ("policy.surplus", "added", lambda t: torch.ones(7)),
    ("surplus", "added", lambda t: torch.ones(7)),
    ("last_obs.input_ids", "out of the vocabulary", _filled(10**6)),
    ("last_obs.input_ids", "negative", _filled(-1)),
    ("last_obs.input_ids", "a row too few", lambda t: t[:-1].clone()),
    ("last_obs.input_ids", "a column too many", lambda t: torch.cat([t, t[:, :1]], 1)),
    ("last_obs.input_ids", "of float32", lambda t: t.float()),
    ("last_obs.attention_mask", "of 7", _filled(7)),
    ("last_obs.attention_mask", "of nothing", _filled(0)),
    ("last_obs.attention_mask", "with holes", lambda t: torch.stack([t[:, 0], t[:, 0] * 0] * 4, 1)),
    ("last_obs.attention_mask", "left out", lambda t: None),
    ("last_obs.surplus", "added", lambda t: torch.ones(7)),
    ("random.torch", "short", lambda t: t[:16].clone()),
    ("random.torch", "garbage", _filled(255)),
    ("random.torch", "of float32", lambda t: t.float()),
    ("random.policy", "short", lambda t: t[:16].clone()),
    ("random.policy", "left out", lambda t: None),
    ("random.numpy", "short", lambda t: t[:16].clone()),
    ("random.numpy", "negative", _filled(-1)),
    ("random.numpy", "of uint8", lambda t: t.to(torch.uint8)),
    ("random.cuda", "garbage", lambda t: torch.ones(7)),
    ("random.surplus", "added", lambda t: torch.ones(7)),
]
"""A tensor, what becomes of it, and how."""  # fmt: skip


def lies() -> list[Lie]:
    """All of them."""
    told = [Lie(f"{path} = {_short(value)}", _written(path, value)) for path, value in VALUES]
    return told + [Lie(f"{name}: {what}", _changed(name, how)) for name, what, how in TENSORS]


def _written(path: str, value: Any) -> Callable[[dict[str, Any], Tensors], None]:
    def tell(values: dict[str, Any], tensors: Tensors) -> None:
        *above, last = (key.replace("\0", ".") for key in path.replace("\\.", "\0").split("."))
        place: Any = values
        for key in above:
            place = place[int(key) if isinstance(place, list) else key]
        if value is GONE:
            del place[last]
        else:
            place[int(last) if isinstance(place, list) else last] = value

    return tell


def _changed(
    name: str, how: Callable[[torch.Tensor], torch.Tensor | None]
) -> Callable[[dict[str, Any], Tensors], None]:
    def tell(values: dict[str, Any], tensors: Tensors) -> None:
        changed = how(tensors.get(name, torch.zeros(1)))
        if changed is None:
            del tensors[name]
        else:
            tensors[name] = changed

    return tell


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 40 else f"{text[:40]}..."
