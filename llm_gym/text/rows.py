"""N rows of token sequences that an agent writes to: the arrays, and one token a step.

What a text is worth, and what follows it, a subclass says: `llm_gym.text.episodes` ends the
episode with it, `llm_gym.turns` hands it to a world that answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from llm_gym.text.answer import StopReason
from llm_gym.text.scoring import Outcome

if TYPE_CHECKING:
    from llm_gym.text.mdp import TokenMDP

Observation = dict[str, np.ndarray]
RngOf = Callable[[int], np.random.Generator]


class Step(NamedTuple):
    """What one step did.

    Attributes:
        rewards: float64 `(N,)`.
        terminated: bool `(N,)`.
        truncated: bool `(N,)`.
        outcomes: The outcome of each row whose episode ended, by row.
        infos: What rows whose episode goes on have to say, by row.
    """

    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    outcomes: dict[int, Outcome]
    infos: dict[int, dict[str, Any]]


class Rows(ABC):
    """N rows, each in an episode of its own.

    Args:
        mdp: The shared rules.
        num_rows: N.

    Attributes:
        running: bool `(N,)`, rows in an episode that has not ended.
        waiting: bool `(N,)`, rows that steps leave as they are.
        generated: int64 `(N,)`, tokens that the agent has written in the episode so far.
        lengths: int64 `(N,)`, tokens of each row.
        outcomes: How the episode ended, of rows at rest.
        probabilities: float64 `(N,)`, how probable the newest tokens were, if their agent said so.
    """

    #: Reset options that choose how an episode begins, of which one may be given.
    start_options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, mdp: TokenMDP, num_rows: int) -> None:
        shape = (num_rows, mdp.length)  # (N, L)
        self.mdp: Any = mdp
        self._input_ids = np.full(shape, mdp.vocabulary.pad_token_id, dtype=np.int64)
        self._attention_mask = np.zeros(shape, dtype=np.int8)
        self._completion_mask = np.zeros(shape, dtype=np.int8)
        self._starts = np.zeros(num_rows, dtype=np.int64)  # where the text being written begins
        self.lengths = np.zeros(num_rows, dtype=np.int64)
        self.generated = np.zeros(num_rows, dtype=np.int64)
        self.running = np.zeros(num_rows, dtype=bool)
        self.waiting = np.zeros(num_rows, dtype=bool)
        self._all_rows = np.arange(num_rows)
        self.outcomes: list[Outcome | None] = [None] * num_rows
        self._masks: np.ndarray | None = None  # int8 (N, V), if any action is ever masked
        # Of the newest tokens, and of the next ones once their agent has ever said one: float (N,)
        self.probabilities = np.full(num_rows, np.nan)
        self._next_probabilities: np.ndarray | None = None

    # ------------------------------------------------------------------ what a subclass says

    @abstractmethod
    def start_of(self, name: str, value: Any) -> Any:
        """How an episode begins by a reset option.

        Args:
            name: One of `start_options`.
            value: What was given for it.
        """

    @abstractmethod
    def restart_cursor(self, row: int) -> None:
        """Begins the row's walk through the starts anew, as a seeded reset does."""

    @abstractmethod
    def begin(
        self, rows: Sequence[int], rng_of: RngOf, starts: Sequence[Any]
    ) -> list[dict[str, Any]]:
        """Begins the next episodes of rows.

        Args:
            rows: The rows.
            rng_of: The generator of a row.
            starts: How each begins, from `start_of`; None is the next of the row's walk.

        Returns:
            The infos of the resets, without action masks.
        """

    @abstractmethod
    def shown_before(self, row: int) -> str:
        """What people see before the text that is being written.

        Raises:
            ResetNeeded: There was no episode yet.
        """

    @abstractmethod
    def _finish(self, reasons: Mapping[int, StopReason], step: Step) -> None:
        """Deals with the rows whose text has ended, and writes into `step` what came of it."""

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue, as JSON-able values."""

    @abstractmethod
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state of `get_state`."""

    @abstractmethod
    def check_state(self, name: str, state: Any) -> None:
        """Raises `ValueError` unless `set_state` can continue from a state of this name."""

    def _is_full(self, rows: np.ndarray, written: np.ndarray) -> np.ndarray:
        """Whether the text of rows `(R,)` has reached its length budget: bool `(R,)`."""
        return written == self.mdp.options.max_new_tokens

    def _note_written(  # noqa: B027 -- most have nothing to do
        self, num_tokens: int, unfinished: np.ndarray, step: Step
    ) -> None:
        """Hears how many tokens a step has written, and which rows' texts go on, int64 `(R,)`."""

    # ------------------------------------------------------------------ the arrays

    def observation(self) -> Observation:
        """The observation of all rows: new arrays of shape `(N, L)`."""
        return {
            "input_ids": self._input_ids.copy(),
            "attention_mask": self._attention_mask.copy(),
            "completion_mask": self._completion_mask.copy(),
        }

    def row_observation(self, row: int) -> Observation:
        """The observation of one row: new arrays of shape `(L,)`."""
        return {
            "input_ids": self._input_ids[row].copy(),
            "attention_mask": self._attention_mask[row].copy(),
            "completion_mask": self._completion_mask[row].copy(),
        }

    def completion_ids(self, row: int) -> np.ndarray:
        """The tokens of the text that a row is writing: int64 `(T,)`, a view."""
        return self._input_ids[row, self._starts[row] : self.lengths[row]]

    def ids_before(self, row: int) -> np.ndarray:
        """The tokens that stand before that text: int64 `(P,)`, a view."""
        return self._input_ids[row, : self._starts[row]]

    def _write_start(self, row: int, ids: np.ndarray) -> None:
        """Begins an episode with what is not the agent's."""
        length = len(ids)
        self._input_ids[row, :length] = ids
        self._input_ids[row, length:] = self.mdp.vocabulary.pad_token_id
        self._attention_mask[row, :length] = 1
        self._attention_mask[row, length:] = 0
        self._completion_mask[row] = 0
        self._starts[row] = self.lengths[row] = length
        self.generated[row] = 0
        self.running[row], self.waiting[row] = True, False
        self.outcomes[row] = None
        self.probabilities[row] = np.nan

    def _append(self, row: int, ids: Sequence[int] | np.ndarray, *, by_agent: bool) -> None:
        """Writes tokens behind those of a row."""
        start, stop = self.lengths[row], self.lengths[row] + len(ids)
        self._input_ids[row, start:stop] = ids
        self._attention_mask[row, start:stop] = 1
        self._completion_mask[row, start:stop] = by_agent
        self.lengths[row] = stop
        self.generated[row] += len(ids) * by_agent

    def note_probabilities(self, probabilities: Any) -> None:
        """Keeps how probable the next actions are, for pictures of them.

        Args:
            probabilities: A number for each row, or one for all.

        Raises:
            ValueError: They are not numbers from 0 to 1, one or one a row.
        """
        told = np.full(len(self.running), np.nan)
        try:
            told[:] = np.asarray(probabilities, dtype=np.float64).reshape(-1)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"probability={probabilities!r} must be one number, or one for each of "
                f"{len(self.running)} rows"
            ) from error
        if not ((told >= 0) & (told <= 1)).all():
            raise ValueError(f"probability={probabilities!r} must lie in [0, 1]")
        self._next_probabilities = told

    def step(self, actions: np.ndarray) -> Step:
        """Appends a token to every running row.

        Args:
            actions: int64 `(N,)`; the entries of rows at rest are ignored.

        Returns:
            What happened; rewards are 0 and flags false for rows at rest.

        Raises:
            ValueError: An action is outside the vocabulary or masked.
            ScorerError: The scorer failed and `on_scorer_error` is "raise".
        """
        acting = self.running & ~self.waiting
        rows = self._all_rows if acting.all() else np.flatnonzero(acting)  # (R,)
        actions = actions[rows]
        self._check_actions(rows, actions)
        positions = self.lengths[rows]
        self._input_ids[rows, positions] = actions
        self._attention_mask[rows, positions] = 1
        self._completion_mask[rows, positions] = 1
        positions += 1
        self.lengths[rows] = positions
        self.generated[rows] += 1
        if self._next_probabilities is not None:  # no agent has to say any: most never do
            self.probabilities[rows] = self._next_probabilities[rows]
            self._next_probabilities[:] = np.nan

        is_eos = self.mdp.vocabulary.is_eos[actions]
        ended = is_eos | self._is_full(rows, positions - self._starts[rows])
        stopped = self._find_stop_strings(rows, actions)
        if stopped is not None:
            ended |= stopped
        num_rows = len(self.running)
        terminated, truncated = np.zeros((2, num_rows), bool)
        step = Step(np.zeros(num_rows), terminated, truncated, outcomes={}, infos={})
        self.running[rows[ended]] = False  # whatever a scorer or a world raises from here on
        self._note_written(len(rows), rows[~ended], step)
        if ended.any():
            reasons: dict[int, StopReason] = {}
            for k in np.flatnonzero(ended).tolist():
                stop = stopped is not None and bool(stopped[k])
                reasons[int(rows[k])] = "eos" if is_eos[k] else "stop_string" if stop else "length"
            self._finish(reasons, step)
        return step

    def _check_actions(self, rows: np.ndarray, actions: np.ndarray) -> None:
        if not len(actions):
            return
        size = self.mdp.vocabulary.size
        if actions.min() < 0 or actions.max() >= size:
            wrong = np.flatnonzero((actions < 0) | (actions >= size))[0]
            raise ValueError(
                f"action {actions[wrong]} (row {rows[wrong]}) is outside the action space of "
                f"{size} tokens; if the model's vocabulary is larger than the tokenizer's, make "
                "the environment with vocab_size=model.config.vocab_size"
            )
        if self._masks is not None and not self._masks[rows, actions].all():
            wrong = np.flatnonzero(self._masks[rows, actions] == 0)[0]
            raise ValueError(
                f"action {actions[wrong]} (row {rows[wrong]}) is masked; choose an action that "
                "info['action_mask'] allows"
            )

    def _find_stop_strings(self, rows: np.ndarray, actions: np.ndarray) -> np.ndarray | None:
        candidates = self.mdp.stop_strings.candidates(actions)
        if candidates is None:
            return None
        for k in np.flatnonzero(candidates).tolist():
            row = int(rows[k])
            candidates[k] = self.mdp.stop_strings.found_in(
                self.completion_ids(row), self.ids_before(row)
            )
        return candidates

    def update_masks(self) -> np.ndarray | None:
        """Computes the masks of the next actions, which `step` will enforce.

        Returns:
            int8 `(N, V)`, ones for rows at rest; None if no option ever masks an action. The array
            is the environment's own: copy it before handing it out.
        """
        if self.mdp.masks.active:
            masks = np.ones((len(self.running), self.mdp.vocabulary.size), dtype=np.int8)
            rows = np.flatnonzero(self.running)
            masks[rows] = self.mdp.masks.masks(
                (self.lengths - self._starts)[rows], lambda k: self._state_ids(int(rows[k]))
            )
            self._masks = masks
        return self._masks

    def action_masks(self) -> np.ndarray:
        """Which actions are allowed: bool `(N, V)`."""
        if self._masks is None:
            return np.ones((len(self.running), self.mdp.vocabulary.size), dtype=bool)
        return self._masks.astype(bool)

    def _state_ids(self, row: int) -> tuple[list[int], list[int]]:
        return self.ids_before(row).tolist(), self.completion_ids(row).tolist()
