"""A gold score that is reported beside the proxy and never trained on.

Reward and loss look healthy while quality collapses; only a score that the optimiser cannot reach
shows it (Gao et al., 2210.10760; Zheng et al., 2307.04964). `GoldProxy` scores the episodes of
training with both, `HeldOutMeasure` answers to held-out prompts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from llm_gym.feedback.diagnostics.pictures import GoldProxyCurve, write_pictures
from llm_gym.runs.callbacks.history import History, Row
from llm_gym.scorers.protocol import Columns, Scorer, ScorerError, Scores, as_scorer, or_none
from llm_gym.statistics.scaling_laws import Law

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

ScorerLike = Scorer | Callable[..., Any] | str


class GoldProxy(Scorer):
    """Pays what the proxy says and reports what the gold scorer says.

    The value of an episode is the proxy's, whatever the gold scorer does: training with and without
    it is the same, number for number. Both scores are in `Scores.parts`, so they reach
    `info["score_parts"]` as `"proxy"` and `"gold"`; parts of the proxy follow as `"proxy/NAME"`,
    those of the gold scorer as `"gold/NAME"`.

    A completion that the gold scorer returns None for ("not my task") has no part "gold".

    A gold scorer that fails must not cost the run, nor an episode its reward: its part is left out
    for that batch, a warning says so once, and `gold_failures` counts.

    Args:
        proxy: The scorer to train on.
        gold: The scorer to be held against it.
        name: Name in messages.

    Raises:
        TypeError: One of them is not callable.

    Attributes:
        gold_failures: Batches that the gold scorer failed on.
        last_gold_error: What it said last; None if it never failed.
    """

    def __init__(self, proxy: ScorerLike, gold: ScorerLike, *, name: str = "gold_proxy") -> None:
        self.name = name
        self.proxy = as_scorer(proxy)
        self.gold = as_scorer(gold)
        self.gold_failures = 0
        self.last_gold_error: str | None = None

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> Scores:
        """Score with the proxy, then with the gold scorer. See `Scorer.compute`."""
        # The proxy goes first, so that not even a gold scorer that edits its columns touches it.
        paid = self.proxy.score(prompts, completions, columns, allow_none=True)
        parts = _named("proxy", paid)
        try:
            gold = self.gold.score(prompts, completions, columns, allow_none=True)
            parts |= _named("gold", gold)
        except ScorerError as error:
            self.gold_failures += 1
            self.last_gold_error = str(error)
            if self.gold_failures == 1:
                warnings.warn(
                    f"the gold scorer failed; training goes on without its score: {error}",
                    stacklevel=2,
                )
        return Scores(or_none(paid.values), parts)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"GoldProxy({self.proxy!r}, {self.gold!r})"


class GoldProxyCallback(BaseCallback):
    """Records proxy, gold, divergence, length and entropy of every rollout, and draws them.

    Each row describes the policy that collected the rollout, and means are over the episodes that
    ended in it: `step` (tokens so far), `iteration`, `episodes`, `proxy`, `proxy_se`, `gold`,
    `gold_se` (standard errors), `kl` (nats per sequence to the reference), `length` (tokens),
    `entropy` (nats per token). The same figures go to the logger, so to TensorBoard, as
    `gold_proxy/...`.

    `kl` is there if the algorithm has a reference: give `llm_gym.PPO` a `kl_coef` above 0, or
    `kl_coef=0` and a `reference`.

    Args:
        directory: Gets `gold_proxy.jsonl`, one row a line as it comes, and at the end of training
            the pictures of `llm_gym.feedback.diagnostics.write_pictures`. None keeps rows in
            memory. A run that is resumed continues the file.
        law: Form that is fitted to the gold score.

    Attributes:
        rows: What was recorded, oldest first.
    """

    model: OnPolicyAlgorithm

    def __init__(self, directory: str | Path | None = None, *, law: Law = "rl") -> None:
        super().__init__()
        self.directory = None if directory is None else Path(directory)
        self.law = law
        self._history = History()
        self._iteration = 0
        self._proxy: list[float] = []
        self._gold: list[float] = []
        self._lengths: list[int] = []

    @property
    def rows(self) -> list[Row]:
        """What was recorded, oldest first."""
        return self._history.rows

    def curve(self, name: str = "training") -> GoldProxyCurve:
        """Proxy and gold against the square root of the divergence, less their first values.

        Raises:
            ValueError: No row has all three.
        """
        return GoldProxyCurve.of_rows(self.rows, name=name)

    def _on_training_start(self) -> None:
        path = None if self.directory is None else self.directory / "gold_proxy.jsonl"
        steps = self.model.num_timesteps
        if path is not None:
            self._history.close()
            self._history = History(path, resume_at=steps or None)
        elif not steps:
            self._history = History()
        self._iteration = len(self._history.rows)

    def _on_rollout_start(self) -> None:
        self._proxy, self._gold, self._lengths = [], [], []

    def _on_step(self) -> bool:
        for row in np.flatnonzero(self.locals["dones"]):
            self._note(self.locals["infos"][row])
        return True

    def _note(self, info: Mapping[str, Any]) -> None:
        if "score" not in info:  # cut off or penalised: nobody judged it
            return
        parts = info.get("score_parts", {})
        if "proxy" not in parts:
            raise ValueError(
                "GoldProxyCallback needs an environment whose scorer is GoldProxy(proxy, gold); "
                f"this one reports the parts {sorted(parts)}"
            )
        self._proxy.append(float(parts["proxy"]))
        self._lengths.append(int(info["terminal_observation"]["completion_mask"].sum()))
        if "gold" in parts:
            self._gold.append(float(parts["gold"]))

    def _on_rollout_end(self) -> None:
        figures: dict[str, float] = {"episodes": len(self._proxy)}
        for name, values in (("proxy", self._proxy), ("gold", self._gold)):
            if values:
                figures[name] = float(np.mean(values))
            if len(values) > 1:
                figures[f"{name}_se"] = float(np.std(values, ddof=1) / np.sqrt(len(values)))
        if self._lengths:
            figures["length"] = float(np.mean(self._lengths))
        # Minus the mean log-probability of sampled tokens estimates their policy's entropy.
        figures["entropy"] = -float(self.model.rollout_buffer.log_probs.mean())
        statistics: Mapping[str, float] = getattr(self.model, "rollout_statistics", {})
        if "kl_per_sequence" in statistics:
            figures["kl"] = statistics["kl_per_sequence"]
        for name, value in figures.items():
            self.logger.record(f"gold_proxy/{name}", value)
        row = {"iteration": float(self._iteration), **figures}
        self._iteration += 1
        self._history.write(row, {}, self.model.num_timesteps)

    def _on_training_end(self) -> None:
        if self.directory is None:
            return
        self._history.close()
        try:
            curve = self.curve()
        except ValueError as error:
            warnings.warn(f"no pictures of gold and proxy: {error}", stacklevel=2)
            return
        write_pictures([curve], self.directory, law=self.law)


def _named(part: str, scores: Scores) -> dict[str, Any]:
    inner = {f"{part}/{name}": or_none(values) for name, values in scores.parts.items()}
    return {part: or_none(scores.values), **inner}


# ------------------------------------------------------------------ on held-out prompts


class HeldOutScores(NamedTuple):
    """Scores of one answer to each held-out prompt, in the order of the prompts.

    Attributes:
        gold: float64 `(P,)`.
        proxy: float64 `(P,)`.
    """

    gold: np.ndarray
    proxy: np.ndarray


class HeldOutMeasure:
    """Lets a model answer held-out prompts, and asks proxy and gold scorer what that is worth.

    The same random numbers are used every time, so that two moments differ by what was learnt
    rather than by luck. Every answer is judged, also one that the length limit cuts off. The model
    and its random state are left as they were.

    Args:
        env: Id of a registered text environment, or arguments of `TextGenerationVectorEnv`; with
            the held-out prompts, which should differ in their text.
        proxy: The scorer that is trained on.
        gold: The scorer that is not.
        env_kwargs: Further arguments of the environment.
        max_prompts: The first so many prompts only; None is all.
        num_envs: Answers written at the same time.
        seed: Seed of the sampling.

    Raises:
        TypeError: A scorer is not callable.
    """

    def __init__(
        self,
        env: str | Mapping[str, Any],
        proxy: Scorer | Callable[..., Any],
        gold: Scorer | Callable[..., Any],
        *,
        env_kwargs: Mapping[str, Any] | None = None,
        max_prompts: int | None = None,
        num_envs: int = 32,
        seed: int = 0,
    ) -> None:
        self._env = env
        self._recorder = _Recorder(as_scorer(proxy), as_scorer(gold))
        self._env_kwargs = dict(env_kwargs or {})
        self._max_prompts, self._num_envs, self._seed = max_prompts, num_envs, seed

    def __call__(self, algorithm: BaseAlgorithm) -> HeldOutScores:
        """Measures.

        Args:
            algorithm: Its policy must be a `TransformerActorCriticPolicy`.

        Returns:
            Both scores of every prompt.

        Raises:
            ScorerError: One of the scorers failed.
        """
        from llm_gym.runs.evaluation import evaluate

        recorder = self._recorder
        recorder.seen.clear()
        judged = {
            "scorer": recorder,
            "on_max_length": "terminate",
            "on_scorer_error": "raise",
        }
        evaluation = evaluate(
            algorithm,
            self._env,
            env_kwargs={**self._env_kwargs, **judged},
            max_prompts=self._max_prompts,
            num_envs=self._num_envs,
            seed=self._seed,
        )
        gold = [recorder.seen[row.prompt, row.completion] for row in evaluation.rows]
        return HeldOutScores(np.array(gold), np.array([row.score for row in evaluation.rows]))


class _Recorder(Scorer):
    """Gives the proxy's score, and remembers the gold score of each answer."""

    name = "held_out"

    def __init__(self, proxy: Scorer, gold: Scorer) -> None:
        self.proxy, self.gold = proxy, gold
        self.seen: dict[tuple[str, str], float] = {}

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> Scores:
        scores = self.proxy.score(prompts, completions, columns)
        gold = self.gold.score(prompts, completions, columns).values
        for prompt, completion, value in zip(prompts, completions, gold.tolist(), strict=True):
            self.seen.setdefault((prompt, completion), value)
        return Scores(scores.values, {})
