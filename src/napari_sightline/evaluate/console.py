"""What the command line shows: tables on stdout, a bar on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


def show(*tables: Table) -> None:
    """Print tables on stdout."""
    for table in tables:
        Console(highlight=False).print(table)


def table(title: str, first: str, *numbers: str) -> Table:
    """Make a table with a column of names and columns of numbers."""
    made = Table(first, title=title, title_justify="left")
    for column in numbers:
        made.add_column(column, justify="right")
    return made


@contextmanager
def progress(title: str) -> Iterator[Callable[[float, str], None]]:
    """Show a bar on stderr, and nothing where nobody is watching."""
    console = Console(stderr=True)
    with Progress(
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda share, word: bar.update(task, completed=share, description=word)
