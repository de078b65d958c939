"""What the user sees: messages, tables and progress bars.

Results go to standard output, everything about the work itself to standard error, so that a
command can be piped. Rich is imported on first use.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

#: Columns of a table that goes to a file or pipe, where nothing should be cut off.
_PIPE_WIDTH = 240

_is_muted: ContextVar[bool] = ContextVar("is_muted", default=False)


@contextmanager
def muted() -> Iterator[None]:
    """Show nothing inside this context: no messages, results or progress bars.

    Of several processes that do the same, all but one are muted.
    """
    token = _is_muted.set(True)
    try:
        yield
    finally:
        _is_muted.reset(token)


def say(message: str) -> None:
    """Write one message to standard error."""
    if _is_muted.get():
        return
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def show(text: str) -> None:
    """Write a result to standard output."""
    if _is_muted.get():
        return
    sys.stdout.write(text + "\n")


def print_table(
    title: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Print a table to standard output; numbers are right-aligned, floats get 5 digits.

    Args:
        title: Line above the table, or None.
        columns: Headings.
        rows: One cell per column; None gives an empty cell.
    """
    if _is_muted.get():
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold", box=SIMPLE_HEAD)
    for i, column in enumerate(columns):
        numeric = any(_is_number(row[i]) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console = _console(stderr=False)
    if title:
        # A title of the table itself would be wrapped to the table's width.
        console.print(Text(title, style="italic"))
    console.print(table)


class ProgressBar:
    """A running progress bar; made by :func:`progress`."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def advance(self, n: float = 1, **fields: object) -> None:
        """Move forward by ``n`` and show the ``fields`` beside the bar, such as ``loss=0.1``."""
        text = "  ".join(f"{name} {_cell(value)}" for name, value in fields.items())
        if fields:
            self._bar.update(self._task, advance=n, info=text)
        else:
            self._bar.update(self._task, advance=n)


@contextmanager
def progress(description: str, total: float | None) -> Iterator[ProgressBar]:
    """Show a progress bar with elapsed and remaining time on standard error.

    Where standard error is not a terminal, one line is written at the end.

    Args:
        description: What is going on, such as ``"Training"``.
        total: Number of steps, or None where it is not known.

    Yields:
        An object with ``advance(n=1, **fields)``.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}", markup=False),
        console=_console(stderr=True),
        # A piped standard output must not be drawn into the bar on standard error.
        redirect_stdout=sys.stdout.isatty(),
        disable=_is_muted.get(),
    )
    with bar:
        yield ProgressBar(bar, bar.add_task(description, total=total, info=""))


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
