"""Training on from a checkpoint is training on, answers that were already paid for included."""

from __future__ import annotations

import json

import pytest
import torch

from llm_gym.algorithms.dpo import DPO
from llm_gym.algorithms.expert_iteration import ExpertIteration, SFTOnBest
from llm_gym.checkpoint import load_checkpoint, save_checkpoint
from tests.algorithms.worlds import grouped_env, settings

ROLLOUT = 8 * 5  # five steps: shorter than an answer may be, so groups are cut by every rollout

CASES = {
    "raft": (ExpertIteration, {}),
    "raft-kl": (ExpertIteration, {"kl_coef": 0.1, "n_epochs": 2}),
    "sft-on-best": (SFTOnBest, {"n_epochs": 2}),
    "dpo": (DPO, {"labels": "bradley_terry", "n_epochs": 2}),
    "online-dpo": (DPO, {"online": True, "labels": "bradley_terry"}),
}


def make(model, case):
    cls, options = CASES[case]
    return cls("TransformerPolicy", grouped_env(model), n_steps=5, **settings(model, **options))


def everything(algorithm):
    state = {f"policy.{k}": v for k, v in algorithm.policy.state_dict().items()}
    moments = algorithm.policy.optimizer.state_dict()["state"]
    state |= {f"adam.{i}.{k}": v for i, entry in moments.items() for k, v in entry.items()}
    values = {
        "env": json.dumps(algorithm.env.get_state()),
        "buffer": str(algorithm.rollout_buffer.rng.bit_generator.state),
        "steps": (algorithm.num_timesteps, algorithm._n_updates),
    }
    return state, values


@pytest.mark.parametrize("case", CASES)
def test_bit_for_bit(case, tiny_dir, tmp_path):
    from llm_gym.callbacks import CheckpointCallback

    model = tiny_dir()
    straight, resumed = make(model, case), make(model, case)
    straight.learn(8 * ROLLOUT, callback=CheckpointCallback(tmp_path, every=3, keep_last=None))
    load_checkpoint(resumed, tmp_path / f"step-{3 * ROLLOUT:012d}")
    assert resumed.answers.finished or resumed.answers._pending
    resumed.learn(5 * ROLLOUT, reset_num_timesteps=False)
    (tensors, values), (others, other_values) = everything(straight), everything(resumed)
    assert [k for k in tensors if not torch.equal(tensors[k], others[k])] == []
    assert values == other_values
    assert values["steps"][1] > 0


def test_another_reference_is_refused(tiny_dir, tmp_path):
    saved = make(tiny_dir(), "dpo")
    saved.learn(8 * ROLLOUT)
    save_checkpoint(saved, tmp_path / "c")
    with pytest.raises(ValueError, match="KL reference is not the one"):
        load_checkpoint(make(tiny_dir(seed=5), "dpo"), tmp_path / "c")
