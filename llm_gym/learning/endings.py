"""What is known of the answers that ended in a rollout, whatever is learnt from them.

These figures tell a run that has nothing to learn from, or whose answers never end, from one that
learns: `llm-gym doctor` reads them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from llm_gym.learning.buffer import EpisodeBuffer


class Endings:
    """The answers that end in a rollout.

    Args:
        env: What plays them. Which answers were cut is known where an answer can end otherwise.
        group_size: Rows `k*G .. k*G + G - 1` answer the same prompt at the same time; 1 where they
            do not.
    """

    def __init__(self, env: VecEnv, group_size: int) -> None:
        self._group_size = group_size
        # A conversation ends as its world has it; some worlds have no end but the budget.
        tells = env.has_attr("eos_token_ids") and not env.has_attr("max_turn_tokens")
        self._can_end = bool(tells and env.get_attr("eos_token_ids")[0])
        self._returns: list[float] = []
        self._cut: list[bool] = []
        self._groups: dict[tuple[int, int], list[float]] = defaultdict(list)
        self._ended: Counter[int] = Counter()

    def note(self, row: int, info: Mapping[str, Any]) -> None:
        """Takes in an answer.

        Args:
            row: Of the environment.
            info: Of the step that ended it; one without "episode" is left out.
        """
        if "episode" not in info:
            return
        worth = float(info["episode"]["r"])
        self._returns.append(worth)
        if self._can_end and info.get("stop_reason") is not None:
            self._cut.append(info["stop_reason"] == "length")
        self._groups[self._ended[row], row // self._group_size].append(worth)
        self._ended[row] += 1

    def figures(self, buffer: EpisodeBuffer) -> dict[str, float]:
        """What is known of them, by the name it is logged under.

        Args:
            buffer: The finished rollout.
        """
        found = {}
        if self._returns:
            found["return_mean"] = float(np.mean(self._returns))
            found["return_std"] = float(np.std(self._returns))
        if self._cut:
            found["cut_share"] = float(np.mean(self._cut))
        groups = [each for each in self._groups.values() if len(each) > 1]
        if self._group_size > 1 and groups:
            found["equal_groups"] = float(np.mean([min(each) == max(each) for each in groups]))
        segments = buffer.segments()
        if segments:
            found["sampled_entropy"] = -float(buffer.log_probs[buffer.places(segments)].mean())
        answers = [s for s in segments if buffer.complete(s)]
        if answers:
            different = {buffer.actions[s.start : s.stop, s.env].tobytes() for s in answers}
            found["different_share"] = len(different) / len(answers)
        return found
