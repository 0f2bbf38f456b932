"""Training on from a checkpoint is training on, answers that were already paid for included."""

from __future__ import annotations

import json
from itertools import count

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from llm_gym.learning.dpo import DPO
from llm_gym.learning.expert_iteration import ExpertIteration, SFTOnBest
from llm_gym.runs.callbacks import CheckpointCallback
from llm_gym.runs.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from tests.learning.worlds import grouped_env, settings
from tests.products import sampled

ROLLOUT = 8 * 5  # five steps: shorter than an answer may be, so groups are cut by every rollout

CASES = {
    "raft": (ExpertIteration, {}),
    "raft-kl": (ExpertIteration, {"kl_coef": 0.1, "n_epochs": 2}),
    "sft-on-best": (SFTOnBest, {"n_epochs": 2}),
    "sft-on-best-kl": (SFTOnBest, {"n_epochs": 2, "kl_coef": 0.1}),
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


@pytest.mark.parametrize("case", sampled(CASES, "raft-kl", "sft-on-best", "online-dpo"))
def test_bit_for_bit(case, tiny_dir, tmp_path):
    model = tiny_dir()
    straight, resumed = make(model, case), make(model, case)
    straight.learn(8 * ROLLOUT, callback=CheckpointCallback(tmp_path, every=3, keep_last=None))
    load_checkpoint(resumed, tmp_path / f"step-{3 * ROLLOUT:012d}")
    assert resumed.answers.finished or resumed.answers._pending
    resumed.learn(5 * ROLLOUT, reset_num_timesteps=False)
    (tensors, values), (other_tensors, other_values) = everything(straight), everything(resumed)
    assert [k for k in tensors if not torch.equal(tensors[k], other_tensors[k])] == []
    assert values == other_values
    assert values["steps"][1] > 0


class Stop(BaseCallback):
    """Ends learning a moment after it has begun, as a power cut would."""

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        if self.model.has_sampled:
            steps = count(1)
            self.model.policy.optimizer.register_step_post_hook(lambda *_: self._cut(next(steps)))

    def _cut(self, step):
        if step == 1:
            raise ConnectionError("no power")


@pytest.mark.parametrize("case", sampled(["sft-on-best", "sft-on-best-kl", "dpo"], "dpo"))
def test_killed_while_learning_the_answers_are_kept_and_learnt_from_bit_for_bit(
    case, tiny_dir, tmp_path
):
    model = tiny_dir()
    straight, killed, resumed = (make(model, case) for _ in range(3))
    straight.learn(8 * ROLLOUT)
    with pytest.raises(ConnectionError):
        killed.learn(8 * ROLLOUT, callback=[CheckpointCallback(tmp_path, every=100), Stop()])
    load_checkpoint(resumed, latest_checkpoint(tmp_path))
    assert resumed.num_timesteps == 8 * ROLLOUT
    resumed.learn(0, callback=CheckpointCallback(tmp_path), reset_num_timesteps=False)
    (tensors, values), (other_tensors, other_values) = everything(straight), everything(resumed)
    assert [k for k in tensors if not torch.equal(tensors[k], other_tensors[k])] == []
    assert values == other_values
    assert values["steps"] == (8 * ROLLOUT, 2)
    done = make(model, case)
    load_checkpoint(done, latest_checkpoint(tmp_path))
    done.learn(0, reset_num_timesteps=False)  # there is nothing left to do
    assert everything(done)[1] == values


def test_more_tokens_are_sampled_before_what_is_kept_is_learnt_from(tiny_dir, tmp_path):
    straight, resumed = make(tiny_dir(), "dpo"), make(tiny_dir(), "dpo")
    straight.learn(10 * ROLLOUT)
    killed = make(tiny_dir(), "dpo")
    with pytest.raises(ConnectionError):
        killed.learn(8 * ROLLOUT, callback=[CheckpointCallback(tmp_path), Stop()])
    load_checkpoint(resumed, latest_checkpoint(tmp_path))
    resumed.learn(2 * ROLLOUT, reset_num_timesteps=False)
    tensors, other_tensors = everything(straight)[0], everything(resumed)[0]
    assert [k for k in tensors if not torch.equal(tensors[k], other_tensors[k])] == []


def test_another_reference_is_refused(tiny_dir, tmp_path):
    saved = make(tiny_dir(), "dpo")
    saved.learn(8 * ROLLOUT)
    save_checkpoint(saved, tmp_path / "c")
    with pytest.raises(ValueError, match="KL reference is not the one"):
        load_checkpoint(make(tiny_dir(seed=5), "dpo"), tmp_path / "c")
