"""What a user sees goes through here: results on stdout, progress and errors on stderr, never mixed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich import box, progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

T = TypeVar("T")

LINE_S = 3.0

console = Console(highlight=False)
error_console = Console(stderr=True, highlight=False)


def track(items: Iterable[T], description: str, total: float | None = None) -> Iterator[T]:
    """Iterate with a progress bar on stderr, which vanishes at the end; `total` where `items` has no length."""
    hidden = not error_console.is_terminal
    yield from progress.track(items, description, total, console=error_console, transient=True, disable=hidden)


@contextmanager
def steps(names: Sequence[str]) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr over named steps, the first of which begins now; yields what ends a step."""
    with bar(names[0], len(names)) as advance:
        following = iter((*names[1:], names[-1]))
        yield lambda: advance(1, next(following))


@contextmanager
def bar(description: str, total: float | None, *, lines: bool = False) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr over `total` units of work; yields `advance(amount, what comes next or None)`.

    `lines`: where stderr is no terminal, a line for every tenth of the work that takes over `LINE_S`.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = not error_console.is_terminal
    with Progress(*columns, console=error_console, transient=True, disable=hidden) as shown:
        task = shown.add_task(description, total=total)
        printed, tenths = time.monotonic(), 0

        def advance(amount: float, following: str | None = None) -> None:
            nonlocal printed, tenths
            shown.update(task, advance=amount, description=following)
            share = shown.tasks[0].percentage / 100
            if hidden and lines and int(10 * share) > tenths and time.monotonic() > printed + LINE_S:
                printed, tenths = time.monotonic(), int(10 * share)
                left = shown.tasks[0].elapsed or 0.0
                left *= (1 - share) / share
                error_console.print(f"{description}: {share:.0%}, {left / 60:.0f} min left", soft_wrap=True)

        yield advance


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print one table to stdout; columns whose name starts with '>' are aligned to the right."""
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        # A narrow terminal breaks long words; cut off, they could not be copied.
        shown.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(str(cell) for cell in row))
    console.print(shown)
