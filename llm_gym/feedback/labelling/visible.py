"""Text written by a model, for people to read in a browser: nothing in it is hidden or obeyed.

`llm_gym.files.untrusted` spells out every character that is invisible or an order to a terminal.
People who compare answers must see such characters too, but also lines, tabs, emoji and scripts
that need joiners as their writer meant them; so here the spelled-out ones are set apart.
"""

from __future__ import annotations

import unicodedata

from llm_gym.files.untrusted import printable

__all__ = ["pieces"]

_ZERO_WIDTH_NON_JOINER, _ZERO_WIDTH_JOINER = "\u200c", "\u200d"
_SCRIPT = frozenset({"Lo", "Mn", "Mc"})  # Arabic and Indic letters, and the marks on letters
_EMOJI = frozenset({"So", "Sk", "Mn"})  # pictures, skin colours, variation selectors


def pieces(text: str) -> list[tuple[str, bool]]:
    r"""Splits text into runs that are shown as they are and runs that are spelled out.

    Args:
        text: Anything, lone surrogates included.

    Returns:
        `(run, spelled)`: where `spelled` is true, `run` is the escape (`\u202e`) of characters that
        a reader would not see otherwise: controls, changes of direction, zero-width and unassigned
        ones. Line ends and tabs stay; CR LF is one line end. An empty text has no runs.
    """
    text = text.replace("\r\n", "\n")
    runs: list[tuple[str, bool]] = []
    for place, character in enumerate(text):
        shown = character if _joins(text, place) or character == "\t" else printable(character)
        spelled = shown != character
        if runs and runs[-1][1] == spelled:
            runs[-1] = (runs[-1][0] + shown, spelled)
        else:
            runs.append((shown, spelled))
    return runs


def _joins(text: str, place: int) -> bool:
    """Whether a joiner does what it is for: between letters of a script, or between emoji."""
    if text[place] not in (_ZERO_WIDTH_JOINER, _ZERO_WIDTH_NON_JOINER):
        return False
    if not 0 < place < len(text) - 1:
        return False
    around = {unicodedata.category(text[place - 1]), unicodedata.category(text[place + 1])}
    return around <= _SCRIPT or (text[place] == _ZERO_WIDTH_JOINER and around <= _EMOJI)
