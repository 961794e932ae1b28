"""What processes are started with in tests, in a module that they import quickly."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path


def marked(folder: Path) -> Callable[[float], str]:
    """What tells the process and the folder that it runs in; each call of `marked` leaves a file in `folder`."""
    (folder / secrets.token_hex(8)).touch()
    return _place


def _place(seconds: float) -> str:
    time.sleep(seconds)
    return f"{os.getpid()} in {Path.cwd()}"


def pausing() -> Callable[[float], None]:
    """What sleeps."""
    return time.sleep


def dying() -> Callable[[int], None]:
    """What sends its process a signal."""
    return partial(os.kill, os.getpid())


def touching() -> Callable[[Path], None]:
    """What makes a file, after a while."""
    return _touch


def _touch(path: Path) -> None:
    time.sleep(0.2)
    path.touch()


def adding(first: int) -> Callable[[int], int]:
    """What adds to `first`, the later the larger."""
    return partial(_add, first)


def _add(first: int, number: int) -> int:
    time.sleep(0.05 * number)
    return first + number
