"""Each algorithm learns the smallest task: one of twelve tokens pays, five tokens an answer."""

from __future__ import annotations

import numpy as np
import pytest

import llm_gym
from tests.learning.online_worlds import MODEL, make, rollouts, small_env
from tests.products import sampled

CASES = {
    "REINFORCE": {},
    "REINFORCE without baseline": {"advantage": "reinforce", "learning_rate": 2e-2},
    "REINFORCE moving average": {"advantage": "moving_average"},
    "ReinforcePlusPlus": {},
    "A2C": {},
    "A2C separate": {"critic": "separate"},
    "A2C detached": {"critic": "detached"},
    "ReMax": {},
    "RLOO": {},
    "RLOO pays for distance": {"kl_coef": 0.05},
    "GRPO": {},
    "GRPO pays for distance": {"kl_coef": 0.01},
    "DrGRPO": {},
    "DAPO": {},
    "NLPO": {"batch_size": 40, "n_epochs": 2, "mask_interval": 3},
}


KEPT = (
    "REINFORCE", "ReinforcePlusPlus", "A2C separate", "ReMax", "RLOO pays for distance", "GRPO",
    "NLPO",
)  # fmt: skip


@pytest.mark.parametrize("case", sampled(CASES, *KEPT))
def test_it_learns_the_smallest_task(case, tiny_dir):
    model = tiny_dir("gpt2", **MODEL)
    env = small_env(model, group_size=4, eos_token_id=())
    algorithm = make(case.split()[0], model, env, **CASES[case])
    before = np.mean([e["r"] for e in rollouts(algorithm).ep_info_buffer])
    rollouts(algorithm, 24)
    after = np.mean([e["r"] for e in list(algorithm.ep_info_buffer)[-24:]])
    assert before < 1.5
    assert after > 3.5  # of at most 5
    assert isinstance(algorithm, llm_gym.PolicyGradient)
