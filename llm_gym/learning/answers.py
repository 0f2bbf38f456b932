"""Whole answers, in groups to the same prompt: kept while they are sampled.

The algorithms that compare answers need nothing else of a rollout than the tokens of each finished
answer and its score. `GroupedAnswers` collects them between the environment and
Stable-Baselines3, so that rollouts of any length serve: an answer that a rollout's end cuts in two
is one answer here, and a group is handed out once its last member has arrived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from llm_gym.files.schema import (
    Check,
    anything,
    list_of,
    number,
    optional,
    record,
    row_of,
    whole,
)
from llm_gym.learning.rounds import check_contexts
from llm_gym.text.answer import Answer


class GroupedAnswers(VecEnvWrapper):
    """Collects the finished answers of a text environment, group by group.

    Rows `k*G .. k*G + G-1` of an environment with `group_size` G get the same prompts, each at
    its own pace: the j-th answers of these rows are a group. Without groups, G is 1.

    The answers are part of the state (`get_state`), and so of every checkpoint: their scores may
    have been dear.

    Args:
        venv: A text environment whose rows are reset in the step that ends them.

    Attributes:
        group_size: G.
        finished: Groups whose last member has arrived, in order of arrival; each in order of rows,
            because the order in which its members arrive depends on their lengths.
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        check_contexts(venv, "comparing answers", "use PPO or A2C with n_steps")
        try:
            self.group_size = int(venv.get_attr("group_size")[0])
        except AttributeError:
            self.group_size = 1
        self.finished: list[list[Answer]] = []
        self._forget()

    def _forget(self) -> None:
        """Nothing begun, nothing pending; what is finished stays."""
        self._pending: dict[tuple[int, int], dict[int, Answer]] = {}
        self._ordinals = np.zeros(self.num_envs, dtype=np.int64)  # of each row's running episode
        self._returns = np.zeros(self.num_envs)
        self._first_ordinal = np.zeros(self.num_envs // self.group_size, dtype=np.int64)

    def reset(self) -> VecEnvObs:
        """Resets all rows; groups that have begun cannot be completed any more and are dropped."""
        seeded = self.venv.unwrapped._seeds[0] is not None  # then rows begin their walk anew
        observations = self.venv.reset()
        ordinals = self._ordinals + 1
        self._forget()
        if not seeded:
            # Each row has gone on by one prompt, but its group may be ahead of it.
            self._ordinals = ordinals
            self._first_ordinal = ordinals.reshape(-1, self.group_size).max(1)
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Steps all rows and keeps the answers that ended."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self._returns += rewards
        for row in np.flatnonzero(dones).tolist():
            self._keep(row, infos[row])
        return observations, rewards, dones, infos

    def _keep(self, row: int, info: Mapping[str, Any]) -> None:
        ids = info["terminal_observation"]["input_ids"]
        is_action = info["terminal_observation"]["completion_mask"].astype(bool)
        actions = np.flatnonzero(is_action)  # what a world has said between them is none
        answer_of = slice(actions[0], actions[-1] + 1)
        answer = Answer(
            prompt_ids=tuple(ids[: actions[0]].tolist()),
            completion_ids=tuple(ids[answer_of].tolist()),
            others=tuple(np.flatnonzero(~is_action[answer_of]).tolist()),
            score=None if info.get("TimeLimit.truncated") else float(self._returns[row]),
        )
        group, place = divmod(row, self.group_size)
        ordinal = int(self._ordinals[row])
        self._returns[row] = 0.0
        self._ordinals[row] += 1
        if ordinal < self._first_ordinal[group]:
            return
        members = self._pending.setdefault((group, ordinal), {})
        members[place] = answer
        if any(answer.prompt_ids != member.prompt_ids for member in members.values()):
            raise ValueError(
                f"group_size={self.group_size}, but rows of a group got different prompts; seed "
                "the environment (seed=...), and do not reset rows with prompts of their own"
            )
        if len(members) == self.group_size:
            complete = self._pending.pop((group, ordinal))
            self.finished.append([complete[member] for member in range(self.group_size)])

    def take(self) -> list[list[Answer]]:
        """The finished groups, which are then no longer kept; unscored answers are left out."""
        taken, self.finished = self.finished, []
        return [[answer for answer in group if answer.score is not None] for group in taken]

    def get_state(self) -> dict[str, Any]:
        """State of the environment and of the answers: JSON-able."""
        pending = [
            [group, ordinal, [[member, *_saved(answer)] for member, answer in members.items()]]
            for (group, ordinal), members in self._pending.items()
        ]
        return {
            "env": self.venv.get_state(),  # type: ignore[attr-defined]
            "finished": [[_saved(answer) for answer in group] for group in self.finished],
            "pending": pending,
            "ordinals": self._ordinals.tolist(),
            "returns": self._returns.tolist(),
            "first_ordinal": self._first_ordinal.tolist(),
        }

    def set_state(self, state: Mapping[str, Any]) -> VecEnvObs:
        """Continues from a state of `get_state`; returns the observations at that moment.

        Raises:
            ValueError: The state does not fit.
        """
        self.check_state("the state", state)
        observations = self.venv.set_state(state["env"])  # type: ignore[attr-defined]
        self.finished = [[_answer(saved) for saved in group] for group in state["finished"]]
        self._pending = {
            (group, ordinal): {member: _answer(answer) for member, *answer in members}
            for group, ordinal, members in state["pending"]
        }
        self._ordinals = np.array(state["ordinals"], dtype=np.int64)
        self._returns = np.array(state["returns"], dtype=np.float64)
        self._first_ordinal = np.array(state["first_ordinal"], dtype=np.int64)
        return observations

    def check_state(self, name: str, state: Any) -> None:
        """Raises `ValueError` unless `set_state` can continue from a state.

        Args:
            name: Of the state, for messages.
            state: The state.
        """
        ids = list_of(whole(0, int(self.action_space.n) - 1))  # type: ignore[attr-defined]
        answer = ids, ids, optional(number()), list_of(whole())
        size, groups = self.group_size, self.num_envs // self.group_size
        member = _at_least(4, row_of(whole(0, size - 1), *answer))
        record(
            {
                "env": getattr(self.venv, "check_state", anything),
                "finished": list_of(list_of(_at_least(3, row_of(*answer)), size)),
                "pending": list_of(row_of(whole(0, groups - 1), whole(), list_of(member))),
                "ordinals": list_of(whole(), self.num_envs),
                "returns": list_of(number(), self.num_envs),
                "first_ordinal": list_of(whole(), groups),
            }
        )(name, state)


def _saved(answer: Answer) -> list[Any]:
    saved = [list(answer.prompt_ids), list(answer.completion_ids), answer.score]
    return [*saved, list(answer.others)] if answer.others else saved


def _answer(saved: Sequence[Any]) -> Answer:
    prompt_ids, completion_ids, score, *others = saved
    return Answer(
        prompt_ids=tuple(prompt_ids),
        completion_ids=tuple(completion_ids),
        score=score,
        others=tuple(others[0]) if others else (),
    )


def _at_least(length: int, check: Check) -> Check:
    """A row whose last entry may be missing: that of an answer without a world's words."""

    def complete(name: str, value: Any) -> None:
        missing = isinstance(value, list) and len(value) == length
        check(name, [*value, []] if missing else value)

    return complete
