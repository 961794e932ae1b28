"""Pieces of work run in processes of this machine, which end with it however it ends, or on a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgewake.console import error_console
from edgewake.errors import EdgewakeError, MissingDependencyError
from edgewake.fingerprint import code_fingerprint

CLUSTER = "EDGEWAKE_CLUSTER"
# Pieces that a cluster gets at once, at least, and for each of its processes: workers may join later.
LEAST_AT_ONCE, AT_ONCE = 64, 2
Work = Callable[..., Any]
Opened = tuple[int, Work, Callable[[], None]]  # pieces at once; what runs one and waits for it; what cancels all


def cluster() -> str:
    """The address of the Dask scheduler that $EDGEWAKE_CLUSTER names, such as tcp://host:8786, or ""."""
    return os.environ.get(CLUSTER, "")


@contextmanager
def process_pool(
    workers: int, start: Callable[..., Work], *arguments: Any, code: Sequence[str]
) -> Iterator[tuple[Work, Callable[..., Iterator[Any]]]]:
    """What runs a piece of work, `start(*arguments)(*piece)`, and waits for it; and a `map` with many under way.

    Pieces run on the cluster of $EDGEWAKE_CLUSTER; where there is none, in `workers` processes, or in this one when
    that is 0. Each process calls `start(*arguments)` once. An error cancels what has not begun.

    Args:
        code: modules that the cluster's processes must have as they are here, with all that these import.

    Raises:
        EdgewakeError: the cluster cannot be reached, has other code, or lost workers again and again at one piece.
    """
    if not cluster() and workers == 0:
        yield start(*arguments), map
        return
    opened = _connected(cluster(), code, start, arguments) if cluster() else _processes(workers, start, arguments)
    with opened as (count, run, cancel), ThreadPoolExecutor(count) as threads:
        try:
            yield run, threads.map
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            cancel()
            raise


# ---- this machine --------------------------------------------------------------------------------


@contextmanager
def _processes(workers: int, start: Callable[..., Work], arguments: tuple[Any, ...]) -> Iterator[Opened]:
    # Not forked: the parent may run torch's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (start, arguments)) as pool:
        yield (
            workers,
            lambda *piece: pool.submit(_run, *piece).result(),
            lambda: pool.shutdown(wait=False, cancel_futures=True),
        )


_work: list[Work] = []  # one in each process


def _begin(start: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
    # Ctrl-C reaches all of them; the parent ends them after what they work on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work[:] = [start(*arguments)]


def _run(*piece: Any) -> Any:
    return _work[0](*piece)


def _end_with_parent() -> None:
    """Processes of a killed parent would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


# ---- a cluster -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Setup:
    """What all pieces of a pool have in common; only `token` tells setups apart."""

    token: str
    folder: Path = field(compare=False)  # that relative paths start from
    environment: dict[str, str] = field(compare=False)
    code: Sequence[str] = field(compare=False)
    fingerprint: str = field(compare=False)
    start: Callable[..., Work] = field(compare=False)
    arguments: tuple[Any, ...] = field(compare=False)


@contextmanager
def _connected(
    address: str, code: Sequence[str], start: Callable[..., Work], arguments: tuple[Any, ...]
) -> Iterator[Opened]:
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        what = f"{CLUSTER}={address} takes Dask, not installed"
        raise MissingDependencyError(f"{what}: pip install 'edgewake[cluster]', or unset it") from error
    fingerprint = code_fingerprint(*code)
    # As the processes of this machine would have them.
    environment = {name: value for name, value in os.environ.items() if name.startswith("EDGEWAKE_")}
    setup = _Setup(secrets.token_hex(8), Path.cwd(), environment, code, fingerprint, start, arguments)
    try:
        client = Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        remedy = f"start one by `dask scheduler`, or unset {CLUSTER}"
        raise EdgewakeError(f"no Dask scheduler at {CLUSTER}={address} ({error}): {remedy}") from error
    with client:
        try:
            found = {address: client.run_on_scheduler(code_fingerprint, *code)}
            found |= client.run(code_fingerprint, *code, on_error="return")
        except Exception as error:  # whatever an edgewake that is absent or of another version raises there
            found = {address: error}
        for place, its in found.items():
            _check_code(place, its, fingerprint)
        processes = client.nthreads()
        if not processes:
            error_console.print(f"waiting for workers of {address}: none has joined yet", soft_wrap=True)
        # A task too, so that it is done again where the worker that has it is lost.
        common = client.submit(pickle.loads, pickle.dumps(setup), pure=False)

        def run(*piece: Any) -> Any:
            try:
                # Pickled here, since Dask searches containers for its own objects.
                return client.submit(_run_there, common, pickle.dumps(piece), pure=False).result()
            except KilledWorker as error:
                what = f"{address} lost {error.allowed_failures + 1} workers at one piece of work"
                raise EdgewakeError(f"{what}: look into their logs, and give them more memory") from error
            except CancelledError as error:
                remedy = "start it again and repeat the command, which goes on with what is missing"
                raise EdgewakeError(f"the scheduler at {address} was lost: {remedy}") from error

        yield max(LEAST_AT_ONCE, AT_ONCE * len(processes)), run, client.close
        with suppress(OSError):  # all is done, whoever is lost now
            client.run(_started.cache_clear, on_error="ignore")


def _check_code(place: str, found: Any, wanted: str) -> None:
    """An error where a process of a cluster has another fingerprint of the code, or could not tell its own."""
    if found != wanted:
        what = str(found) if isinstance(found, Exception) else f"{found[:12]}, here {wanted[:12]}"
        raise EdgewakeError(
            f"{place} of the cluster has another edgewake, or other versions of packages, than this machine ({what}): "
            "install the same there, by the same constraints.txt"
        )


def _run_there(setup: _Setup, piece: bytes) -> Any:
    try:
        os.chdir(setup.folder)
    except OSError as error:
        what = f"{_address()} of the cluster has no folder {setup.folder}"
        raise EdgewakeError(f"{what}: it needs the folders of this machine, at the same place") from error
    os.environ.update(setup.environment)
    return _started(setup)(*pickle.loads(piece))


@lru_cache(maxsize=1)  # what is started may be gigabytes of recordings
def _started(setup: _Setup) -> Work:
    from distributed import get_worker

    threads = get_worker().state.nthreads
    if threads != 1:  # engines and renderers are made for one piece at a time
        raise EdgewakeError(
            f"{_address()} of the cluster runs {threads} pieces at once in one process, and 1 is allowed: start it "
            f"with --nthreads 1 --nworkers {threads}"
        )
    _check_code(_address(), code_fingerprint(*setup.code), setup.fingerprint)
    return setup.start(*setup.arguments)


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)
