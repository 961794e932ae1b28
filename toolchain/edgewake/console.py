"""What a user sees goes through here: results on stdout, progress and errors on stderr, never mixed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

T = TypeVar("T")

console = Console(highlight=False)
error_console = Console(stderr=True, highlight=False)


def track(items: Iterable[T], description: str, total: float | None = None) -> Iterator[T]:
    """Iterate with a progress bar on stderr, which vanishes at the end; `total` where `items` has no length."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(description, total) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def steps(names: Sequence[str]) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr over named steps, the first of which begins now; yields what ends a step."""
    with bar(names[0], len(names)) as advance:
        following = iter((*names[1:], names[-1]))
        yield lambda: advance(1, next(following))


class Advance(Protocol):
    """Moves a progress bar on by an amount, and names what comes next."""

    def __call__(self, amount: float, description: str | None = None) -> None: ...


@contextmanager
def bar(description: str, total: float | None) -> Iterator[Advance]:
    """A progress bar on stderr over `total` units of work."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = error_console.is_terminal
    with Progress(*columns, console=error_console, transient=True, disable=not shown) as progress:
        task = progress.add_task(description, total=total)

        def advance(amount: float, description: str | None = None) -> None:
            progress.update(task, advance=amount, description=description)

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
