"""Human feedback: votes, labelling, reward models, DPO, and what optimising a proxy costs."""

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
