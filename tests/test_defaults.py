"""A default is a promise: who changes one changes `defaults.json` beside, and says so to users.

python -m tests.test_defaults  # writes the file anew
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import llm_gym

FILE = Path(__file__).with_name("defaults.json")
SETTINGS = {
    "feedback.dpo.dpo": ("DPOConfig",),
    "feedback.reward_model.comparisons": ("RewardModelConfig",),
    "feedback.reward_model.ratings": ("RatingModelConfig",),
    "stages.compare": ("CompareConfig",),
    "stages.demo": ("DemoConfig",),
    "stages.rlhf.settings": ("RLHFConfig",),
    "stages.train": ("TrainConfig",),
    "supervised.pretrain": ("PretrainConfig",),
    "supervised.sft": ("SFTConfig",),
}


def public() -> dict[str, Any]:
    """What `llm_gym` exports, and the settings of its stages, by name."""
    found = {name: getattr(llm_gym, name) for name in llm_gym.__all__}
    for place, names in SETTINGS.items():
        module = importlib.import_module(f"llm_gym.{place}")
        found |= {name: getattr(module, name) for name in names}
    return {
        name: each
        for name, each in found.items()
        if callable(each) and not (isinstance(each, type) and issubclass(each, Exception))
    }


def defaults_of(each: Any) -> dict[str, Any]:
    """Arguments that may be left out, with what they are then."""
    made = {
        field.name: field.default_factory()
        for field in (dataclasses.fields(each) if dataclasses.is_dataclass(each) else ())
        if field.default_factory is not dataclasses.MISSING
    }
    parameters = inspect.signature(each).parameters.values()
    found = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {name: plain(value) for name, value in (found | made).items()}


def plain(value: Any) -> Any:
    """As JSON has it; of what it has not, the name."""
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return getattr(value, "__qualname__", repr(value))


def promised() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(promised()))
def test_defaults_are_those_that_were_promised(name):
    assert json.loads(json.dumps(defaults_of(public()[name]))) == promised()[name]


def test_none_is_left_out():
    assert set(public()) == set(promised())


if __name__ == "__main__":
    told = {name: defaults_of(each) for name, each in sorted(public().items())}
    FILE.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
