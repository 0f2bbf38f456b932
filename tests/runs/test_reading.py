"""What is read of answers afterwards is what the policy says of them itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_gym.runs.reading import PolicyReader
from tests.policy.conftest import make_policy as make_policy


@pytest.mark.parametrize("separate", [False, True])
def test_values_and_log_probabilities_are_the_policys(separate, make_policy):
    policy = make_policy(value_scale=3.0, separate_critic=separate, temperature=0.7)
    reader = PolicyReader(policy)
    batch = reader.batch_of([[1, 2], [3, 4, 5]], [[6, 7, 8], [9, 0]])
    read, values = reader.read(batch, 3, values=True)
    with torch.no_grad():
        expected, log_probs, entropy = policy.evaluate_actions(batch, batch.actions)
    np.testing.assert_allclose(values, expected.flatten(), rtol=1e-5)
    np.testing.assert_allclose(read.log_prob, log_probs, rtol=1e-5)
    np.testing.assert_allclose(read.entropy, entropy, rtol=1e-5)
    assert reader.read(batch, 3)[1] is None
