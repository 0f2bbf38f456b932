"""What the values of a checkpoint must be: kind and range of every key of `checkpoint.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_gym.files.generators import generator_state
from llm_gym.files.schema import (
    Check,
    anything,
    boolean,
    list_of,
    number,
    one_of,
    optional,
    record,
    refuse,
    row_of,
    text,
    whole,
)
from llm_gym.runs.shared_base import ADAPTER

_WORDS = 624  # of a Mersenne Twister's state
_U32 = whole(0, 2**32 - 1)
_SMALL = whole(0, 10**18)  # counters: a sum of two is a number still


def _setting(name: str, value: Any) -> None:
    """A setting of an optimizer: a number, a flag, nothing, or a row of numbers, such as betas."""
    if isinstance(value, list):
        list_of(number())(name, value)
    elif not (value is None or isinstance(value, bool)):
        number()(name, value)


def _success(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        number()(name, value)


def _python_words(name: str, value: Any) -> None:
    list_of(_U32, _WORDS + 1)(name, value)
    whole(0, _WORDS)(f"{name}[{_WORDS}]", value[_WORDS])


def _device(name: str, value: Any) -> None:
    import torch

    try:
        torch.device(value)
    except (RuntimeError, TypeError):
        refuse(name, "a device that PyTorch knows", value)


def _by_number(check: Check) -> Check:
    """An object whose keys are places in a list, 0 and above."""

    def check_object(name: str, value: Any) -> None:
        record({}, others=check)(name, value)
        for key in value:
            if not (key.isascii() and key.isdigit() and str(int(key)) == key):
                refuse(f"{name}: a key", "a whole number", key)

    return check_object


_OPTIMIZER = {
    "param_groups": list_of(record({"params": list_of(_SMALL), "lr": number(0)}, others=_setting)),
    "scalars": _by_number(record({}, others=number())),
}
_RANDOM = {
    "policy_device": _device,
    "numpy": row_of(one_of("MT19937"), whole(0, _WORDS), whole(0, 1), number()),
    "python": row_of(one_of(3), _python_words, optional(number())),
    "buffer": optional(generator_state),
}
_EPISODE = record({"r": number(), "l": _SMALL}, others=anything)
STATE: Mapping[str, Check] = {
    "algorithm": text,
    "num_timesteps": _SMALL,
    "total_timesteps": _SMALL,
    "n_updates": _SMALL,
    "progress_remaining": number(high=1),
    "episode_infos": list_of(_EPISODE),
    "episode_successes": list_of(_success),
    "last_episode_starts": optional(list_of(boolean)),
    "optimizer": record(_OPTIMIZER),
    "random": record(_RANDOM),
    "environment": anything,  # the environment's own: see `training_state.misfit`
    "own": record({}, others=anything),  # the algorithm's own: likewise
    "reference_sha256": optional(text),
    "adapter": optional(ADAPTER),
}
"""What `training_state.collect` gives."""

METADATA: Check = record(
    {"format": anything, "llm_gym": text, **STATE, "shared_tensors": record({}, others=text)},
    may_lack=["adapter"],  # as of versions before there were adapters
)
"""The content of `checkpoint.json`."""
