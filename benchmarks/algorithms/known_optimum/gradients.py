"""The gradient that an algorithm follows, against the exact gradient of the objective.

The policy is put half-way between the reference model and the optimum and kept there, while the
algorithm goes on sampling and updating: its gradients are taken away before each optimizer step. A
critic keeps its own, so it learns the values of that policy first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from llm_gym_known_optimum import KnownOptimum, estimator_figures

from benchmarks.algorithms.known_optimum.training import make_algorithm, make_problem
from benchmarks.algorithms.settings import Entry

if TYPE_CHECKING:
    from llm_gym_known_optimum.tree import Layers

_UNCLIPPED = 1e9  # of the gradient's norm: clipping makes any estimator another one


def measure_gradient(job: dict[str, Any]) -> dict[str, Any]:
    """Bias and variance of an algorithm's gradient estimator.

    Args:
        job: `entry`, `task`, `budget` and `seed`.

    Returns:
        `EstimatorFigures` by name.
    """
    entry, task, budget, seed = (job[name] for name in ("entry", "task", "budget", "seed"))
    problem = make_problem(task, seed)
    samples, exact = sampled_gradients(
        entry,
        problem,
        half_way(problem),
        rows=budget.rows,
        rollouts=budget.gradient_rollouts,
        warmup=budget.probe_warmup,
        seed=seed,
    )
    return {"gradient": estimator_figures(samples, exact).as_dict()}


def sampled_gradients(
    entry: Entry,
    problem: KnownOptimum,
    place: Layers,
    *,
    rows: int,
    rollouts: int,
    warmup: int = 0,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of an algorithm's updates at one policy, and the exact one.

    Args:
        entry: The algorithm; its `one_step` arguments make an update one step.
        problem: A problem whose reference model is tabular.
        place: The policy at which they are measured, as log-probabilities of its actions.
        rows: Episodes of a rollout.
        rollouts: Samples K, one a rollout.
        warmup: Rollouts before the first sample, in which a critic learns.
        seed: Seed of the sampling.

    Returns:
        Samples `(K, D)`, with the sign of an ascent, and the exact gradient `(D,)`.
    """
    one_step = {**(entry.one_step or {}), "max_grad_norm": _UNCLIPPED}
    # Values need a pace of their own: the policy stands still.
    still = replace(entry, learning_rate=0.03, kl_start=1.0)
    model: Any = make_algorithm(still, problem, rows, seed, **one_step)
    with torch.no_grad():
        rows_of_prompts = [layer[k] for k in range(problem.n_prompts) for layer in place]
        model.policy.model.lm_head.weight.copy_(torch.cat(rows_of_prompts).T)
    parameters = list(model.policy.model.parameters())
    taken: list[torch.Tensor] = []

    def take_away(*_: Any) -> None:
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        taken.append(-torch.cat([g.flatten() for g in gradients]).double())
        for parameter in parameters:
            parameter.grad = None

    model.policy.optimizer.register_step_pre_hook(take_away)
    model.learn((warmup + rollouts) * rows * problem.tree.length, log_interval=None)
    with torch.enable_grad():
        value = problem.objective(problem.policy(model.policy.model))
    exact = torch.cat([g.flatten().double() for g in torch.autograd.grad(value, parameters)])
    return torch.stack(taken[-rollouts:]), exact


def half_way(problem: KnownOptimum) -> Layers:
    """The policy whose logits are the mean of the reference's and the optimum's."""
    return tuple(
        ((ours + best) / 2).log_softmax(-1)
        for ours, best in zip(problem.reference, problem.optimum.log_probs, strict=True)
    )
