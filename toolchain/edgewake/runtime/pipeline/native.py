"""The pipeline of the C core with any model behind its function pointer: the code that the board runs."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake._native import library_path, load
from edgewake.config.frontend import FrontendConfig
from edgewake.errors import EdgewakeError
from edgewake.runtime.frontend.native import check_samples, native_tables
from edgewake.runtime.pipeline.params import Infer, PipelineParams, Step

_ALIGNMENT = 16
_OK, _INFERENCE = 0, 5
_STATUS = {1: "a NULL pointer", 2: "a value out of range", 3: "too little memory", 4: "misaligned memory"}

_Bytes = Any  # pointer to int8; ctypes offers no public name for its type

_INFER_TYPE = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int8), ctypes.POINTER(ctypes.c_int8)
)


class ConfigStruct(ctypes.Structure):
    """`ew_pipeline_config_t` of ew_pipeline.h, field by field."""

    _fields_ = (
        ("frames_per_step", ctypes.c_uint32),
        ("channels", ctypes.c_uint32),
        ("multiplier", ctypes.c_uint32),
        ("shift", ctypes.c_uint32),
        ("zero_point", ctypes.c_int32),
        ("window", ctypes.c_uint32),
        ("cutoff_sum", ctypes.c_uint32),
        ("refractory_steps", ctypes.c_uint32),
    )


class StepStruct(ctypes.Structure):
    """`ew_step_t` of ew_pipeline.h, field by field."""

    _fields_ = (
        ("done", ctypes.c_bool),
        ("detected", ctypes.c_bool),
        ("output", ctypes.c_int8),
        ("sum", ctypes.c_uint32),
        ("sample_index", ctypes.c_uint64),
    )


class NativePipeline:
    """Samples -> steps as a stream: the steps depend on the samples since `reset`, never on how they are cut.

    Args:
        config: of the frontend.
        params: everything behind it.
        infer: the model: int8 features of one step, (frames_per_step * channels,), oldest frame first -> int8
            output. The array is its own copy. Whoever resets the pipeline resets the model too.

    Raises:
        EdgewakeError: the parameters do not fit the frontend, or the C core was not built.
    """

    def __init__(self, config: FrontendConfig, params: PipelineParams, infer: Infer) -> None:
        if params.channels != config.channels:
            raise EdgewakeError(
                f"the model takes {params.channels} features a frame, the frontend gives {config.channels}; "
                "train with this frontend"
            )
        self.config, self.params, self.infer = config, params, infer
        self._library = _library()
        self._tables = native_tables(config)
        self._process = self._library.ew_pipeline_process
        self._width = params.frames_per_step * params.channels
        self._taken, self._step = ctypes.c_size_t(), StepStruct()
        self._taken_pointer, self._step_pointer = ctypes.byref(self._taken), ctypes.byref(self._step)
        self._error: BaseException | None = None
        self._callback = _INFER_TYPE(self._call_model)
        struct = config_struct(params)
        size = self._library.ew_pipeline_size(self._tables.pointer, ctypes.byref(struct))
        self._memory = np.zeros(size + _ALIGNMENT, np.uint8)
        start = self._memory.ctypes.data
        self._handle = ctypes.c_void_p()
        _check(
            self._library.ew_pipeline_init(
                start + -start % _ALIGNMENT,
                size,
                self._tables.pointer,
                ctypes.byref(struct),
                self._callback,
                None,
                ctypes.byref(self._handle),
            )
        )

    def process(self, samples: npt.NDArray[np.int16]) -> list[Step]:
        """Take (n,) int16 samples, mono, at the frontend's rate; returns the steps that they complete.

        Raises:
            AudioError: not one-dimensional int16.
            EdgewakeError: the model failed before, and nothing was reset since.
            Whatever the model raises; the pipeline then needs a reset, and the model too.
        """
        samples = check_samples(samples)
        # A third of the time of `samples.ctypes.data`, which counts when a stream comes in chunks of 10 ms.
        place: int = samples.__array_interface__["data"][0]
        left, step = len(samples), self._step
        steps: list[Step] = []
        while left:
            status = self._process(self._handle, place, left, self._taken_pointer, self._step_pointer)
            if status == _INFERENCE:
                self._raise_model_error()
            _check(status)
            taken = self._taken.value
            place, left = place + samples.itemsize * taken, left - taken
            if step.done:
                steps.append(Step(step.sum, step.detected, step.sample_index, step.output))
        return steps

    def reset(self) -> None:
        """Restore the state before the first sample (not the model's)."""
        self._error = None
        _check(self._library.ew_pipeline_reset(self._handle))

    def _call_model(self, _context: int | None, features: _Bytes, output: _Bytes) -> int:
        # An exception cannot cross C frames: it waits here until ew_pipeline_process has returned.
        try:
            result = int(self.infer(np.frombuffer(ctypes.string_at(features, self._width), np.int8)))
            if not -128 <= result <= 127:
                raise EdgewakeError(f"the model returned {result}; its output is int8, -128 to 127")
            output[0] = result
        except BaseException as error:
            self._error = error
            return _INFERENCE
        return _OK

    def _raise_model_error(self) -> None:
        error, self._error = self._error, None
        if error is None:
            raise EdgewakeError("the model failed at an earlier step; reset the pipeline and the model first")
        raise error


def config_struct(params: PipelineParams) -> ConfigStruct:
    """The parameters as the C core takes them."""
    return ConfigStruct(*(getattr(params, name) for name, _ in ConfigStruct._fields_))


def pipeline_bytes(config: FrontendConfig, params: PipelineParams) -> int:
    """Memory that the C pipeline needs on this host, in bytes; a 32-bit board needs a little less."""
    struct = config_struct(params)
    return int(_library().ew_pipeline_size(native_tables(config).pointer, ctypes.byref(struct)))


def selftest_bytes(config: FrontendConfig, params: PipelineParams) -> int:
    """Memory that the C self-test needs on this host, in bytes: a pipeline and one frame of features."""
    struct = config_struct(params)
    return int(_library().ew_selftest_size(native_tables(config).pointer, ctypes.byref(struct)))


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    library = load()
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    try:
        library.ew_pipeline_size.restype = size
        library.ew_pipeline_size.argtypes = [pointer, pointer]
        library.ew_pipeline_init.argtypes = [pointer, size, pointer, pointer, _INFER_TYPE, pointer, pointer]
        library.ew_pipeline_reset.argtypes = [pointer]
        library.ew_pipeline_process.argtypes = [pointer, pointer, size, pointer, pointer]
        library.ew_selftest_size.restype = size
        library.ew_selftest_size.argtypes = [pointer, pointer]
        library.ew_pipeline_config_size.restype = size
        library.ew_pipeline_step_size.restype = size
        found = (library.ew_pipeline_config_size(), library.ew_pipeline_step_size())
    except AttributeError as error:
        raise EdgewakeError(f"{library_path()} lacks a function ({error}): build it again") from error
    if found != (ctypes.sizeof(ConfigStruct), ctypes.sizeof(StepStruct)):
        raise EdgewakeError(f"{library_path()} is not of this package: build it again")
    return library


def _check(status: int) -> None:
    if status != _OK:
        reason = _STATUS.get(status, "an unknown reason")
        raise EdgewakeError(f"the C pipeline refused: {reason} (status {status})")
