"""An episode for people, as text or picture: prompt, completion, newest token, score."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from llm_gym.files.untrusted import printable
from llm_gym.text.rows import Rows
from llm_gym.text.scoring import Outcome

RENDER_MODES = ("ansi", "human", "rgb_array")


class Frame(NamedTuple):
    """What there is to see of a row; all of its texts are safe to show.

    Attributes:
        prompt: What stands before the text that is being written.
        completion: What was written before the newest token, special tokens included.
        newest: What the newest token added; "" before the first.
        tokens: Number of its tokens.
        max_new_tokens: How many may be written.
        probability: How probable its agent held the newest token, if it said so.
        outcome: How the episode ended, if it has.
    """

    prompt: str
    completion: str
    newest: str
    tokens: int
    max_new_tokens: int
    probability: float | None
    outcome: Outcome | None

    def progress(self) -> str:
        """How far the row is: tokens written, or why the episode ended and what it was worth."""
        if self.outcome is not None:
            return f"{end_of(self.outcome, self.tokens)}{worth_of(self.outcome)}"
        text = f"{self.tokens} of {self.max_new_tokens}"
        return text if self.probability is None else f"{text}, p = {self.probability:.3g}"


def check_render_mode(render_mode: str | None) -> None:
    """Raises `ValueError` for a render mode that does not exist."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode={render_mode!r} is not one of {(None, *RENDER_MODES)}")


def frame_of(episodes: Rows, row: int) -> Frame:
    """What there is to see of a row now.

    Args:
        episodes: The episodes.
        row: The row.

    Returns:
        The frame, which later steps do not change.

    Raises:
        ResetNeeded: There was no episode yet.
    """
    before = episodes.shown_before(row)
    completion, newest = _split_at_newest(episodes, row)
    probability = float(episodes.probabilities[row])
    return Frame(
        prompt=printable(before),
        completion=completion,
        newest=newest,
        tokens=len(episodes.completion_ids(row)),
        max_new_tokens=episodes.mdp.options.max_new_tokens,
        probability=None if np.isnan(probability) else probability,
        outcome=episodes.outcomes[row],
    )


def render(frame: Frame, render_mode: str | None) -> Any:
    """A frame as `render()` returns it.

    Args:
        frame: The frame.
        render_mode: "ansi" or "rgb_array"; "human" has been shown already.

    Returns:
        Text; or uint8 `(HEIGHT, WIDTH, 3)`; or None.

    Raises:
        gymnasium.error.DependencyNotInstalled: A picture needs Pillow, which is not installed.
    """
    if render_mode == "ansi":
        return as_text(frame)
    if render_mode == "rgb_array":
        from llm_gym.text.picture import draw

        return draw(frame)
    return None


def as_text(frame: Frame) -> str:
    """Several lines: prompt; completion with the newest token between guillemets; progress."""
    newest = f"«{frame.newest}»" if frame.tokens else ""
    lines = [
        _field("prompt", frame.prompt),
        _field("completion", frame.completion + newest),
        _field("tokens" if frame.outcome is None else "end", frame.progress()),
    ]
    return "\n".join(lines) + "\n"


def show(text: str) -> None:
    """Prints a frame's text; what the terminal's encoding lacks is spelt out.

    Args:
        text: One or more lines.
    """
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _field(name: str, text: str) -> str:
    return f"{name:<10}| " + text.replace("\n", f"\n{'':<10}| ")


def _split_at_newest(episodes: Rows, row: int) -> tuple[str, str]:
    ids, prompt_ids = episodes.completion_ids(row), episodes.ids_before(row)
    if not len(ids):
        return "", ""
    decode = episodes.mdp.vocabulary.decode
    before = decode(ids[:-1], skip_special_tokens=False, after=prompt_ids)
    text = decode(ids, skip_special_tokens=False, after=prompt_ids)
    # A token may complete a character begun by the one before: then the text changes further back.
    start = _shared_length(before, text)
    return printable(text[:start]), printable(text[start:])


def _shared_length(first: str, second: str) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def end_of(outcome: Outcome, num_tokens: int) -> str:
    """Why an episode ended, and after how many tokens."""
    return f"{outcome.info['stop_reason']} after {num_tokens} tokens"


def parts_of(outcome: Outcome, *, zeros: bool = True) -> str:
    """The named parts of the score, "" if it has none; those that are zero only if asked for."""
    # + 0.0: a penalty of -0.0 reads better as 0.
    parts = outcome.info.get("score_parts", {}).items()
    return ", ".join(f"{name} {value + 0.0:.4g}" for name, value in parts if zeros or value)


def reward_of(outcome: Outcome) -> str:
    """The reward of an episode that has no score, and why it has none; "" for one that has."""
    if "scorer_error" in outcome.info:
        return f"reward {outcome.reward:.4g}: {printable(outcome.info['scorer_error'])}"
    if "score" in outcome.info:
        return ""
    flag = "truncated" if outcome.truncated else "terminated"
    return f"{flag} unscored, reward {outcome.reward:.4g}"


def worth_of(outcome: Outcome) -> str:
    """Score, its parts, and the reward where that is something else: what follows the end."""
    text = f", score {outcome.info['score']:.4g}" if "score" in outcome.info else ""
    parts, reward = parts_of(outcome), reward_of(outcome)
    return text + (f" ({parts})" if parts else "") + (f", {reward}" if reward else "")
