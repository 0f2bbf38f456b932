"""Settings that follow from how much of training remains: held against their ranges.

A schedule is a function of the share of training that remains, from 1 to 0, as in
Stable-Baselines3.
"""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import Schedule

from llm_gym.files.ranges import RANGES


class ScheduledLearner(OnPolicyAlgorithm):
    """An on-policy algorithm whose schedules are asked before each update, `ent_coef`'s, too."""

    #: What `ent_coef` follows, if anything.
    ent_coef_schedule: Schedule | None = None

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        """Nothing remains once the last rollout has gone beyond the total.

        Stable-Baselines3 counts on below 0, where a falling rate makes of descent ascent.
        """
        super()._update_current_progress_remaining(
            min(num_timesteps, total_timesteps), total_timesteps
        )

    def _update_learning_rate(self, optimizers: Any) -> None:
        """Takes the learning rate of an update from its schedule, and so the entropy's weight."""
        told = self._told_by_schedules()
        super()._update_learning_rate(optimizers)
        if "ent_coef" in told:
            self.ent_coef = float(told["ent_coef"])
            self.logger.record("train/ent_coef", self.ent_coef)

    def _told_by_schedules(self) -> dict[str, Any]:
        """What schedules say of this update, held against their ranges before it is made.

        What they said of the beginning and the end has been checked when they were given.
        """
        remains = self._current_progress_remaining
        schedules = {
            "learning_rate": self.lr_schedule,
            "ent_coef": self.ent_coef_schedule,
            **{name: getattr(self, name, None) for name in ("clip_range", "clip_range_vf")},
        }
        told = {}
        for name, schedule in schedules.items():
            # Stable-Baselines3 makes a float of what its argument returns, whatever that is.
            given = getattr(schedule, "value_schedule", schedule)
            if callable(given):
                told[name] = given(remains)
                RANGES[name].check_returned(name, remains, told[name])
        return told
