"""What a training loop needs around its steps: it ends between two of them, and shows how far it is."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader

from edgewake.console import console


def len_of(loader: DataLoader[Any]) -> int:
    """Batches a full epoch has (a sampler that skips the start of an epoch still counts it)."""
    sampler = getattr(loader, "batch_sampler", None)
    return int(getattr(sampler, "batches", len(loader)))


@contextmanager
def interrupts_wait() -> Iterator[Callable[[], bool]]:
    """Within, a first Ctrl-C (or SIGTERM) sets what the yielded function tells; a second one acts at once.

    A step that is cut in its middle has moved BatchNorm and the random state but not the weights.
    """
    seen = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield seen.is_set
        return

    def handle(number: int, frame: Any) -> None:
        if seen.is_set():
            raise KeyboardInterrupt
        seen.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


# Those of a step's figures that its line has room for, in this order; its loss where it has none of them.
SHOWN = ("student_loss", "distillation_loss", "total_loss", "loss_ratio")


class BatchProgress:
    """A bar over an epoch's batches that shows the losses; nothing where there is no terminal."""

    def __init__(self, name: str, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=console.quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=total, figures="")

    def __enter__(self) -> Callable[[float, Mapping[str, float]], None]:
        self._bar.start()
        return lambda loss, figures: self._bar.update(self._task, advance=1, figures=losses_text(loss, figures))

    def __exit__(self, *details: object) -> None:
        self._bar.stop()


def losses_text(loss: float, figures: Mapping[str, float]) -> str:
    """The losses of a step as its line shows them."""
    shown = [f"{name} {figures[name]:.3g}" for name in SHOWN if name in figures]
    return "  ".join(shown) if shown else f"loss {loss:.4f}"
