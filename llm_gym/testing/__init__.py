"""What authors of plug-ins and tests of one's own need: tiny models and conformance tests."""

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
