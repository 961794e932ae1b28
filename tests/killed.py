"""Kills a child process at a chosen change of a folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any


def killed(action: Callable[[Callable[[], None]], None], changes: Sequence[str], step: int) -> bool:
    """Run `action` in a child that is killed before its `step`-th change; False if it ended before.

    Args:
        action: gets the function that begins to count.
        changes: names of the functions of `os` that count.
    """
    child = os.fork()
    if child == 0:
        done = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def run(*arguments: Any, **options: Any) -> Any:
                nonlocal done
                done += 1
                if done == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **options)

            return run

        def begin() -> None:
            for name in changes:
                setattr(os, name, counted(getattr(os, name)))

        try:
            action(begin)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
