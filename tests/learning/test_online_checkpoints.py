from __future__ import annotations

import pytest

from llm_gym.runs.checkpoint import load_checkpoint, save_checkpoint
from tests.learning.online_worlds import MODEL, make, rollouts, small_env
from tests.products import sampled
from tests.runs.test_checkpoint import assert_same

CASES = {
    "GRPO": {"kl_coef": 0.1, "kl_target": 1.0, "kl_horizon": 50, "n_epochs": 2, "batch_size": 20},
    "REINFORCE": {"advantage": "moving_average"},
    "ReMax": {"kl_coef": 0.1},
    "A2C": {"critic": "separate", "kl_coef": 0.1, "n_steps": 7},
    "NLPO": {"batch_size": 40, "n_epochs": 2, "mask_interval": 2, "n_steps": 7},
}


@pytest.mark.parametrize("name", sampled(CASES, "GRPO", "REINFORCE", "NLPO"))
def test_training_on_from_a_checkpoint_is_training_on_bit_for_bit(name, tiny_dir, tmp_path):
    """2N rollouts = N, save, load, N: answers of different lengths, groups, masks and all."""
    model = tiny_dir("gpt2", **MODEL)

    def new():
        env = small_env(model, group_size=4, eos_token_id=(1, 7, 8))
        return make(name, model, env, **CASES[name])

    straight = rollouts(new(), 3)
    save_checkpoint(straight, tmp_path / "c")
    rollouts(straight, 3)

    resumed = new()
    load_checkpoint(resumed, tmp_path / "c")
    rollouts(resumed, 3)
    assert_same(straight, resumed)
    assert straight.baseline == resumed.baseline
