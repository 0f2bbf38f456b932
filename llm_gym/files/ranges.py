"""Which values settings and arguments may have: declared once, by name.

A settings dataclass holds its fields against `RANGES` with `check_settings`, a function its
arguments with `check_numbers`, an algorithm with `check_arguments`. Where a name means something
else, the field says so itself (`llm_gym.files.settings.setting`). A value that does not fit is a
`TypeError` or a `ValueError` with the name, the value and the range.
"""

from __future__ import annotations

import inspect
import math
import numbers
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any

_SHOWN = 80  # characters of a value in a message


@dataclass(frozen=True)
class Range:
    """The numbers that a parameter may be.

    NumPy's numbers are fine; a bool is no number, 2.0 no whole one, NaN and infinity are never in a
    range.

    Args:
        low: The least of them.
        high: The greatest.
        above: Whether `low` itself is left out.
        below: Whether `high` itself is left out.
        whole: Whether they are whole.
        schedule: Whether an algorithm takes a function of the share of training that remains, too.
            What it returns may reach `low`: rates fall to 0.
        optional: Whether None is an argument of algorithms, too.
        note: What a value means that needs telling.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False
    schedule: bool = False
    optional: bool = False
    note: str = ""

    def check(self, name: str, value: Any) -> None:
        """Holds a number against the range.

        Args:
            name: Of the parameter, for messages.
            value: What was given for it.

        Raises:
            TypeError: It is no number, or no whole one.
            ValueError: It is NaN, infinite or out of range.
        """
        kind = numbers.Integral if self.whole else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind):
            raise TypeError(f"{name}={shown(value)} must be {self}")
        if not self._holds(value):
            raise ValueError(f"{name}={value} must be {self}")

    def check_schedule(self, name: str, value: Any) -> None:
        """Holds an argument of an algorithm against the range, which may be a schedule.

        Args:
            name: Of the parameter, for messages.
            value: A number, or a function that takes what remains of training, from 1 to 0.

        Raises:
            TypeError: See `check`; or the function takes no number, or returns none.
            ValueError: See `check`, for what the function returns at the beginning and at the end.
        """
        if not (self.schedule and callable(value)):
            self.check(name, value)
            return
        _check_takes_one(name, value)
        for remains in (1.0, 0.0):
            self.check_returned(name, remains, value(remains))

    def check_returned(self, name: str, remains: float, value: Any) -> None:
        """Holds what a schedule has returned against the range.

        Args:
            name: Of the parameter, for messages.
            remains: Share of training that remains.
            value: What the schedule returns for it.

        Raises:
            TypeError: See `check`.
            ValueError: See `check`.
        """
        reached = Range(self.low, self.high, below=self.below, note=self.note)
        reached.check(f"{name}({remains:g})", value)

    def _holds(self, value: Any) -> bool:
        low = self.low < value if self.above else self.low <= value
        high = value < self.high if self.below else value <= self.high
        return bool(low and high) and math.isfinite(value)

    def __str__(self) -> str:
        noun = "whole number" if self.whole else "number"
        finite = "" if self.whole or math.isfinite(self.high) else "finite "
        lower = f"above {self.low:g}" if self.above else f"of at least {self.low:g}"
        upper = f"below {_plain(self.high)}" if self.below else f"at most {_plain(self.high)}"
        if math.isfinite(self.high) and not (self.above or self.below):
            limits = f" from {self.low:g} to {_plain(self.high)}"
        elif math.isfinite(self.low):
            limits = f" {lower}" + (f" and {upper}" if math.isfinite(self.high) else "")
        else:
            limits = ""
        return f"a {finite}{noun}{limits}" + (f" ({self.note})" if self.note else "")


COUNT = Range(1, whole=True)
NATURAL = Range(0, whole=True)
POSITIVE = Range(0, above=True)
SECONDS = Range(0, 1_000_000, above=True)  # beyond some 25 days a system cannot wait
AT_LEAST_0 = Range(0)
SHARE = Range(0, 1)
PART = Range(0, 1, above=True, below=True)
FINITE = Range()


def _names(range_: Range, names: str) -> dict[str, Range]:
    return dict.fromkeys(names.split(), range_)


RANGES: Mapping[str, Range] = {
    # Learning
    "learning_rate": Range(0, schedule=True, note="0 learns nothing"),
    "clip_range": Range(0, above=True, schedule=True),
    "clip_range_vf": Range(0, above=True, schedule=True, optional=True, note="None clips nothing"),
    "clip_range_high": POSITIVE,
    **_names(Range(0, schedule=True), "kl_coef ent_coef"),
    "target_kl": Range(0, above=True, optional=True),
    "label_smoothing": Range(0, 0.5, below=True),
    "token_dropout": Range(0, 1, below=True),
    "top_share": Range(0, 1, above=True),
    **_names(
        SHARE,
        "gamma turn_gamma gae_lambda critic_gae_lambda warmup_share final_share rater_lapse "
        "praise_share",
    ),
    **_names(PART, "held_out_share level"),
    **_names(Range(0, 1, below=True), "baseline_decay"),
    **_names(
        POSITIVE,
        "max_grad_norm kl_target kl_horizon beta label_scale aggregation_constant adam_epsilon "
        "length_adaptive_alpha",
    ),
    "value_scale": Range(0, 1_000_000, above=True),  # more overflows in the gradients of float32
    **_names(
        AT_LEAST_0,
        "vf_coef weight_decay margin center_rewards_coefficient rater_noise tie_band "
        "backoff price_per_hour",
    ),
    **_names(FINITE, "threshold length_bias flattery_bias missing_eos_penalty"),
    # How much of something
    **_names(
        COUNT,
        "n_steps answers_per_rollout batch_size n_epochs epochs steps total_tokens num_envs "
        "group_size context width layers heads documents generated_pairs train_prompts "
        "pairs_per_prompt max_prompts eval_prompts simulated_raters votes_per_comparison "
        "enough_votes mask_interval cg_max_steps n_critic_updates max_new_tokens "
        "max_prompt_tokens buffer_size n_envs micro_batch_size every look_every "
        "checkpoint_every keep_last per_rollout concurrency planned_looks bins lora_alpha "
        "max_turn_tokens max_turns turns_in_context processes episodes stats_window_size",
    ),
    **_names(
        NATURAL,
        "critic_warmup min_new_tokens eval_conversations shown_prompts resamples retries budget "
        "eos_token_id pad_token_id probes",
    ),
    "lora_rank": Range(0, whole=True, note="0 is off"),
    "max_length": Range(0, whole=True, note="0 is what the model can read"),
    "context_length": Range(2, whole=True),
    "vocab_size": Range(260, whole=True, note="256 bytes and 4 special tokens"),
    "eval_every": Range(0, whole=True, note="0 is before and after only"),
    "trace_every": Range(0, whole=True, optional=True, note="0 takes no looks"),
    # Sampling
    "temperature": POSITIVE,
    "top_k": Range(0, whole=True, note="0 is off"),
    "top_p": Range(0, 1, above=True, note="1 is off"),
    "mask_top_p": Range(0, 1, above=True, note="1 masks nothing"),
    # Around a run
    "verbose": Range(0, 2, whole=True),
    "seed": Range(0, 2**32 - 1, whole=True, optional=True),
    **_names(SECONDS, "timeout time_limit scorer_time_limit world_time_limit"),
    "lease_seconds": POSITIVE,
    "port": Range(0, 65535, whole=True, note="0 is any free one"),
}
"""What numbers are called, and may be."""


def shown(value: Any) -> str:
    """A value in a message: as Python writes it, in part if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def check_numbers(**values: Any) -> None:
    """Holds values against the ranges of their names.

    Args:
        **values: By name; each name is one of `RANGES`.

    Raises:
        TypeError: See `Range.check`.
        ValueError: See `Range.check`.
    """
    for name, value in values.items():
        RANGES[name].check(name, value)


