"""Statistics: intervals, best-of-n, laws of over-optimisation, and turning points."""

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
