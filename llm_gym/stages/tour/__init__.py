"""The road of the course in the terminal: ten stops, each of which does something small.

llm-gym tour
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
