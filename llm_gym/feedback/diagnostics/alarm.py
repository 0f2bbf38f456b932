"""An alarm for over-optimisation: it rings when gold turns while the proxy still rises."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from llm_gym.files import atomic
from llm_gym.files.ranges import check_choice, check_numbers
from llm_gym.files.schema import list_of, number, optional, record, whole
from llm_gym.scorers.protocol import ScorerError
from llm_gym.statistics.turning import MINIMUM_UNITS, Look, TurnEvidence, turn_evidence

LOOKS = "looks.jsonl"
BEST_MODEL = "best"
BEST_FIGURES = "best.json"

Measure = Callable[[BaseAlgorithm], tuple[np.ndarray, np.ndarray]]


class OveroptimisationWarning(UserWarning):
    """The gold score has turned."""


@dataclass(frozen=True)
class Alarm:
    """One alarm.

    Attributes:
        step: Tokens trained on when it rang.
        message: What was seen, for people.
        evidence: The figures.
    """

    step: int
    message: str
    evidence: TurnEvidence


class OveroptimisationAlarm(BaseCallback):
    """Watches a gold score that is not trained on, and rings when it turns.

    Every few iterations it looks at gold and proxy, keeps the best model so far by mean gold, and
    tests whether gold has fallen since (`llm_gym.statistics.turning.turn_evidence`): a chosen
    best and many looks are accounted for, so that `level` bounds the probability of a false alarm
    in the whole run. It rings once for each turn; a new best arms it again.

    Two sources of scores:

    - `measure`, usually a `llm_gym.feedback.diagnostics.HeldOutMeasure`: scores on held-out
      prompts, the same at every look, taken between two iterations. The better one.
    - no `measure`: the episodes of the iteration's own rollout, scored by
      `llm_gym.feedback.diagnostics.GoldProxy`. Costs nothing, but the prompts are those that
      are trained on, and episodes to the same prompt count as independent.

    Args:
        measure: Takes the algorithm, returns gold and proxy scores, `(P,)` each.
        every: Iterations between two looks.
        action: "warn" issues an `OveroptimisationWarning` and goes on; "stop" also ends training.
        level: Probability of a false alarm in the whole run.
        planned_looks: Looks that the run is expected to have; None computes it from its length.
        directory: Gets `looks.jsonl` (every look, so that a resumed run remembers), `best/` (the
            model of the best look, for `from_pretrained`) and `best.json` (its figures). None keeps
            nothing on disk, and no model.
        seed: Seed of the resampling.

    Raises:
        ValueError: An argument is out of range.

    Attributes:
        looks: All so far, oldest first.
        alarms: Those that rang.
        stopped: Whether training was ended.
    """

    model: OnPolicyAlgorithm

    def __init__(
        self,
        measure: Measure | None = None,
        *,
        every: int = 5,
        action: Literal["warn", "stop"] = "warn",
        level: float = 0.05,
        planned_looks: int | None = None,
        directory: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_numbers(every=every, level=level, seed=seed)
        check_choice("action", action, ("warn", "stop"))
        if planned_looks is not None:
            check_numbers(planned_looks=planned_looks)
        self.measure = measure
        self.every, self.action, self.level, self.seed = every, action, level, seed
        self.planned_looks = planned_looks
        self.directory = None if directory is None else Path(directory)
        self.looks: list[Look] = []
        self.alarms: list[Alarm] = []
        self.stopped = False
        self._armed = True
        self._iteration = 0
        self._planned = 1
        self._episodes: list[tuple[float, float]] = []

    @property
    def best(self) -> Look | None:
        """The look with the highest mean gold score; None before the first."""
        return max(self.looks, key=lambda look: look.gold_mean, default=None)

    # ------------------------------------------------------------------ when to look

    def _on_training_start(self) -> None:
        steps = self.model.num_timesteps
        self.stopped, self._armed, self.alarms = False, True, []
        if self.directory is not None:
            self.looks = _read_looks(self.directory / LOOKS, steps) if steps else []
        elif not steps:
            self.looks = []
        rollout = self.model.n_steps * self.training_env.num_envs
        # Not by its steps: rollouts of whole answers have as many tokens as their answers.
        updates = self.model._n_updates if steps else 0
        self._iteration = updates // getattr(self.model, "n_epochs", 1)
        iterations = -(-self.model._total_timesteps // rollout)
        self._planned = self.planned_looks or max(1, iterations // self.every)

    def _on_rollout_start(self) -> None:
        self._episodes = []
        if self.measure is not None and self._iteration % self.every == 0 and not self._has_looked:
            self._look_at_held_out()

    def _on_step(self) -> bool:
        if self.measure is None and self._iteration % self.every == 0:
            for row in np.flatnonzero(self.locals["dones"]):
                parts = self.locals["infos"][row].get("score_parts", {})
                if "gold" in parts and "proxy" in parts:
                    self._episodes.append((parts["gold"], parts["proxy"]))
        return not self.stopped

    def _on_rollout_end(self) -> None:
        if self.measure is None and self._iteration % self.every == 0:
            self._look_at_rollout()
        self._iteration += 1

    def _on_training_end(self) -> None:
        # The last update has been measured by nobody yet.
        if self.measure is not None and not self.stopped and not self._has_looked:
            self._look_at_held_out()

    @property
    def _has_looked(self) -> bool:
        """Whether a resumed run has had the look of its last checkpoint."""
        return bool(self.looks) and self.looks[-1].step == self.model.num_timesteps

    # ------------------------------------------------------------------ looking

    def _look_at_held_out(self) -> None:
        assert self.measure is not None
        try:
            gold, proxy = self.measure(self.model)
        except ScorerError as error:
            warnings.warn(
                f"no look at step {self.model.num_timesteps}: {error}",
                OveroptimisationWarning,
                stacklevel=2,
            )
            return
        self._take(gold, proxy)

    def _look_at_rollout(self) -> None:
        if len(self._episodes) < MINIMUM_UNITS:
            warnings.warn(
                f"no look at step {self.model.num_timesteps}: only {len(self._episodes)} episodes "
                f"of the rollout have a gold score, {MINIMUM_UNITS} are needed; is the scorer a "
                "GoldProxy, and the rollout long enough?",
                OveroptimisationWarning,
                stacklevel=2,
            )
            return
        gold, proxy = np.array(self._episodes).T
        self._take(gold, proxy)

    def _take(self, gold: np.ndarray, proxy: np.ndarray) -> None:
        statistics: dict[str, float] = getattr(self.model, "rollout_statistics", {})
        look = Look(
            step=self.model.num_timesteps,
            gold=tuple(np.asarray(gold, dtype=float).tolist()),
            proxy=tuple(np.asarray(proxy, dtype=float).tolist()),
            kl=statistics.get("kl_per_sequence"),
        )
        best = self.best
        self.looks.append(look)
        self._write_looks()
        self.logger.record("alarm/gold", look.gold_mean)
        self.logger.record("alarm/proxy", look.proxy_mean)
        if best is None or look.gold_mean > best.gold_mean:
            self._keep_model(look)
            self._armed = True
            return
        evidence = turn_evidence(
            self.looks,
            level=self.level,
            planned_looks=self._planned,
            paired=self.measure is not None,
            seed=self.seed,
        )
        self.logger.record("alarm/p_value", evidence.p_value)
        if evidence.turned and self._armed:
            self._ring(best, look, evidence)

    def _ring(self, best: Look, look: Look, evidence: TurnEvidence) -> None:
        self._armed = False
        what = "held-out prompts" if self.measure is not None else "episodes of a rollout"
        kept = (
            "no model was kept, because the alarm has no directory"
            if self.directory is None
            else f"the model of step {best.step} is kept in {self.directory / BEST_MODEL}"
        )
        message = (
            f"over-optimisation: gold fell from {best.gold_mean:.4g} at step {best.step}"
            f"{_at_kl(best)} to {look.gold_mean:.4g} at step {look.step}{_at_kl(look)}, while the "
            f"proxy rose from {best.proxy_mean:.4g} to {look.proxy_mean:.4g} "
            f"({len(look.gold)} {what}, p = {evidence.p_value:.2g}, allowed for this look "
            f"{evidence.level:.2g}); {kept}"
        )
        self.alarms.append(Alarm(look.step, message, evidence))
        warnings.warn(message, OveroptimisationWarning, stacklevel=2)
        if self.action == "stop":
            self.stopped = True

    # ------------------------------------------------------------------ what is kept

    def _keep_model(self, look: Look) -> None:
        if self.directory is None:
            return
        from llm_gym.runs.checkpoint import save_model

        save_model(self.model, self.directory / BEST_MODEL)
        figures = {"step": look.step, "gold": look.gold_mean, "proxy": look.proxy_mean}
        atomic.write_json(self.directory / BEST_FIGURES, {**figures, "kl": look.kl})

    def _write_looks(self) -> None:
        if self.directory is not None:
            lines = [json.dumps(asdict(look)) + "\n" for look in self.looks]
            atomic.write_text(self.directory / LOOKS, "".join(lines))


def _at_kl(look: Look) -> str:
    return "" if look.kl is None else f" (KL {look.kl:.3g} nats)"


_LOOK = record(
    {
        "step": whole(),
        "gold": list_of(number()),
        "proxy": list_of(number()),
        "kl": optional(number()),
    }
)


def _read_looks(path: Path, steps: int) -> list[Look]:
    """Looks up to a step; the file is written whole, so a line that is wrong is an error."""
    if not path.exists():
        return []
    looks = []
    for place, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row: dict[str, Any] = json.loads(line)
            _LOOK("the look", row)
            look = Look(row["step"], tuple(row["gold"]), tuple(row["proxy"]), row["kl"])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: line {place} is no look of an alarm: {error}") from error
        if look.step <= steps:
            looks.append(look)
    return looks
