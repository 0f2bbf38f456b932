"""What looking for divergence costs: the two sides do the same, but for the looking."""

from __future__ import annotations

import pytest
import torch

from benchmarks.faults.cost import pairs, share_inside, unchecked
from llm_gym.language_models.divergence import DivergenceError
from llm_gym.policy.sampling import inverse_cdf_sample


def test_without_checks_nobody_looks_and_the_same_is_learnt():
    nothing = torch.full((2, 5), float("nan"))
    with unchecked():
        inverse_cdf_sample(nothing, None)
    with pytest.raises(DivergenceError):
        inverse_cdf_sample(nothing, None)
    seconds, same = pairs("RLOO", 1)
    assert same
    assert seconds.shape == (1, 2)
    assert (seconds > 0).all()


def test_the_share_inside_is_that_of_checks_which_were_made():
    assert 0 < share_inside("RLOO", 1) < 1
