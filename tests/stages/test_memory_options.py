"""Options that save memory, from settings to policies; they are no part of what a run is."""

from __future__ import annotations

import pytest

from llm_gym.files.settings import options_of
from llm_gym.stages import train
from llm_gym.stages.rlhf.directory import RLHFDirectory
from llm_gym.stages.rlhf.settings import RLHFConfig
from llm_gym.stages.train import TrainConfig, build_algorithm
from llm_gym.supervised.pretrain import PretrainConfig
from llm_gym.supervised.sft import SFTConfig


@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "online_dpo", "raft", "maskable_ppo"])
def test_every_algorithm_of_the_command_has_them(algorithm):
    config = TrainConfig(
        algorithm=algorithm,
        env="llm_gym/PoliteEmail-v0",
        micro_batch_size=4,
        gradient_checkpointing=True,
        num_envs=8,
    ).resolved()
    policy = build_algorithm(config).policy
    assert policy.micro_batch_size == 4
    layers = policy.model.transformer.h
    assert all(layer.gradient_checkpointing for layer in layers)


def test_trpo_says_that_it_has_none():
    config = TrainConfig(algorithm="trpo", env="llm_gym/PoliteEmail-v0", micro_batch_size=4)
    with pytest.raises(ValueError, match=r"micro_batch_size=4.*TRPO"):
        build_algorithm(config.resolved())


def test_they_reach_every_stage_of_a_run():
    config = RLHFConfig.quick(micro_batch_size=3, gradient_checkpointing=True)
    for stage in (PretrainConfig, SFTConfig, TrainConfig):
        assert config.config_of(stage).micro_batch_size == 3
    assert config.config_of(TrainConfig).gradient_checkpointing
    flags = {option.flag for option in options_of(RLHFConfig)}
    assert {"--micro-batch-size", "--gradient-checkpointing"} <= flags


def test_a_run_goes_on_with_others(tmp_path):
    first = RLHFDirectory(RLHFConfig.quick(), tmp_path / "run")
    with first.opened():
        first.write_settings()
    with pytest.raises(ValueError, match="seed"):
        RLHFDirectory(RLHFConfig.quick(seed=5), tmp_path / "run").go_on("advice")
    other = RLHFConfig.quick(micro_batch_size=3, gradient_checkpointing=True)
    RLHFDirectory(other, tmp_path / "run").go_on("advice")


def test_a_reference_is_counted_where_it_is(monkeypatch):
    counted = []
    monkeypatch.setattr(train, "check_training", lambda model, **kwargs: counted.append(kwargs))
    for settings in (
        {"kl_coef": 0.1},
        {"kl_coef": 0.1, "reference_weights": "bfloat16"},
        {"kl_coef": 0.1, "reference_weights": "disk"},
        {"algorithm": "rloo", "kl_coef": 0.0},
        {"critic": "separate", "algorithm": "a2c", "kl_coef": 0.0},
    ):
        config = TrainConfig(env="llm_gym/PoliteEmail-v0", num_envs=8, **settings).resolved()
        algorithm = build_algorithm(config)
        on_disk = getattr(algorithm.reference, "_mapped", None) is not None
        assert on_disk == (settings.get("reference_weights") == "disk")
    assert [each["copies"] for each in counted] == [1, 0.5, 0, 0, 0]
    assert [each["models"] for each in counted] == [1, 1, 1, 1, 2]
