"""A signature is a promise: who changes one changes `signatures.json` beside, and says so to users.

python -m tests.test_signatures  # writes the file anew
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import llm_gym

FILE = Path(__file__).with_name("signatures.json")
FURTHER = {
    "runs.checkpoint": (
        "latest_checkpoint",
        "resume_point",
        "save_checkpoint",
        "save_numbered_checkpoint",
    ),
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
    """What `llm_gym` exports, settings of its stages and functions of checkpoints, by name."""
    found = {name: getattr(llm_gym, name) for name in llm_gym.__all__}
    for place, names in FURTHER.items():
        module = importlib.import_module(f"llm_gym.{place}")
        found |= {name: getattr(module, name) for name in names}
    return {
        name: each
        for name, each in found.items()
        if callable(each) and not (isinstance(each, type) and issubclass(each, Exception))
    }


def signature_of(each: Any) -> str:
    """How it is called: names, which of them may be given by place, and what is left out."""
    made = {
        field.name: field.default_factory()
        for field in (dataclasses.fields(each) if dataclasses.is_dataclass(each) else ())
        if field.default_factory is not dataclasses.MISSING
    }
    found = inspect.signature(each)
    parameters = [
        p.replace(annotation=p.empty, default=made.get(p.name, p.default))
        for p in found.parameters.values()
    ]
    return str(found.replace(parameters=parameters, return_annotation=found.empty))


def promised() -> dict[str, str]:
    return json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(promised()))
def test_names_order_and_defaults_are_those_that_were_promised(name):
    assert signature_of(public()[name]) == promised()[name]


def test_none_is_left_out():
    assert set(public()) == set(promised())


if __name__ == "__main__":
    told = {name: signature_of(each) for name, each in sorted(public().items())}
    FILE.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
