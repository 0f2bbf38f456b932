"""Functions of loaded modules are given the code of another text, which saves loading it all anew.

What a module or a class does when it is loaded cannot be swapped: constants, defaults, decorators.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator
from types import CodeType, FunctionType

_Key = tuple[str, str, int]
Functions = dict[_Key, list[FunctionType]]
_FUNCTION = 1  # CO_OPTIMIZED: it has a frame of its own, and is no module or class
_AT_ONCE = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}
_SAME = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_flags")


class CannotSwapError(Exception):
    """The texts differ in what is done when they are loaded."""


def loaded_functions(prefix: str | tuple[str, ...]) -> Functions:
    """Functions that there are, of files whose paths begin like this; not those that are frozen."""
    found: Functions = defaultdict(list)
    for each in gc.get_objects():
        if type(each) is FunctionType and each.__code__.co_filename.startswith(prefix):
            found[_key(each.__code__)].append(each)
    return found


def swap(path: str, old: str, new: str, functions: Functions) -> None:
    """Gives the functions of a file the code that they have in another text.

    Args:
        path: The file's, as its functions have it.
        old: The text that was loaded.
        new: The other text.
        functions: All that were loaded.

    Raises:
        CannotSwapError: They differ in more than in functions that are there.
    """
    pairs = list(_pairs(compile(old, path, "exec"), compile(new, path, "exec")))
    if not pairs or any(not functions.get(_key(before)) for before, _ in pairs):
        raise CannotSwapError(path)
    for before, after in pairs:
        for function in functions[_key(before)]:
            function.__code__ = after


def _pairs(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Functions that differ, of two modules or classes."""
    if not _alike(old, new) or len(old.co_consts) != len(new.co_consts):
        raise CannotSwapError(old.co_name)
    for before, after in zip(old.co_consts, new.co_consts, strict=True):
        if not isinstance(before, CodeType) or not isinstance(after, CodeType):
            if not _equal(before, after):
                raise CannotSwapError(old.co_name)
        elif not before.co_flags & _FUNCTION:
            yield from _pairs(before, after)
        elif not _equal(before, after):
            if before.co_name in _AT_ONCE or before.co_freevars != after.co_freevars:
                raise CannotSwapError(before.co_name)
            yield before, after


def _equal(before: object, after: object) -> bool:
    """As `==`, but for lines of code, and with types told apart: 1 is not True, nor 0.0 -0.0."""
    if isinstance(before, CodeType) and isinstance(after, CodeType):
        return (
            _alike(before, after)
            and len(before.co_consts) == len(after.co_consts)
            and all(map(_equal, before.co_consts, after.co_consts))
        )
    return repr(before) == repr(after)


def _alike(old: CodeType, new: CodeType) -> bool:
    tables = getattr(old, "co_exceptiontable", b""), getattr(new, "co_exceptiontable", b"")
    return tables[0] == tables[1] and all(getattr(old, n) == getattr(new, n) for n in _SAME)


def _key(code: CodeType) -> _Key:
    return code.co_filename, code.co_name, code.co_firstlineno
