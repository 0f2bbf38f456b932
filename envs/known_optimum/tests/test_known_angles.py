"""Angles to a gradient that is known, on vectors that can be drawn, and on a problem."""

from __future__ import annotations

import pytest
import torch
from llm_gym_known_optimum import KnownOptimum, angle_to_true_gradient


def angle(step, way_up=(1.0, 0.0)):
    """Between the step of a loss and the gradient of an objective, both linear."""
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    loss, objective = -(torch.tensor(step).double() @ x), torch.tensor(way_up).double() @ x
    return angle_to_true_gradient(loss, objective, [x])


@pytest.mark.parametrize(
    ("step", "degrees"),
    [((2.0, 0.0), 0), ((1.0, 1.0), 45), ((0.0, 3.0), 90), ((-1.0, 1.0), 135), ((-5.0, 0.0), 180)],
)
def test_angles_of_vectors_that_can_be_drawn(step, degrees):
    assert angle(step) == pytest.approx(degrees, abs=1e-9)


def test_small_angles_keep_their_digits():
    assert angle((1.0, 1e-9)) == pytest.approx(1e-9 * 57.29577951308232, rel=1e-6)


def test_what_only_one_depends_on_counts_as_zero():
    x, y = (torch.zeros(1, requires_grad=True) for _ in range(2))
    assert angle_to_true_gradient(-(x + y).sum(), x.sum(), [x, y]) == pytest.approx(45)


def test_the_exact_objective_of_a_problem_is_at_no_angle_to_itself():
    problem = KnownOptimum.make(vocab_size=3, length=2)
    parameters = list(problem.reference_model.parameters())
    objective = problem.objective(problem.policy(problem.reference_model))
    assert angle_to_true_gradient(-2 * objective, objective, parameters) == pytest.approx(
        0, abs=1e-6
    )
    assert angle_to_true_gradient(objective, objective, parameters) == pytest.approx(180, abs=1e-6)


@pytest.mark.parametrize(("loss", "objective"), [(0.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
def test_no_direction_is_an_error_that_names_what_has_none(loss, objective):
    x = torch.ones(2, requires_grad=True)
    named = "objective" if loss == 1.0 else "loss"
    with pytest.raises(ValueError, match=f"the gradient of {named} has length"):
        angle_to_true_gradient(loss * x.sum(), objective * x.sum(), [x])


def test_a_loss_that_knows_of_no_parameter_is_an_error():
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="loss must depend on the parameters"):
        angle_to_true_gradient(torch.tensor(1.0), x.sum(), [x])
