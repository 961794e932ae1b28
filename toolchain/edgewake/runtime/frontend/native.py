"""Features from the C core that the board runs: streaming, one shot, and many recordings on all cores."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgewake._native import library_path, load
from edgewake.config.frontend import FrontendConfig
from edgewake.errors import EdgewakeError
from edgewake.runtime.frontend.samples import check_samples
from edgewake.runtime.frontend.tables import FrontendTables, build_tables

__all__ = ["NativeFrontend", "NativeTables", "check_samples", "features", "features_batch", "native_tables"]

_ALIGNMENT = 16
_STATUS = (
    "ok",
    "a NULL pointer",
    "a value out of range",
    "too little memory",
    "misaligned memory",
    "inference failed",
)


class TablesStruct(ctypes.Structure):
    """`ew_frontend_tables_t` of ew_frontend.h, field by field."""

    _fields_ = (
        ("hash", ctypes.c_uint64),
        ("window_samples", ctypes.c_uint32),
        ("step_samples", ctypes.c_uint32),
        ("fft_size", ctypes.c_uint32),
        ("channels", ctypes.c_uint32),
        ("window", ctypes.c_void_p),
        ("fft_order", ctypes.c_void_p),
        ("fft_twiddles", ctypes.c_void_p),
        ("real_twiddles", ctypes.c_void_p),
        ("bands", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("unweights", ctypes.c_void_p),
        ("noise_reduction", ctypes.c_uint32),
        ("smoothing_bits", ctypes.c_uint32),
        ("even_smoothing", ctypes.c_uint32),
        ("odd_smoothing", ctypes.c_uint32),
        ("min_signal_remaining", ctypes.c_uint32),
        ("pcan", ctypes.c_uint32),
        ("snr_shift", ctypes.c_uint32),
        ("gain_lut", ctypes.c_void_p),
        ("correction_bits", ctypes.c_uint32),
        ("scale_shift", ctypes.c_uint32),
        ("log_lut", ctypes.c_void_p),
    )


class NativeTables:
    """A C structure of tables with the arrays it points to; `pointer` is valid while this object lives."""

    def __init__(self, tables: FrontendTables) -> None:
        self.tables = tables
        self.struct = TablesStruct(hash=int(tables.config.hash(), 16))
        for name, value in tables.members().items():
            setattr(self.struct, name, value.ctypes.data if isinstance(value, np.ndarray) else value)
        self.pointer = ctypes.pointer(self.struct)


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    library = load()
    size = ctypes.c_size_t
    try:
        library.ew_frontend_tables_size.restype = size
        library.ew_frontend_size.restype = size
        library.ew_frontend_size.argtypes = [ctypes.c_void_p]
        library.ew_frontend_init.argtypes = [ctypes.c_void_p, size, ctypes.c_void_p, ctypes.c_void_p]
        library.ew_frontend_reset.argtypes = [ctypes.c_void_p]
        library.ew_frontend_run.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            size,
            ctypes.c_void_p,
            size,
            ctypes.c_void_p,
        ]
        found = library.ew_frontend_tables_size()
    except AttributeError as error:
        raise EdgewakeError(f"{library_path()} lacks a function ({error}): build it again") from error
    if found != ctypes.sizeof(TablesStruct):
        raise EdgewakeError(
            f"{library_path()} has tables of {found} bytes, this package of {ctypes.sizeof(TablesStruct)}: "
            "build it again"
        )
    return library


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
        self._library = _library()
        size = self._library.ew_frontend_size(self._tables.pointer)
        self._memory = np.zeros(size + _ALIGNMENT, np.uint8)
        start = self._memory.ctypes.data
        self._handle = ctypes.c_void_p()
        _check(
            self._library.ew_frontend_init(
                start + -start % _ALIGNMENT, size, self._tables.pointer, ctypes.byref(self._handle)
            )
        )
        self._pending = 0
        self._window, self._step = self.config.window_samples, self.config.step_samples
        self._channels = self.config.channels

    def process(self, samples: NDArray[np.int16]) -> NDArray[np.uint16]:
        """Take int16 samples (n,); return the frames that they complete, uint16 (frames, channels).

        The real value of a feature is 0.0390625 (10/256) of its integer.

        Raises:
            AudioError: not one-dimensional int16.
        """
        samples = check_samples(samples)
        total = self._pending + len(samples)
        capacity = max(0, (total - self._window) // self._step + 1)
        features = np.empty((capacity, self._channels), np.uint16)
        frames = ctypes.c_size_t()
        _check(
            self._library.ew_frontend_run(
                self._handle,
                _address(samples),
                len(samples),
                _address(features),
                capacity,
                ctypes.byref(frames),
            )
        )
        self._pending = total - capacity * self._step
        return features

    def reset(self) -> None:
        """Restore the state of a new frontend."""
        _check(self._library.ew_frontend_reset(self._handle))
        self._pending = 0


def _address(array: NDArray[np.int16] | NDArray[np.uint16]) -> int:
    # A third of the time of `array.ctypes.data`, which counts when a stream comes in steps of 10 ms.
    address: int = array.__array_interface__["data"][0]
    return address


def _check(status: int) -> None:
    if status != 0:
        raise EdgewakeError(f"the C frontend refused: {_STATUS[status]} (status {status})")


def features(samples: NDArray[np.int16], config: FrontendConfig | None = None) -> NDArray[np.uint16]:
    """All frames of one recording from the reset state.

    Args:
        samples: int16, shape (n,), at the configured sample rate, mono.
        config: defaults to `FrontendConfig()`.

    Returns:
        uint16, shape (frames, channels); the real value is 0.0390625 of the integer.

    Raises:
        AudioError: `samples` is not one-dimensional int16.
    """
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
