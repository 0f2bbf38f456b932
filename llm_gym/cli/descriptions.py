"""What an environment is, in a line, without importing it: a list should not load PyTorch."""

from __future__ import annotations

import ast
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gymnasium.envs.registration import EnvSpec


def description_of(spec: EnvSpec) -> str:
    """First line of the docstring behind a registered environment.

    Of a task (`llm_gym.register_task`) that is the docstring of the function that makes its
    arguments. Modules are read, never run.

    Args:
        spec: The registered environment.

    Returns:
        The line; where there is none, the reason in brackets.
    """
    place: Any = spec.kwargs.get("kwargs_of", spec.entry_point)
    try:
        doc = _documented_at(place) if isinstance(place, str) else getattr(place, "__doc__", None)
    except (LookupError, OSError, SyntaxError, ValueError) as error:
        return f"(cannot be read: {error})"
    return doc.strip().split("\n")[0] if doc and doc.strip() else "(no description)"


def _documented_at(place: str) -> str | None:
    """The docstring of `"module:name"`."""
    module, _, name = place.partition(":")
    return _docstring(module, name or module.rpartition(".")[2])


def _docstring(module: str, name: str) -> str | None:
    spec = _spec_of(module)
    source = Path(spec.origin or "").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return ast.get_docstring(node)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _docstring(_absolute(node, spec), alias.name)
    raise LookupError(f"{module} has no {name!r}")


def _absolute(node: ast.ImportFrom, spec: ModuleSpec) -> str:
    """The module that a `from ... import` names."""
    package = spec.name if spec.submodule_search_locations else spec.parent or ""
    parts = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
    return ".".join([*parts, *([node.module] if node.module else [])])


def _spec_of(module: str) -> ModuleSpec:
    """Where a module is. `find_spec` of a dotted name would import the packages around it."""
    top, *parts = module.split(".")
    spec = find_spec(top)
    for part in parts:
        if spec is None:
            break
        spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    if spec is None:
        raise LookupError(f"there is no module {module!r}")
    return spec
