"""What a critic's errors cost, by sums over all answers: nothing is sampled but the errors.

A policy gradient adds up `A_t grad log pi(a_t | s_t)` over the tokens of an answer. With the values
`V` of the policy as the baseline its variance is near the least; with wrong values it is greater,
and with lambda < 1 its mean is wrong, too. RLOO takes no values: its baseline is the mean of the
other answers of a group, and its variance has a closed form, since it is a U-statistic.
"""

from __future__ import annotations

from typing import Any

import torch
from llm_gym_known_optimum import KnownOptimum

from benchmarks.claims.exact import Moments, moments
from benchmarks.claims.world import World
from benchmarks.common import mean_with_interval

GROUP = 16
ERRORS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Root mean square of a critic's errors, in standard deviations of the returns."""
LAMBDAS = (1.0, 0.95, 0.5)
SHARES = (0.0, 0.5)
"""Where a policy stands between the reference (0) and the optimum (1)."""


class Place:
    """A policy on a problem, and what its answers earn.

    Args:
        world: The problem.
        share: Where the policy stands between the reference and the optimum.

    Attributes:
        world: The problem.
        probabilities: Of each answer, `(P, Y)`.
        scores: Gradient of each token's log-probability, `(P, Y, L, D)`.
        rewards: Of each token: the penalty, and the score behind the last one, `(P, Y, L)`.
        values: Of the prefix that each token is chosen after, `(P, Y, L)`.
        exact: Gradient of the sum over prompts of the objective, `(P, D)`.
    """

    def __init__(self, world: World, share: float) -> None:
        problem: KnownOptimum = world.problem
        logits, self.world = world.towards_optimum(share), world
        log_probs = world.token_log_probs(logits)
        self.probabilities = log_probs.sum(-1).exp()
        self.scores = world.token_scores(logits)
        penalties = problem.beta * (log_probs - world.token_log_probs(world.reference))
        last = torch.arange(world.mask.shape[1]) == world.lengths[:, None] - 1  # (Y, L)
        self.rewards = world.rewards[..., None] * last - penalties
        layers = tuple(
            logits[:, sum(world.problem.tree.n_words**d for d in range(depth)) :][
                :, : world.problem.tree.n_words**depth
            ].log_softmax(-1)
            for depth in range(problem.tree.length)
        )
        values, _ = problem.values(layers)
        self.values = torch.cat(values[:-1], 1)[:, world.nodes] * world.mask
        self.exact = self._gradient(layers)

    def _gradient(self, layers: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """By backpropagation through the objective, in the logits of every prefix."""
        leaves = [layer.detach().clone().requires_grad_() for layer in layers]
        objective = self.world.problem.objective(tuple(leaf.log_softmax(-1) for leaf in leaves))
        gradients = torch.autograd.grad(objective, leaves)
        return torch.cat([g.flatten(1) for g in gradients], 1) * self.world.n_prompts

    @property
    def returns(self) -> torch.Tensor:
        """What each answer earns in all, `(P, Y)`."""
        return self.rewards.sum(-1)

    @property
    def spread(self) -> float:
        """Standard deviation of the returns of a prompt's answers, root mean square of prompts."""
        mean = (self.probabilities * self.returns).sum(-1, keepdim=True)
        variance = (self.probabilities * (self.returns - mean) ** 2).sum(-1)
        return float(variance.mean().sqrt())

    def with_critic(self, values: torch.Tensor, lam: float) -> Moments:
        """Of the gradient whose advantages are GAE's.

        Args:
            values: What the critic says of the prefix of each token, `(P, Y, L)`.
            lam: Lambda.
        """
        world = self.world
        ahead = torch.cat([values[..., 1:], torch.zeros_like(values[..., :1])], -1) * torch.cat(
            [world.mask[:, 1:], torch.zeros_like(world.mask[:, :1])], -1
        )
        errors = (self.rewards + ahead - values) * world.mask
        advantages, behind = [], torch.zeros_like(errors[..., 0])
        for place in reversed(range(errors.shape[-1])):
            behind = errors[..., place] + lam * behind
            advantages.insert(0, behind)
        credit = torch.stack(advantages, -1) * world.mask
        vectors = torch.einsum("pyl,pyld->pyd", credit, self.scores)
        return moments(vectors, self.probabilities, self.exact)

    def wrong_values(self, error: float, seed: int) -> torch.Tensor:
        """The values with an error at every prefix, of a size in `spread`, `(P, Y, L)`."""
        generator = torch.Generator().manual_seed(seed)
        n_nodes = int(self.world.nodes.max()) + 1
        shape = self.world.n_prompts, n_nodes
        errors = torch.randn(shape, generator=generator, dtype=torch.float64)
        return (self.values + error * self.spread * errors[:, self.world.nodes]) * self.world.mask

    def leave_one_out(self, group: int = GROUP) -> Moments:
        """Of RLOO, an answer of its group: `group` times the variance of the group's gradient.

        The gradient of a group is the U-statistic of `(R_i - R_j) (s_i - s_j) / 2`, where `s` is
        the gradient of an answer's log-probability (Hoeffding 1948, for the variance).
        """
        p, scores = self.probabilities, self.scores.sum(2)  # (P, Y), (P, Y, D)
        mean = (p * self.returns).sum(-1, keepdim=True)
        vectors = (self.returns - mean)[..., None] * scores
        plain = moments(vectors, p, self.exact)  # with the mean itself as the baseline
        expected = torch.einsum("py,pyd->pd", p, vectors)
        variance = float((p * (vectors**2).sum(-1)).sum() - (expected**2).sum())
        apart = (self.returns[:, :, None] - self.returns[:, None]) ** 2  # (P, Y, Y)
        between = torch.cdist(scores, scores) ** 2
        pairs = p[:, :, None] * p[:, None]
        of_two = float((pairs * apart * between).sum() / 4 - (expected**2).sum())
        whole = 2 / (group * (group - 1)) * (2 * (group - 2) * variance / 4 + of_two)
        signal = plain.scale**2 * float((self.exact**2).sum())
        return plain._replace(noise=group * whole / signal)


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """A trial: noise and bias of every estimator on one problem.

    Args:
        job: `problem`, a `KnownOptimum`; `seed`, of the critic's errors.

    Returns:
        By place, by estimator: `noise` of an answer, `bias`.
    """
    world, found = World(job["problem"]), {}
    for share in SHARES:
        place = Place(world, share)
        estimators = {"rloo": place.leave_one_out()}
        level = (place.probabilities * place.returns).sum(-1)[:, None, None]
        constant = level.expand_as(place.values) * world.mask
        for lam in LAMBDAS:
            for error in ERRORS:
                wrong = place.wrong_values(error, job["seed"])
                estimators[f"error {error:g}, lambda {lam:g}"] = place.with_critic(wrong, lam)
            estimators[f"constant, lambda {lam:g}"] = place.with_critic(constant, lam)
            nothing = torch.zeros_like(place.values)
            estimators[f"zero, lambda {lam:g}"] = place.with_critic(nothing, lam)
        found[f"{share:g}"] = {
            name: {"noise": figures.noise, "bias": figures.bias}
            for name, figures in estimators.items()
        }
    return found


def summary(trials: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Answers that are needed for as little noise as one of RLOO's, and bias, over problems.

    Args:
        trials: Of `measure`.

    Returns:
        By place, by estimator: `answers` and `bias` with intervals.
    """
    return {
        share: {
            name: {
                "answers": mean_with_interval(
                    [
                        trial[share][name]["noise"] / trial[share]["rloo"]["noise"]
                        for trial in trials
                    ]
                ),
                "bias": mean_with_interval([trial[share][name]["bias"] for trial in trials]),
            }
            for name in trials[0][share]
        }
        for share in trials[0]
    }