def check_arguments(**values: Any) -> None:
    """Holds arguments of an algorithm against the ranges of their names.

    Args:
        **values: By name. What is no number by its name is left alone, but `device`. None is left
            alone where it means something to Stable-Baselines3.

    Raises:
        TypeError: See `Range.check_schedule`.
        ValueError: See `Range.check_schedule` and `check_device`.
    """
    for name, value in values.items():
        if name == "device":
            check_device(name, value)
        elif name in RANGES and not (value is None and RANGES[name].optional):
            RANGES[name].check_schedule(name, value)


def check_choice(name: str, value: Any, allowed: Collection[Any]) -> None:
    """Refuses a value that is none of a few.

    Args:
        name: Of the parameter, for messages.
        value: What was given for it.
        allowed: The values that there are.

    Raises:
        ValueError: It is none of them; the message has them all.
    """
    if not any(type(value) is type(each) and value == each for each in allowed):
        listed = ", ".join(map(repr, allowed))
        raise ValueError(f"{name}={shown(value)} must be one of {listed}")


def check_mapping(name: str, value: Any) -> None:
    """Raises `TypeError` for arguments of something else that are no dict of names; None is."""
    if value is None:
        return
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name}={shown(value)} must be a dict of arguments by name")


def check_device(name: str, value: Any) -> None:
    """Refuses a device that PyTorch does not know, or that this machine does not have.

    Args:
        name: Of the parameter, for messages.
        value: `"cpu"`, `"cuda"`, `"cuda:1"`, ..., a `torch.device`, or `"auto"`.

    Raises:
        TypeError: It is neither a name nor a device.
        ValueError: There is no such device.
    """
    if isinstance(value, str) and value in ("auto", "cpu"):
        return  # without PyTorch, which takes seconds to load
    import torch

    if not isinstance(value, (str, torch.device)):
        raise TypeError(f"{name}={shown(value)} must be the name of a device, such as 'cpu'")
    try:
        device = torch.device(value)
    except RuntimeError:
        raise ValueError(
            f"{name}={shown(value)} is no device that PyTorch knows; take 'cpu', 'cuda' or 'auto'"
        ) from None
    if device.type in ("cpu", "meta"):
        return
    there = _devices(device.type)
    if (device.index or 0) >= there:
        has = f"has {there} of this kind" if there else "has none of this kind"
        raise ValueError(f"{name}={str(value)!r}: this machine {has}; take 'cpu' or 'auto'")


