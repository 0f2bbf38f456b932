"""Episodes of one text each: a prompt, the agent's completion, a score."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded

from llm_gym.text.answer import StopReason
from llm_gym.text.mdp import TextMDP
from llm_gym.text.prompt_sources import ListCursor, StreamCursor
from llm_gym.text.prompts import Prompt
from llm_gym.text.rows import RngOf, Rows, Step
from llm_gym.text.saved_state import check_episodes


class Episodes(Rows):
    """N rows, each in an episode of its own.

    `TextGenerationEnv` (N = 1) and `TextGenerationVectorEnv` are two faces of it.

    Args:
        mdp: The shared rules.
        num_rows: N.
        group_size: Rows of a group walk the same sequence of prompts.
    """

    start_options = ("prompt", "prompt_index")

    def __init__(self, mdp: TextMDP, num_rows: int, group_size: int = 1) -> None:
        super().__init__(mdp, num_rows)
        self.mdp: TextMDP = mdp
        self._paid = np.zeros(num_rows)  # scores so far, with scorer_scope="token"
        self._prompts: list[Prompt | None] = [None] * num_rows
        self._cursors: Sequence[ListCursor | StreamCursor] = mdp.source.cursors(
            num_rows, group_size
        )

    def prompt(self, row: int) -> Prompt:
        """The prompt of a row."""
        prompt = self._prompts[row]
        if prompt is None:
            raise ResetNeeded("there is no episode yet: call reset() first")
        return prompt

    def shown_before(self, row: int) -> str:
        """The prompt as the user gave it."""
        return self.prompt(row).row.text

    def start_of(self, name: str, value: Any) -> Prompt:
        """The prompt that is given, or the one of that number in the list.

        Raises:
            TypeError: The number is no whole one.
            ValueError: The prompt does not fit, or there is none of that number.
        """
        if name == "prompt":
            return self.mdp.prompt_at_reset(value)
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise TypeError(f"prompt_index={value!r} must be a whole number")
        return self.mdp.source.get(int(value))

    def restart_cursor(self, row: int) -> None:
        """Begins the row's walk through the prompts anew, as a seeded reset does."""
        self._cursors[row].restart()

    def begin(
        self, rows: Sequence[int], rng_of: RngOf, starts: Sequence[Prompt | None]
    ) -> list[dict[str, Any]]:
        """Begins the next episodes of rows, each with its prompt or the next one of its walk."""
        infos = []
        for row, start in zip(rows, starts, strict=True):
            prompt = self._cursors[row].next(rng_of(row)) if start is None else start
            self._write_prompt(row, prompt)
            infos.append({"prompt": prompt.row.text, "prompt_index": prompt.index})
        return infos

    def _write_prompt(self, row: int, prompt: Prompt) -> None:
        self._write_start(row, prompt.ids)
        self._prompts[row] = prompt
        self._paid[row] = 0.0

    def _finish(self, reasons: Mapping[int, StopReason], step: Step) -> None:
        """Ends the rows' episodes and writes their outcomes into `step`."""
        answers = [
            self.mdp.answer(self.prompt(row), self.completion_ids(row), reason)
            for row, reason in reasons.items()
        ]
        for row, outcome in zip(reasons, self.mdp.scoring.outcomes(answers), strict=True):
            # Of a score, what its first tokens have not been paid already.
            paid = self._paid[row] if "score" in outcome.info else 0.0
            step.rewards[row] = outcome.reward - paid
            step.terminated[row] = outcome.terminated
            step.truncated[row] = outcome.truncated
            step.outcomes[row] = outcome
            self.outcomes[row] = outcome

    def _note_written(self, num_tokens: int, unfinished: np.ndarray, step: Step) -> None:
        """Counts, and pays rows that go on for what their newest token changed in the score."""
        self.mdp.scoring.num_tokens += num_tokens
        if self.mdp.options.scorer_scope != "token":
            return
        rows = unfinished.tolist()
        answers = [
            self.mdp.answer(self.prompt(row), self.completion_ids(row), None) for row in rows
        ]
        for row, score in zip(rows, self.mdp.scoring.scores_so_far(answers), strict=True):
            if score is not None:
                step.rewards[row] = score - self._paid[row]
                self._paid[row] = score

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue, as JSON-able values (as far as prompt columns are)."""
        return {
            "source": self.mdp.source.get_state(),
            "num_tokens": self.mdp.scoring.num_tokens,
            "cursors": [cursor.get_state() for cursor in self._cursors],
            "rows": [
                {
                    "prompt": None if prompt is None else self.mdp.source.save(prompt),
                    "completion_ids": self.completion_ids(row).tolist(),
                    "running": bool(self.running[row]),
                    "paid": float(self._paid[row]),
                }
                for row, prompt in enumerate(self._prompts)
            ],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state of `get_state`.

        Args:
            state: The state of an environment made with the same arguments.

        Raises:
            ValueError: The state does not fit this environment, which is as it was; but a stream of
                prompts that ended too early has ended.
        """
        self.check_state("the state", state)
        self.mdp.source.set_state(state["source"])
        self.mdp.scoring.num_tokens = int(state["num_tokens"])
        for cursor, saved in zip(self._cursors, state["cursors"], strict=True):
            cursor.set_state(saved)
        for row, saved in enumerate(state["rows"]):
            self._restore_row(row, saved)
        self.update_masks()

    def check_state(self, name: str, state: Any) -> None:
        """Raises `ValueError` unless `set_state` can continue from a state of this name."""
        check_episodes(name, state, self.mdp, self._cursors)

    def _restore_row(self, row: int, saved: Mapping[str, Any]) -> None:
        if saved["prompt"] is None:
            return
        prompt, completion = self.mdp.source.load(saved["prompt"]), saved["completion_ids"]
        self._write_prompt(row, prompt)
        self._append(row, completion, by_agent=True)
        self.running[row] = bool(saved["running"])
        self._paid[row] = float(saved["paid"])
