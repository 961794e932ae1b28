"""The C core as a shared library, with its functions and structures as its headers declare them."""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgewake.errors import EdgewakeError

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
OK, INFERENCE_FAILED = 0, 5
_ALIGNMENT = 16
_STATUS = ("", "a NULL pointer", "a value out of range", "too little memory", "misaligned memory", "inference failed")
_REMEDY = "run `make build`, or `cmake -S . -B build/cmake && cmake --build build/cmake`, or `pip install .`"


def library_path() -> Path:
    """Where the shared library is.

    An editable install has the Python files in the checkout and the library in site-packages, and a checkout
    may have one of its own build: every folder of the package is searched, and the newest library wins.
    """
    names = (f"libedgewake{_SUFFIX}", f"edgewake{_SUFFIX}")
    candidates = [Path(folder) / name for folder in __path__ for name in names]
    built = [path for path in candidates if path.is_file()]
    if not built:
        raise EdgewakeError(f"{names[0]} is not in {', '.join(map(str, __path__))}: {_REMEDY}")
    return max(built, key=lambda path: path.stat().st_mtime_ns)


def _fields(text: str) -> list[tuple[str, Any]]:
    """Fields of a C structure from lines of a type and names."""
    lines = [line.split() for line in text.strip().splitlines()]
    return [(name, getattr(ctypes, f"c_{kind}")) for kind, *names in lines for name in names]


class FrontendTables(ctypes.Structure):
    """`ew_frontend_tables_t` of ew_frontend.h, field by field."""

    _fields_ = _fields("""
        uint64 hash
        uint32 window_samples step_samples fft_size channels
        void_p window fft_order fft_twiddles real_twiddles bands weights unweights
        uint32 noise_reduction smoothing_bits even_smoothing odd_smoothing min_signal_remaining pcan snr_shift
        void_p gain_lut
        uint32 correction_bits scale_shift
        void_p log_lut
    """)


class PipelineConfig(ctypes.Structure):
    """`ew_pipeline_config_t` of ew_pipeline.h, field by field."""

    _fields_ = _fields("""
        uint32 frames_per_step channels multiplier shift
        int32 zero_point
        uint32 window cutoff_sum refractory_steps
        void_p probabilities
    """)


class Step(ctypes.Structure):
    """`ew_step_t` of ew_pipeline.h, field by field."""

    _fields_ = _fields("""
        bool done detected
        int8 output
        uint32 sum
        uint64 sample_index
    """)


INFER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int8), ctypes.POINTER(ctypes.c_int8))

_SIZE, _POINTER = ctypes.c_size_t, ctypes.c_void_p
_SIZES = {"ew_frontend_tables_size": FrontendTables, "ew_pipeline_config_size": PipelineConfig,
          "ew_pipeline_step_size": Step}  # fmt: skip
_QUERIES = {"ew_frontend_size": 1, "ew_pipeline_size": 2, "ew_selftest_size": 2}
_FUNCTIONS = {
    "ew_frontend_init": (_POINTER, _SIZE, _POINTER, _POINTER),
    "ew_frontend_reset": (_POINTER,),
    "ew_frontend_run": (_POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _POINTER),
    "ew_pipeline_init": (_POINTER, _SIZE, _POINTER, _POINTER, INFER, _POINTER, _POINTER),
    "ew_pipeline_reset": (_POINTER,),
    "ew_pipeline_process": (_POINTER, _POINTER, _SIZE, _POINTER, _POINTER),
}


class Library(ctypes.CDLL):
    """A loaded library; `sha256` is that of its file when it was loaded."""

    def __init__(self, path: Path) -> None:
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        super().__init__(str(path))


@lru_cache(maxsize=1)
def load() -> Library:
    """The C core, loaded once, with its functions declared. Calls through it release the GIL."""
    path = library_path()
    try:
        library = Library(path)
        for name in (*_SIZES, *_QUERIES):
            function = getattr(library, name)
            function.restype, function.argtypes = _SIZE, (_POINTER,) * _QUERIES.get(name, 0)
        for name, arguments in _FUNCTIONS.items():
            getattr(library, name).argtypes = arguments
    except (OSError, AttributeError) as error:
        raise EdgewakeError(f"{path} cannot be loaded ({error}): {_REMEDY}") from error
    for name, structure in _SIZES.items():
        found, expected = getattr(library, name)(), ctypes.sizeof(structure)
        if found != expected:
            raise EdgewakeError(f"{path}: {name} is {found} bytes, not the {expected} of this package: {_REMEDY}")
    return library


def library_sha256() -> str:
    """SHA-256 of the library that this process runs, whatever was built since."""
    return load().sha256


def check(status: int) -> None:
    """Raise EdgewakeError for an `ew_status_t` other than EW_OK."""
    if status != OK:
        raise EdgewakeError(f"the C core refused: {_STATUS[status]} (status {status})")


def aligned_memory(size: int) -> tuple[Any, int]:
    """`size` bytes for the C core, all zero, and their aligned address; they last as long as the first of the two."""
    memory = ctypes.create_string_buffer(size + _ALIGNMENT)
    start = ctypes.addressof(memory)
    return memory, start + -start % _ALIGNMENT


class Instance:
    """Memory of the size that the C core needs, and the handle that an init function puts there.

    Args:
        size: bytes, of the size query.
        init: calls the init function with the memory's aligned address, its size and a pointer for the handle.
    """

    def __init__(self, size: int, init: Callable[[int, int, Any], int]) -> None:
        self._memory, place = aligned_memory(size)
        self.handle = ctypes.c_void_p()
        check(init(place, size, ctypes.byref(self.handle)))
