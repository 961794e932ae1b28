"""The C core as a shared library: `load` gives the build of this package, or says how to make it."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from pathlib import Path

from edgewake.errors import EdgewakeError

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
_REMEDY = "run `make build`, or `cmake -S . -B build/cmake && cmake --build build/cmake`, or `pip install .`"


def library_path() -> Path:
    """Where the shared library is.

    An editable install has the Python files in the checkout and the library in site-packages, and a checkout
    may have one of its own build: every folder of the package is searched, and the newest library wins.

    Raises:
        EdgewakeError: it was not built.
    """
    names = (f"libedgewake{_SUFFIX}", f"edgewake{_SUFFIX}")
    candidates = [Path(folder) / name for folder in __path__ for name in names]
    built = [path for path in candidates if path.is_file()]
    if not built:
        raise EdgewakeError(f"{names[0]} is not in {', '.join(map(str, __path__))}: {_REMEDY}")
    return max(built, key=lambda path: path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def load() -> ctypes.CDLL:
    """The C core, loaded once. Calls through it release the GIL.

    Raises:
        EdgewakeError: it was not built, or was built for another machine.
    """
    path = library_path()
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise EdgewakeError(f"{path} cannot be loaded ({error}): {_REMEDY}") from error
