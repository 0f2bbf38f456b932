"""How far something has come that is counted: a bar in a terminal, a line elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counting(
    title: str, total: int, unit: str, *, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """Shows on standard error how many are done; where that is no terminal, that it begins.

    Args:
        title: What is going on.
        total: How many there are.
        unit: What they are, in the plural.
        quiet: Show nothing.

    Yields:
        A function to call with how many more are done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    if not quiet and not console.is_terminal:
        console.print(f"{title}: {total:,} {unit}", markup=False, highlight=False, soft_wrap=True)
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TextColumn(unit),
        Remaining(),
        console=console,
        disable=quiet or not console.is_terminal,
    ) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)