def _devices(kind: str) -> int:
    """How many devices of a kind this machine has, as far as PyTorch can tell."""
    import torch

    backend: Any = getattr(torch, kind, None)
    if backend is None or not getattr(backend, "is_available", lambda: False)():
        return 0
    return int(getattr(backend, "device_count", lambda: 1)())


# ------------------------------------------------------------------ settings and arguments


def check_settings(
    settings: Any, *, prefixes: Collection[str] = (), schedules: bool = False
) -> None:
    """Holds the fields of a settings dataclass against their ranges and types.

    Args:
        settings: An instance. The range of a field is that of its metadata, else that of its name;
            fields with neither are not numbers. None is fine where the type says so.
        prefixes: What may stand before a name: with `"sft_"`, `sft_epochs` has the range of
            `epochs`.
        schedules: Whether numbers may be schedules, where their range says so.

    Raises:
        TypeError: A value has another type than its field.
        ValueError: A value is out of range.
    """
    for field in fields(settings):
        value, kind = getattr(settings, field.name), str(field.type)
        if value is None and "None" in kind:
            continue
        range_ = field_range(field, prefixes)
        if range_ is not None:
            check = range_.check_schedule if schedules else range_.check
            for each in value if isinstance(value, (list, tuple)) else [value]:
                check(field.name, each)
        elif field.name == "device":
            check_device("device", value)
        else:
            _check_type(field.name, value, kind)


def field_range(field: Field[Any], prefixes: Collection[str] = ()) -> Range | None:
    """The range of a field of settings; None if it is no number's.

    Args:
        field: Of a settings dataclass.
        prefixes: What may stand before a name that is known.
    """
    if "range" in field.metadata or not re.match(r"(list\[)?(int|float)\b", str(field.type)):
        return field.metadata.get("range")
    names = [field.name.removeprefix(prefix) for prefix in ("", *prefixes)]
    return next((RANGES[name] for name in names if name in RANGES), None)


def _check_type(name: str, value: Any, kind: str) -> None:
    """Text and switches; other types are left to those who know them."""
    what = kind.removesuffix(" | None")
    if what == "bool" and not isinstance(value, bool):
        raise TypeError(f"{name}={shown(value)} must be True or False")
    if what == "str" and not isinstance(value, (str, Path)):
        raise TypeError(f"{name}={shown(value)} must be a text")


def _check_takes_one(name: str, schedule: Callable[..., Any]) -> None:
    try:
        inspect.signature(schedule).bind(1.0)
    except ValueError:
        return  # a function of C tells nothing of its arguments
    except TypeError as error:
        raise TypeError(
            f"{name}={shown(schedule)} must be a function of one number, the share of training "
            f"that remains ({error})"
        ) from None


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
