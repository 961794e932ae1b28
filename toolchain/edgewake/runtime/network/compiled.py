"""The generated C of a model on this host: compiled once by the system's C compiler, kept in the cache by content."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgewake import _native
from edgewake.cache import Cache
from edgewake.errors import EdgewakeError
from edgewake.runtime.network.source import Network, network_sources, read_network, render

Int8Array = npt.NDArray[np.int8]
Backend = Literal["c", "tflm"]
LIBRARY = "network.so"
# At -O3 GCC 12 takes twice the time. -fwrapv: a file whose sums pass int32 wraps, as TFLM's kernels do.
OPTIONS = ("-std=c99", "-O2", "-ftree-vectorize", "-fwrapv", "-fPIC", "-shared", "-DEW_NETWORK_TRACE")


def compiler() -> list[str] | None:
    """The command of the system's C compiler: $CC, else cc, gcc or clang; None where there is none."""
    named = shlex.split(os.environ.get("CC", ""))
    for name in (named[0],) if named else ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found, *named[1:]]
    return None


def usable(backend: Backend) -> Backend:
    """The backend itself, or tflm where there is no C compiler for c."""
    return "tflm" if compiler() is None else backend


class CompiledNetwork:
    """The library of one .tflite, for any number of `CompiledModel`.

    Args:
        model: bytes of the .tflite.
        cache: where the library is kept; None: the default one.

    Raises:
        EdgewakeError: the C backend lacks an operator, or there is no C compiler, or it fails.
    """

    def __init__(self, model: bytes, cache: Cache | None = None) -> None:
        self.network = read_network(model)
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self.library = ctypes.CDLL(str(_library(self.network, cache or Cache())))
        self.library.ew_host_size.restype = size
        self.library.ew_host_reset.argtypes = (pointer,)
        self.library.ew_host_run.argtypes = (pointer, pointer, size, pointer, pointer)


class CompiledModel:
    """One stream through the compiled C, with the bytes of `TflmModel`."""

    def __init__(self, compiled: CompiledNetwork) -> None:
        self.compiled, self._library = compiled, compiled.library
        self._memory, place = _native.aligned_memory(self._library.ew_host_size())
        self._state = ctypes.c_void_p(place)
        self.reset()

    @property
    def native(self) -> tuple[Any, ctypes.c_void_p]:
        """An `ew_infer_fn` for the C pipeline and its context, the state of this object, which must outlive both."""
        return _native.INFER(("ew_host_infer", self._library)), self._state

    def __call__(self, features: Int8Array) -> int:
        """The next step: (width,) int8 -> -128..127."""
        return int(self.run(features[None])[0])

    def reset(self) -> None:
        """Set the state to that after endless silence."""
        self._library.ew_host_reset(self._state)

    def run(self, features: Int8Array) -> Int8Array:
        """Steps on from the present state: (steps, width) int8 -> (steps,) int8."""
        return self._run(features, None)

    def windowed(self, features: Int8Array) -> Int8Array:
        """Steps from reset: (steps, width) int8 -> (steps,) int8."""
        self.reset()
        return self._run(features, None)

    def activations(self, features: Int8Array) -> list[Int8Array]:
        """Every layer's output at steps from reset: (steps, width) int8 -> (steps, channels) int8 each."""
        widths = [layer.outputs for layer in self.compiled.network.layers]
        trace = np.zeros((len(features), sum(widths)), np.int8)
        self.reset()
        self._run(features, trace)
        return np.split(trace, np.cumsum(widths)[:-1], axis=1)

    def _run(self, features: Int8Array, trace: Int8Array | None) -> Int8Array:
        width = self.compiled.network.width
        if features.ndim != 2 or features.shape[1] != width or features.dtype != np.int8:
            raise EdgewakeError(
                f"features of shape {features.shape}, {features.dtype}: the model takes (steps, {width}) int8"
            )
        features, outputs = np.ascontiguousarray(features), np.zeros(len(features), np.int8)
        place = None if trace is None else trace.ctypes.data
        self._library.ew_host_run(self._state, features.ctypes.data, len(features), outputs.ctypes.data, place)
        return outputs


def _library(network: Network, cache: Cache) -> Path:
    """The shared library of a network, compiled where the cache lacks it."""
    command = compiler()
    if command is None:
        raise EdgewakeError("no C compiler (cc, gcc or clang): install one, set $CC, or use the backend tflm")
    sources = network_sources(network) | {"host.c": render("host.c", network)}
    # What the compiler predefines names it, and the processor that -march=native stands for.
    probe = [*command, "-march=native", "-dM", "-E", "-x", "c", os.devnull]
    done = subprocess.run(probe, capture_output=True, check=False)
    options = [*OPTIONS, *(["-march=native"] if done.returncode == 0 else [])]
    texts = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sources.items()}
    machine = hashlib.sha256(done.stdout + done.stderr).hexdigest()
    parameters = {"sources": texts, "compiler": command, "machine": machine, "options": options}

    def compile_sources(folder: Path) -> None:
        for name, text in sources.items():
            (folder / name).write_text(text, encoding="utf-8")
        line = [*command, *options, *(name for name in sources if name.endswith(".c")), "-o", LIBRARY]
        done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode:
            raise EdgewakeError(f"{shlex.join(line)} fails: {done.stderr.strip()[:300]}: use the backend tflm")
        for name in sources:
            (folder / name).unlink()

    return cache.get("network", parameters, compile_sources, code=()).folder / LIBRARY
