"""What the saved state of episodes must be, to be continued in an environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llm_gym.files.schema import anything, boolean, list_of, number, record, refuse, whole

if TYPE_CHECKING:
    from llm_gym.text.mdp import TextMDP
    from llm_gym.text.prompt_sources import ListCursor, StreamCursor


def check_episodes(
    name: str, state: Any, mdp: TextMDP, cursors: Sequence[ListCursor | StreamCursor]
) -> None:
    """Checks a state of `Episodes.get_state`.

    Args:
        name: Of the state, for messages.
        state: The state.
        mdp: The rules of the environment.
        cursors: One a row.

    Raises:
        ValueError: It is none, or one of another environment.
    """
    rows = list_of(anything)
    record({"source": anything, "num_tokens": whole(), "cursors": rows, "rows": rows})(name, state)
    for key in "rows", "cursors":
        if len(state[key]) != len(cursors):
            raise ValueError(
                f"{name}.{key}: the state is of {len(state[key])} rows, this environment has "
                f"{len(cursors)}"
            )
    mdp.source.check_state(f"{name}.source", state["source"])
    for row, (cursor, saved) in enumerate(zip(cursors, state["cursors"], strict=True)):
        cursor.check_state(f"{name}.cursors[{row}]", saved, mdp.vocabulary.size)
    for row, saved in enumerate(state["rows"]):
        _check_row(f"{name}.rows[{row}]", saved, mdp)


def _check_row(name: str, saved: Any, mdp: TextMDP) -> None:
    token = whole(0, mdp.vocabulary.size - 1)
    record(
        {
            "prompt": anything,
            "completion_ids": list_of(token),
            "running": boolean,
            "paid": number(),
        }
    )(name, saved)
    written, running = len(saved["completion_ids"]), saved["running"]
    if saved["prompt"] is None:
        if written or running:
            refuse(f"{name}.prompt", "that of the episode", None)
        return
    mdp.source.check_prompt(f"{name}.prompt", saved["prompt"], mdp.vocabulary.size)
    end = len(mdp.source.load(saved["prompt"]).ids) + written
    longest = mdp.options.max_new_tokens
    advice = "of this environment; make it with the same max_prompt_tokens and max_new_tokens"
    if end > mdp.length:
        raise ValueError(f"{name} has {end} tokens, more than the {mdp.length} {advice}")
    if written + running > longest:
        raise ValueError(f"{name} has {written} new tokens, too many for the {longest} {advice}")
