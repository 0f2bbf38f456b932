"""An episode as text for people: the prompt, the completion, the newest token, the score."""

from __future__ import annotations

import sys

import numpy as np

from llm_gym.files.untrusted import printable
from llm_gym.text.episodes import Episodes
from llm_gym.text.scoring import Outcome

RENDER_MODES = ("ansi", "human")


def check_render_mode(render_mode: str | None) -> None:
    """Raises `ValueError` for a render mode that does not exist."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode={render_mode!r} is not one of {(None, *RENDER_MODES)}")


def render_row(episodes: Episodes, row: int) -> str:
    """Draws a row.

    Args:
        episodes: The episodes.
        row: The row.

    Returns:
        Several lines: prompt; completion with the newest token between guillemets, special tokens
        included; number of tokens or, at the end, why the episode ended and its score.
    """
    prompt = episodes.prompt(row)
    lines = [
        _field("prompt", printable(prompt.row.text)),
        _field("completion", _marked_completion(episodes, episodes.completion_ids(row))),
    ]
    outcome = episodes.outcomes[row]
    if outcome is None:
        budget = episodes.mdp.options.max_new_tokens
        lines.append(_field("tokens", f"{episodes.generated[row]} of {budget}"))
    else:
        lines.append(_field("end", _verdict(outcome, int(episodes.generated[row]))))
    return "\n".join(lines) + "\n"


def show(frame: str) -> None:
    """Prints a frame; what the terminal's encoding lacks is spelt out.

    Args:
        frame: Text of one or more lines.
    """
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(frame.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _field(name: str, text: str) -> str:
    return f"{name:<10}| " + text.replace("\n", f"\n{'':<10}| ")


def _marked_completion(episodes: Episodes, ids: np.ndarray) -> str:
    if not len(ids):
        return ""
    vocabulary = episodes.mdp.vocabulary
    before = vocabulary.decode(ids[:-1], skip_special_tokens=False)
    text = vocabulary.decode(ids, skip_special_tokens=False)
    # A token may complete a character begun by the one before: then the text changes further back.
    start = _shared_length(before, text)
    return f"{printable(text[:start])}«{printable(text[start:])}»"


def _shared_length(first: str, second: str) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _verdict(outcome: Outcome, num_tokens: int) -> str:
    info = outcome.info
    text = f"{info['stop_reason']} after {num_tokens} tokens"
    if "score" in info:
        text += f", score {info['score']:.4g}"
    if "score_parts" in info:
        # + 0.0: a penalty of -0.0 reads better as 0.
        parts = ", ".join(
            f"{name} {value + 0.0:.4g}" for name, value in info["score_parts"].items()
        )
        text += f" ({parts})"
    if "scorer_error" in info:
        text += f", reward {outcome.reward:.4g}: {printable(info['scorer_error'])}"
    elif "score" not in info:
        flag = "truncated" if outcome.truncated else "terminated"
        text += f", {flag} unscored, reward {outcome.reward:.4g}"
    return text
