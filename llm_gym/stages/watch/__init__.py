"""Watching a run: its curves, and what every update did to single tokens, on a page.

llm-gym watch DIR
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
