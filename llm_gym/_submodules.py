"""Submodules by attribute: `llm_gym.runs.checkpoint` without an import of its own."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType


def submodule_getter(package: str) -> Callable[[str], ModuleType]:
    """A `__getattr__` for a package, which imports a submodule when it is first asked for.

    ```python
    __getattr__ = submodule_getter(__name__)
    ```

    Args:
        package: Full name of the package.

    Returns:
        The function. It raises `AttributeError` for a name that is no submodule, and says where in
        the library a module of that name is, or one spelt nearly so.
    """

    def getter(name: str) -> ModuleType:
        path = sys.modules[package].__path__
        names = [module.name for module in iter_modules(path)]
        if name in names and not name.startswith("_"):
            return import_module(f"{package}.{name}")
        message = f"module {package!r} has no attribute {name!r}"
        raise AttributeError(message if name.startswith("_") else message + _hint(package, name))

    return getter


def _hint(package: str, name: str) -> str:
    root = Path(__file__).parent
    files = [path.relative_to(root.parent).with_suffix("") for path in root.rglob("*.py")]
    places = [file.parent if file.stem == "__init__" else file for file in files]
    modules = [".".join(place.parts) for place in places if not place.stem.startswith("_")]
    elsewhere = sorted(module for module in modules if module.endswith(f".{name}"))
    if elsewhere:
        return f"; the module is {' or '.join(elsewhere)}"
    inside = [m.rpartition(".")[2] for m in modules if m.rpartition(".")[0] == package]
    near = difflib.get_close_matches(name, inside, n=1)
    return f"; did you mean {package}.{near[0]}?" if near else ""
