from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch

from llm_gym.feedback.dpo.dpo import DPOConfig
from llm_gym.feedback.reward_model.comparisons import RewardModelConfig
from llm_gym.feedback.reward_model.ratings import RatingModelConfig
from llm_gym.files.ranges import (
    RANGES,
    Range,
    check_arguments,
    check_device,
    check_numbers,
    check_settings,
    field_range,
)
from llm_gym.files.settings import setting
from llm_gym.learning.objective import KLPenalty, Objective
from llm_gym.stages.compare import CompareConfig
from llm_gym.stages.demo import DemoConfig
from llm_gym.stages.rlhf.settings import _PREFIXES, RLHFConfig
from llm_gym.stages.text_agent import LearningConfig, TaskConfig
from llm_gym.stages.train import TrainConfig
from llm_gym.supervised.pretrain import PretrainConfig
from llm_gym.supervised.sft import SFTConfig

CONFIGS = [
    CompareConfig,
    DPOConfig,
    DemoConfig,
    PretrainConfig,
    RLHFConfig,
    RatingModelConfig,
    RewardModelConfig,
    SFTConfig,
    TrainConfig,
]
BESIDES = [LearningConfig, TaskConfig, Objective, KLPenalty]


def numbers_of(config):
    return [f for f in fields(config) if str(f.type).startswith(("int", "float", "list[int]"))]


@pytest.mark.parametrize("config", [*CONFIGS, *BESIDES])
def test_every_number_among_the_settings_has_a_range(config):
    prefixes = tuple(_PREFIXES.values())
    assert not [f.name for f in numbers_of(config) if field_range(f, prefixes) is None]


def outside(range_: Range):
    yield from (math.nan, math.inf, -math.inf)
    if math.isfinite(range_.low):
        yield range_.low if range_.above else range_.low - (1 if range_.whole else 1e-6)
    if math.isfinite(range_.high):
        yield range_.high if range_.below else range_.high + (1 if range_.whole else 1e-6)


@pytest.mark.parametrize("config", CONFIGS)
def test_no_setting_takes_a_number_out_of_range_or_something_that_is_no_number(config):
    for field in numbers_of(config):
        range_ = field_range(field, tuple(_PREFIXES.values()))
        bad = [*outside(range_), True, "1", [], *([2.5, 2.0] if range_.whole else [])]
        for value in bad:
            if str(field.type).startswith("list"):
                value = [value]
            if value == []:
                continue
            with pytest.raises((ValueError, TypeError), match=r"\w+=.* must be a .*number"):
                config(**{field.name: value})
        if "None" not in str(field.type):
            with pytest.raises(TypeError, match=f"{field.name.split('_')[-1]}=None must be"):
                config(**{field.name: None})


@pytest.mark.parametrize("config", CONFIGS)
def test_no_setting_takes_a_text_or_a_switch_of_another_type(config):
    for field in fields(config):
        value = {"str": 7, "bool": "yes"}.get(str(field.type).removesuffix(" | None"))
        if value is not None:
            with pytest.raises(
                (TypeError, ValueError), match=f"{field.name}={value!r} must be|device=7"
            ):
                config(**{field.name: value})


def test_an_error_has_the_name_the_value_and_the_range():
    for name, value, error, message in (
        ("gamma", -0.5, ValueError, "gamma=-0.5 must be a number from 0 to 1"),
        ("gamma", math.nan, ValueError, "gamma=nan must be a number from 0 to 1"),
        ("kl_coef", math.inf, ValueError, "kl_coef=inf must be a finite number of at least 0"),
        ("batch_size", 2.5, TypeError, "batch_size=2.5 must be a whole number of at least 1"),
        ("seed", 2**32, ValueError, "seed=4294967296 must be a whole number from 0 to 4294967295"),
        ("top_p", 0, ValueError, r"top_p=0 must be a number above 0 and at most 1 \(1 is off\)"),
        ("threshold", "x", TypeError, "threshold='x' must be a finite number"),
        ("n_steps", [1] * 99, TypeError, r"n_steps=\[1, 1, .*\.\.\. must be a whole number"),
    ):
        with pytest.raises(error, match=rf"^{message}"):
            check_numbers(**{name: value})


def test_numbers_of_numpy_are_numbers_and_its_bools_are_none():
    check_numbers(batch_size=np.int64(4), gamma=np.float32(0.5), learning_rate=np.float64(1e-3))
    for value in (np.bool_(True), np.array([1]), torch.tensor(1)):
        with pytest.raises(TypeError, match=r"batch_size=.* must be a whole number"):
            check_numbers(batch_size=value)


def test_a_schedule_is_asked_at_both_ends_and_may_fall_to_0():
    check_arguments(learning_rate=lambda left: left, clip_range=lambda left: 0.2 * left)
    for schedule, message in (
        (lambda left: left - 0.5, r"learning_rate\(0\)=-0.5 must be a finite number"),
        (lambda left: 1 / (1 - left) if left < 1 else math.inf, r"learning_rate\(1\)=inf"),
        (lambda left: "fast", r"learning_rate\(1\)='fast'"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            check_arguments(learning_rate=schedule)
    with pytest.raises(TypeError, match="gamma=<function"):
        check_arguments(gamma=lambda left: left)


def test_none_is_an_argument_only_where_it_means_something():
    check_arguments(seed=None, target_kl=None, clip_range_vf=None, policy_kwargs=None)
    for name in ("learning_rate", "gamma", "batch_size", "max_grad_norm", "clip_range"):
        with pytest.raises(TypeError, match=rf"{name}=None must be"):
            check_arguments(**{name: None})


def test_devices_are_those_that_pytorch_knows_and_the_machine_has():
    for device in ("cpu", "auto", torch.device("cpu"), "cpu:0"):
        check_device("device", device)
    for device in ("gpu", "", "cuda:x", "CPU"):
        with pytest.raises(ValueError, match=f"device='{device}' is no device"):
            check_device("device", device)
    with pytest.raises(ValueError, match="device='cuda:99': this machine has"):
        check_device("device", "cuda:99")
    with pytest.raises(TypeError, match=r"device=0\.5 must be the name"):
        check_device("device", 0.5)


def test_a_field_says_its_own_range_where_its_name_means_something_else():
    @dataclass(frozen=True)
    class Other:
        gamma: float = setting(7.0, "not the discount", Range(5, 9))

    check_settings(Other())
    with pytest.raises(ValueError, match=r"gamma=0\.5 must be a number from 5 to 9"):
        check_settings(Other(0.5))


def test_every_range_holds_its_ends_and_nothing_beyond():
    for name, range_ in RANGES.items():
        for value in outside(range_):
            with pytest.raises((ValueError, TypeError)):
                range_.check(name, value)
        for end, left_out in ((range_.low, range_.above), (range_.high, range_.below)):
            if math.isfinite(end) and not left_out:
                range_.check(name, end)
