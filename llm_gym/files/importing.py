"""What somebody names on a command line or in a specification: an object of a module or a file."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any


def object_named(kind: str, name: str) -> Any:
    """Imports a module, or runs a file, and takes an object from it.

    Args:
        kind: What it is to be, for messages: "scorer", say.
        name: `package.module:NAME` or `path/file.py:NAME`.

    Returns:
        The object.

    Raises:
        ValueError: There is no such module, file or object, or it cannot be run.
    """
    source, _, attribute = name.rpartition(":")
    module = _module(kind, source)
    if not hasattr(module, attribute):
        raise ValueError(f"{kind} {name!r}: {source} has no {attribute!r}")
    return getattr(module, attribute)


def _module(kind: str, source: str) -> ModuleType:
    """Imports a module by its dotted name, or runs a `.py` file as one."""
    if not source.endswith(".py"):
        try:
            return importlib.import_module(source)
        except (Exception, SystemExit) as error:  # whatever the module raises
            raise ValueError(f"{kind} module {source!r} cannot be imported: {error}") from error
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"{kind} file {source!r} does not exist")
    spec = importlib.util.spec_from_file_location(f"llm_gym_{kind}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's file raises
        raise ValueError(
            f"{kind} file {source!r} cannot be run: {type(error).__name__}: {error}"
        ) from error
    return module
