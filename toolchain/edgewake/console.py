"""What a user sees goes through here: results on stdout, progress and errors on stderr, never mixed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager
from typing import IO, TypeVar

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

LINE_S = 3.0

# What reads a pipe gets a row of a table in one line.
PIPE_WIDTH = 10_000
NARROW = 60


def _width(stream: IO[str] | None) -> int | None:
    """For a `Console`: None where there is a terminal, whose width counts, or COLUMNS gives one."""
    # A stream that is closed is None.
    return None if (stream and stream.isatty()) or "COLUMNS" in os.environ else PIPE_WIDTH


console = Console(highlight=False, emoji=False, width=_width(sys.stdout))
error_console = Console(highlight=False, emoji=False, width=_width(sys.stderr), stderr=True)


def working(description: str) -> AbstractContextManager[object]:
    """A moving sign on stderr, in a terminal, of work whose length is not known."""
    spinner = "dots" if error_console.encoding.startswith("utf") else "line"
    return error_console.status(Text(description), spinner=spinner)


def track(items: Iterable[T], description: str, total: float | None = None) -> Iterator[T]:
    """Iterate with a progress bar on stderr, which vanishes at the end; `total` where `items` has no length."""
    count = len(items) if total is None and isinstance(items, Sized) else total
    with bar(description, count) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def steps(names: Sequence[str]) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr over named steps, the first of which begins now; yields what ends a step."""
    with bar(names[0], len(names)) as advance:
        following = iter((*names[1:], names[-1]))
        yield lambda: advance(1, next(following))


@contextmanager
def bar(description: str, total: float | None) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr over `total` units of work; yields `advance(amount, what comes next or None)`.

    Within another one it is shown below it. Where stderr is no terminal, a line is printed for every tenth of the work
    that takes over `LINE_S`.
    """
    with _progress() as shown:
        task = shown.add_task(description, total=total)
        began = printed = time.monotonic()
        done, tenths = 0.0, 0

        def advance(amount: float, following: str | None = None) -> None:
            nonlocal printed, done, tenths
            shown.update(task, advance=amount, description=following)
            done += amount
            share, now = done / total if total else 0.0, time.monotonic()
            if shown.disable and int(10 * share) > tenths and now > printed + LINE_S:
                printed, tenths = now, int(10 * share)
                left = (now - began) * (1 - share) / share
                error_console.print(f"{description}: {share:.0%}, {left / 60:.0f} min left", soft_wrap=True)

        try:
            yield advance
        finally:
            shown.remove_task(task)


_open: list[Progress] = []


@contextmanager
def _progress() -> Iterator[Progress]:
    """The display of bars that is open, or a new one."""
    if _open:
        yield _open[0]
        return
    # Names of files may have brackets.
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=error_console, transient=True, disable=not error_console.is_terminal) as shown:
        _open.append(shown)
        try:
            yield shown
        finally:
            _open.clear()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print one table to stdout; columns whose name starts with '>' are aligned to the right.

    Where a narrow terminal would break its words, each row is printed as lines of a column and its value.
    """
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    names, cells = [column.lstrip(">") for column in columns], [[str(cell) for cell in row] for row in rows]
    for name, column in zip(names, columns, strict=True):
        # Cut off, long words could not be copied.
        shown.add_column(name, justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in cells:
        shown.add_row(*row)
    unbroken = Measurement.get(console, console.options.update(max_width=PIPE_WIDTH), shown).minimum
    if unbroken <= console.width or console.width >= NARROW:
        console.print(shown)
        return
    console.print(title, style="table.title", markup=False)
    for row in cells:
        console.print("\n".join(f"{name}: {cell}" for name, cell in zip(names, row, strict=True)) + "\n", markup=False)
