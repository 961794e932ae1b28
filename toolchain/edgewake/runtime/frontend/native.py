"""Features from the C core that the board runs: streaming, one shot, and many recordings on all cores."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewake import _native
from edgewake.config.frontend import FrontendConfig
from edgewake.errors import EdgewakeError
from edgewake.runtime.frontend.tables import FrontendTables, build_tables, check_samples


def members(tables: FrontendTables) -> dict[str, int | NDArray[np.integer[Any]]]:
    """Members of `ew_frontend_tables_t` after the hash, in the order of their declaration."""
    known = vars(tables) | {"scale_shift": tables.config.log_scale_shift}
    names = [name for name, _ in _native.FrontendTables._fields_[1:]]
    return {name: known[name] if name in known else int(getattr(tables.config, name)) for name in names}


class NativeTables:
    """A C structure of tables with the arrays it points to; `pointer` is valid while this object lives."""

    def __init__(self, tables: FrontendTables) -> None:
        self.tables = tables
        self.struct = _native.FrontendTables(hash=int(tables.config.hash(), 16))
        for name, value in members(tables).items():
            setattr(self.struct, name, value.ctypes.data if isinstance(value, np.ndarray) else value)
        self.pointer = ctypes.pointer(self.struct)


@lru_cache(maxsize=16)
def _tables_by_json(canonical: str) -> NativeTables:
    return NativeTables(build_tables(FrontendConfig.model_validate_json(canonical)))


def native_tables(config: FrontendConfig | None = None) -> NativeTables:
    """Tables of `config` (default: `FrontendConfig()`) for the C core, built once per configuration."""
    return _tables_by_json((config or FrontendConfig()).model_dump_json())


class NativeFrontend:
    """The C frontend as a stream: features depend on the samples since `reset`, never on how they are cut."""

    def __init__(self, config: FrontendConfig | None = None) -> None:
        self._tables = native_tables(config)
        self.config = self._tables.tables.config
        self._library = _native.load()
        self._instance = _native.Instance(
            self._library.ew_frontend_size(self._tables.pointer),
            lambda place, size, handle: self._library.ew_frontend_init(place, size, self._tables.pointer, handle),
        )
        self._pending = 0
        self._window, self._step = self.config.window_samples, self.config.step_samples

    def process(self, samples: NDArray[np.int16]) -> NDArray[np.uint16]:
        """Take int16 samples (n,); return the frames that they complete, uint16 (frames, channels).

        The real value of a feature is 0.0390625 (10/256) of its integer.
        """
        samples = check_samples(samples)
        total = self._pending + len(samples)
        capacity = max(0, (total - self._window) // self._step + 1)
        features, frames = np.empty((capacity, self.config.channels), np.uint16), ctypes.c_size_t()
        given = (address(samples), len(samples), address(features), capacity, ctypes.byref(frames))
        _native.check(self._library.ew_frontend_run(self._instance.handle, *given))
        self._pending = total - capacity * self._step
        return features

    def reset(self) -> None:
        """Restore the state of a new frontend."""
        _native.check(self._library.ew_frontend_reset(self._instance.handle))
        self._pending = 0


def address(array: NDArray[np.int16] | NDArray[np.uint16]) -> int:
    """Of an array's first value, in a third of the time of `array.ctypes.data`: a stream comes in chunks of 10 ms."""
    place: int = array.__array_interface__["data"][0]
    return place


def features(samples: NDArray[np.int16], config: FrontendConfig | None = None) -> NDArray[np.uint16]:
    """All frames of one recording, int16 (n,), from reset; see `NativeFrontend.process`."""
    return NativeFrontend(config).process(samples)


def features_batch(
    recordings: Sequence[NDArray[np.int16]], config: FrontendConfig | None = None, workers: int | None = None
) -> list[NDArray[np.uint16]]:
    """`features` of each recording, in order, on `workers` threads (default: all cores), without the GIL."""
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers < 1:
        raise EdgewakeError(f"workers = {workers}; at least 1 is needed: leave it out for all cores")
    if workers == 1 or len(recordings) < 2:
        return [features(samples, config) for samples in recordings]
    with ThreadPoolExecutor(min(workers, len(recordings))) as pool:
        return list(pool.map(lambda samples: features(samples, config), recordings))
