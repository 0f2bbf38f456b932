"""Best-of-n: draw n answers to each prompt and keep the one that the scorer likes best.

The strongest baseline that needs no training at all, and the teacher of expert iteration. It costs
n answers for one, each time it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llm_gym.files.ranges import COUNT, check_device, check_numbers
from llm_gym.runs.evaluation import Evaluation
from llm_gym.runs.playing import (
    by_name,
    make_playing_env,
    number_of_prompts,
    play_prompts,
    policy_of,
    seeded_sampling,
)
from llm_gym.statistics.best_of_n import BestOfNEstimate, estimate_best_of_n, kl_bound
from llm_gym.text.answer import Answer, scores_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from stable_baselines3.common.base_class import BaseAlgorithm

    from llm_gym.language_models.model_objects import ModelLike
    from llm_gym.policy import TransformerActorCriticPolicy


@dataclass(frozen=True)
class BestOfNAnswers:
    """What `sample_best_of_n` found.

    Attributes:
        n: Answers drawn to each prompt.
        best: The evaluation of the best answers: one row a prompt, mean score and interval.
        candidates: All n answers to each prompt, in the order of `best.rows`.
        kl_bound: log n - (n - 1)/n, upper bound of the divergence of best-of-n from the model that
            the answers were drawn from, in nats (Beirami et al., 2401.01879).
    """

    n: int
    best: Evaluation
    candidates: tuple[tuple[Answer, ...], ...]
    kl_bound: float

    @property
    def scores(self) -> NDArray[np.float64]:
        """Scores of the candidates, float64 `(prompts, n)`."""
        return np.array([scores_of(answers) for answers in self.candidates])

    def curve(self, n: Sequence[int] | None = None) -> BestOfNEstimate:
        """Expected score of best-of-m for every m up to n, from the same answers.

        All groups of m of the n answers are averaged, so this says more about a smaller m than the
        best of m fresh answers would; see `llm_gym.statistics.best_of_n.estimate_best_of_n`.

        Args:
            n: The numbers m; None for 1, 2, 4, ... and n itself.
        """
        if n is None:
            n = sorted({2**k for k in range(self.n.bit_length()) if 2**k <= self.n} | {self.n})
        return estimate_best_of_n(self.scores, {}, n)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form: the best answers, and the curve of smaller n."""
        curve = self.curve()
        points = zip(
            curve.n.tolist(),
            *(bound["score"].tolist() for bound in (curve.mean, curve.low, curve.high)),
            strict=True,
        )
        return {
            "n": self.n,
            "kl_bound": self.kl_bound,
            "best": self.best.to_dict(),
            "curve": [dict(zip(("n", "score", "low", "high"), p, strict=True)) for p in points],
        }


def sample_best_of_n(
    model: ModelLike | TransformerActorCriticPolicy | BaseAlgorithm,
    env: str | Mapping[str, Any],
    n: int,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    policy_kwargs: Mapping[str, Any] | None = None,
    max_prompts: int | None = None,
    num_envs: int = 32,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> BestOfNAnswers:
    """Draws n answers to every prompt of an environment and keeps the best by its scorer.

    A policy that is being trained is left as it was, its random state included.

    Args:
        model: As in `llm_gym.evaluate`.
        env: Id of a registered text environment, or the arguments of `TextGenerationVectorEnv`;
            as in `llm_gym.evaluate` the default of `llm_gym/PoliteEmail-v0` is `split="test"`.
        n: Answers to each prompt; 1 is plain sampling.
        env_kwargs: Further arguments of the environment.
        policy_kwargs: Arguments of the policy made from a name or path (`temperature=`, ...).
        max_prompts: The first so many prompts only; None is all.
        num_envs: Answers written at the same time.
        seed: Seed of the sampling.
        device: Where a model given by name runs.

    Returns:
        The best answers and all candidates.

    Raises:
        ValueError: `n` is less than 1, the prompts are a stream, or an argument does not fit.
    """
    COUNT.check("n", n)
    check_numbers(seed=seed)
    check_device("device", device)
    if max_prompts is not None:
        check_numbers(max_prompts=max_prompts)
    model = by_name(model)
    vector_env = make_playing_env(env, env_kwargs, num_envs=num_envs, model=model)
    try:
        text_env: Any = vector_env.unwrapped
        indices = np.repeat(np.arange(number_of_prompts(text_env, max_prompts)), n)
        policy = policy_of(model, text_env, policy_kwargs, device)
        by_prompt: dict[int, list[Answer]] = {}
        with seeded_sampling(policy, seed), torch.no_grad():
            for answer in play_prompts(policy, vector_env, indices.tolist()):
                by_prompt.setdefault(answer.prompt_index, []).append(answer)
    finally:
        vector_env.close()
    # Answers arrive in the order of their lengths; sorted by their tokens, that order is forgotten.
    candidates = tuple(
        tuple(sorted(by_prompt[index], key=lambda answer: answer.completion_ids))
        for index in sorted(by_prompt)
    )
    rng = np.random.default_rng(seed)
    return BestOfNAnswers(
        n=n,
        best=Evaluation.of([best_answer(answers, rng) for answers in candidates]),
        candidates=candidates,
        kl_bound=float(kl_bound(n)),
    )


def best_answer(answers: Sequence[Answer], rng: np.random.Generator) -> Answer:
    """The answer of the best score; a tie is broken by lot, as theory has it.

    Args:
        answers: Scored answers to one prompt, at least one.
        rng: Draws the lot.
    """
    scores = scores_of(answers)
    tied = np.flatnonzero(scores == scores.max())
    return answers[int(tied[rng.integers(len(tied))])]
