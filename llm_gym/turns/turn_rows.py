"""N conversations of an agent with a world each, token by token."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.error import ResetNeeded

from llm_gym.files.schema import boolean, list_of, number, optional, record, whole
from llm_gym.files.schema import text as a_text
from llm_gym.text.answer import StopReason
from llm_gym.text.mdp import TokenMDP
from llm_gym.text.rows import RngOf, Rows, Step
from llm_gym.text.scoring import Outcome
from llm_gym.text.vocabulary import Vocabulary
from llm_gym.turns.options import TurnOptions
from llm_gym.turns.turn_format import TurnFormat
from llm_gym.turns.worlds import Answered, Fault, WorldInfo, Worlds

if TYPE_CHECKING:
    from llm_gym.turns.options import TurnKeywords

_SEEDS = 2**31  # whatever generator a world has, it takes these


class TurnMDP(TokenMDP):
    """States are conversations, actions the tokens of one side.

    Args:
        tokenizer: Tokenizer, or its path or name.
        keywords: See `TurnOptions`.

    Attributes:
        turns: The options.
        format: How the world's texts are shown.
    """

    def __init__(self, tokenizer: Any, keywords: TurnKeywords) -> None:
        self.turns = turns = TurnOptions.from_keywords(keywords)
        options = turns.of_tokens()
        vocabulary = Vocabulary(tokenizer, options)
        self.format = TurnFormat(vocabulary, turns.turn_template)
        super().__init__(vocabulary, options, turns.context_length)

    def first_ids(self, text: str) -> np.ndarray:
        """Token ids of a world's first text: int64 `(P,)`.

        Raises:
            ValueError: There are none, or they leave no room for an answer.
        """
        ids = self.format.first(text)
        if not len(ids):
            raise ValueError(
                f"the world's first text, {text!r}, is empty: the tokenizer made no tokens of it"
            )
        if len(ids) >= self.length:
            raise ValueError(
                f"the world's first text has {len(ids)} tokens, which leave no room for an answer "
                f"in context_length={self.length}: raise it"
            )
        return ids


class TurnRows(Rows):
    """N rows, each a conversation with a world of its own.

    A turn of the agent ends by an EOS token, a stop string or its length budget. In that same step
    its text is decoded, once; the world answers; and what it says is written behind it. What was
    written is never decoded and encoded again.

    Args:
        mdp: The shared rules.
        worlds: One a row.
        num_rows: N.
    """

    start_options = ("prompt_index",)

    def __init__(self, mdp: TurnMDP, worlds: Worlds, num_rows: int) -> None:
        super().__init__(mdp, num_rows)
        self.mdp: TurnMDP = mdp
        self.worlds = worlds
        self._returns = np.zeros(num_rows)
        self._seeds: list[int | None] = [None] * num_rows
        # Of the running episodes, or those that have just ended, by row.
        self._heard: list[list[str]] = [[] for _ in range(num_rows)]  # what the worlds were told
        self._said: list[list[str]] = [[] for _ in range(num_rows)]  # what they have said

    def start_of(self, name: str, value: Any) -> int:
        """The seed that the world begins with.

        Raises:
            TypeError: It is no whole number.
            ValueError: It is negative, or too large.
        """
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise TypeError(f"{name}={value!r} must be a whole number: the world's seed")
        if not 0 <= int(value) < _SEEDS:
            raise ValueError(f"{name}={value!r} must be from 0 to {_SEEDS - 1}: the world's seed")
        return int(value)

    def restart_cursor(self, row: int) -> None:
        """Nothing: which seeds come is the generator's alone."""

    def begin(
        self, rows: Sequence[int], rng_of: RngOf, starts: Sequence[int | None]
    ) -> list[dict[str, Any]]:
        """Begins the rows' worlds anew, by the seed given or one that the row's generator draws."""
        self.running[list(rows)] = False
        seeds = {
            row: int(rng_of(row).integers(_SEEDS)) if start is None else start
            for row, start in zip(rows, starts, strict=True)
        }
        infos = []
        for row, (text, world_info) in self.worlds.reset(seeds).items():
            self._write_start(row, self.mdp.first_ids(text))
            self._returns[row], self._seeds[row] = 0.0, seeds[row]
            self._heard[row], self._said[row] = [], [text]
            info: dict[str, Any] = {"prompt": text, "prompt_index": seeds[row]}
            infos.append(info | ({"world_info": WorldInfo(world_info)} if world_info else {}))
        return infos

    def shown_before(self, row: int) -> str:
        """The conversation so far, as the model reads it."""
        if self._seeds[row] is None:
            raise ResetNeeded("there is no episode yet: call reset() first")
        return self.mdp.vocabulary.decode(self.ids_before(row), skip_special_tokens=False)

    def _is_full(self, rows: np.ndarray, written: np.ndarray) -> np.ndarray:
        """A turn ends at its own budget, and where the context has no room for another token."""
        return super()._is_full(rows, written) | (self.lengths[rows] == self.mdp.length)

    # ------------------------------------------------------------------ a turn's end

    def _finish(self, reasons: Mapping[int, StopReason], step: Step) -> None:
        """Hands the turns that have ended to their worlds, and writes down what these say."""
        texts = {
            row: self.mdp.text_of(self.completion_ids(row), self.ids_before(row), reason)
            for row, reason in reasons.items()
        }
        for row, said in self.worlds.step(texts).items():
            self._heard[row].append(texts[row])
            info = {
                "turn": len(self._heard[row]),
                "completion": texts[row],
                "stop_reason": reasons[row],
            }
            if isinstance(said, Fault):
                self._end_by_fault(row, said, info, step)
            else:
                self._take(row, said, info, step)

    def _end_by_fault(self, row: int, fault: Fault, info: dict[str, Any], step: Step) -> None:
        if fault.reason == "error" and self.mdp.turns.on_world_error == "raise":
            raise fault.error from fault.error.__cause__
        self._end(row, fault.reason, {**info, "world_error": str(fault.error)}, step)

    def _take(self, row: int, said: Answered, info: dict[str, Any], step: Step) -> None:
        """Pays for a turn, and goes on behind the world's text or ends the conversation."""
        step.rewards[row] = said.reward
        self._returns[row] += said.reward
        self._said[row].append(said.text)
        info["world_text"] = said.text
        if said.info:
            info["world_info"] = WorldInfo(said.info)
        if said.terminated:
            self._end(row, "world", info, step, terminated=True)
            return
        fits = self._hear(row, said.text, info["turn"])
        if said.truncated:
            self._end(row, "world", info, step)
        elif info["turn"] == self.mdp.turns.max_turns:
            self._end(row, "max_turns", info, step)
        elif not fits or self.lengths[row] == self.mdp.length:
            self._end(row, "context_length", info, step)
        else:
            self.running[row] = True
            step.infos[row] = info

    def _hear(self, row: int, text: str, turn: int) -> bool:
        """Writes down what the world says after a turn; false if there is no room for it."""
        in_context = self.mdp.turns.turns_in_context
        if in_context is not None and turn % in_context == 0:
            generated = self.generated[row]
            self._write_start(row, self.mdp.first_ids(text))
            self.generated[row], self.running[row] = generated, False
            return True
        ids = self.mdp.format.increment(text, int(self._input_ids[row, self.lengths[row] - 1]))
        if self.lengths[row] + len(ids) > self.mdp.length:
            return False
        self._append(row, ids, by_agent=False)
        self._starts[row] = self.lengths[row]
        return True

    def _end(
        self,
        row: int,
        reason: str,
        info: dict[str, Any],
        step: Step,
        *,
        terminated: bool = False,
    ) -> None:
        """Ends a conversation; one that was cut off as `on_max_length` says."""
        terminated = terminated or self.mdp.turns.on_max_length == "terminate"
        info |= {
            "prompt": self._said[row][0],
            "end_reason": reason,
            "messages": self._messages(row),
        }
        if terminated:
            info["score"] = float(self._returns[row])
        outcome = Outcome(float(step.rewards[row]), terminated, not terminated, info)
        step.terminated[row], step.truncated[row] = terminated, not terminated
        step.outcomes[row] = self.outcomes[row] = outcome

    # ------------------------------------------------------------------ saved state

    def _messages(self, row: int) -> list[dict[str, str]]:
        """What both sides have said, world first, as chat templates take it."""
        heard = [{"role": "assistant", "content": text} for text in self._heard[row]]
        said = [{"role": "user", "content": text} for text in self._said[row]]
        both = [message for pair in zip(said, heard, strict=False) for message in pair]
        return both + said[len(heard) :]

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue, as JSON-able values: a world by what it was told."""
        return {"rows": [self._saved(row) for row in range(len(self.running))]}

    def _saved(self, row: int) -> dict[str, Any]:
        written = slice(0, self.lengths[row])
        return {
            "seed": self._seeds[row],
            "heard": list(self._heard[row]),
            "said": list(self._said[row]),
            "ids": self._input_ids[row, written].tolist(),
            "by_agent": self._completion_mask[row, written].tolist(),
            "start": int(self._starts[row]),
            "generated": int(self.generated[row]),
            "running": bool(self.running[row]),
            "return": float(self._returns[row]),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state of `get_state`: worlds are told again what they were told.

        Raises:
            ValueError: The state does not fit, or a world says something else than before.
            WorldError: A world raised, or took too long.
        """
        self.check_state("the state", state)
        rows = state["rows"]
        self._replay({row: saved for row, saved in enumerate(rows) if saved["running"]})
        for row, saved in enumerate(rows):
            self._restore(row, saved)
        self.update_masks()

    def _replay(self, rows: Mapping[int, Mapping[str, Any]]) -> None:
        begun = self.worlds.reset({row: saved["seed"] for row, saved in rows.items()})
        for row, (text, _) in begun.items():
            _same(row, text, rows[row]["said"][0])
        for turn in range(max((len(saved["heard"]) for saved in rows.values()), default=0)):
            texts = {r: s["heard"][turn] for r, s in rows.items() if turn < len(s["heard"])}
            for row, said in self.worlds.step(texts).items():
                if isinstance(said, Fault):
                    raise said.error from said.error.__cause__
                _same(row, said.text, rows[row]["said"][turn + 1])

    def _restore(self, row: int, saved: Mapping[str, Any]) -> None:
        self._write_start(row, np.array(saved["ids"], dtype=np.int64))
        self._completion_mask[row, : self.lengths[row]] = saved["by_agent"]
        self.generated[row] = saved["generated"]
        self._starts[row], self._returns[row] = saved["start"], saved["return"]
        self._heard[row], self._said[row] = list(saved["heard"]), list(saved["said"])
        self._seeds[row], self.running[row] = saved["seed"], saved["running"]

    def check_state(self, name: str, state: Any) -> None:
        """Raises `ValueError` unless `set_state` can continue from a state of this name."""
        row = record(
            {
                "seed": optional(whole(0, _SEEDS - 1)),
                "heard": list_of(a_text),
                "said": list_of(a_text),
                "ids": list_of(whole(0, self.mdp.vocabulary.size - 1), longest=self.mdp.length),
                "by_agent": list_of(whole(0, 1)),
                "start": whole(0, self.mdp.length),
                "generated": whole(),
                "running": boolean,
                "return": number(),
            }
        )
        record({"rows": list_of(row, len(self.running))})(name, state)
        for number_, saved in enumerate(state["rows"]):
            complete = saved["seed"] is not None and len(saved["said"]) == len(saved["heard"]) + 1
            if len(saved["by_agent"]) != len(saved["ids"]) or (saved["running"] and not complete):
                raise ValueError(f"{name}.rows[{number_}] is no conversation of this environment")


def _same(row: int, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(
            f"the world of row {row} says {found[:80]!r}, but when the state was saved it said "
            f"{expected[:80]!r}: a world that "
            "does not do the same by the same seed cannot be continued"
        )
