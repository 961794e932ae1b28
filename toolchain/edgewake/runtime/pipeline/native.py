"""The pipeline of the C core with any model behind its function pointer: the code that the board runs."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake import _native
from edgewake.config.frontend import FrontendConfig
from edgewake.errors import EdgewakeError
from edgewake.runtime.frontend.native import address, native_tables
from edgewake.runtime.frontend.tables import check_samples
from edgewake.runtime.pipeline.params import Infer, PipelineParams, Step

_Bytes = Any  # pointer to int8; ctypes offers no public name for its type


class NativePipeline:
    """Samples -> steps as a stream: the steps depend on the samples since `reset`, never on how they are cut.

    The array that `infer` gets is its own copy; one with an attribute `native` (see `CompiledModel`) is called as C.
    Whoever resets the pipeline resets the model too.
    """

    def __init__(self, config: FrontendConfig, params: PipelineParams, infer: Infer) -> None:
        params.check_channels(config)
        self.config, self.params, self.infer = config, params, infer
        self._library = _native.load()
        self._tables = native_tables(config)
        self._width = params.frames_per_step * params.channels
        self._taken, self._step = ctypes.c_size_t(), _native.Step()
        self._taken_pointer, self._step_pointer = ctypes.byref(self._taken), ctypes.byref(self._step)
        self._error: BaseException | None = None
        # A model in C is called without Python.
        native: tuple[Any, Any] | None = getattr(infer, "native", None)
        self._callback: Any
        self._callback, context = native or (_native.INFER(self._call_model), None)
        # The C pipeline keeps the table by reference.
        self._probabilities = params.probabilities
        given = _given(config, params)
        self._instance = _native.Instance(
            self._library.ew_pipeline_size(*given),
            lambda *place: self._library.ew_pipeline_init(*place[:2], *given, self._callback, context, place[2]),
        )

    def process(self, samples: npt.NDArray[np.int16]) -> list[Step]:
        """Take (n,) int16 samples, mono, at the frontend's rate; returns the steps that they complete.

        What the model raises comes through; the pipeline then needs a reset, and the model too.
        """
        samples = check_samples(samples)
        place, left, step = address(samples), len(samples), self._step
        process, handle = self._library.ew_pipeline_process, self._instance.handle
        steps: list[Step] = []
        while left:
            status = process(handle, place, left, self._taken_pointer, self._step_pointer)
            if status == _native.INFERENCE_FAILED:
                error, self._error = self._error, None
                raise error or EdgewakeError("the model failed at an earlier step; reset the pipeline and the model")
            _native.check(status)
            taken = self._taken.value
            place, left = place + samples.itemsize * taken, left - taken
            if step.done:
                steps.append(Step(step.sum, step.detected, step.sample_index, step.output))
        return steps

    def reset(self) -> None:
        """Restore the state before the first sample (not the model's)."""
        self._error = None
        _native.check(self._library.ew_pipeline_reset(self._instance.handle))

    def _call_model(self, _context: int | None, features: _Bytes, output: _Bytes) -> int:
        # An exception cannot cross C frames: it waits here until ew_pipeline_process has returned.
        try:
            result = int(self.infer(np.frombuffer(ctypes.string_at(features, self._width), np.int8)))
            if not -128 <= result <= 127:
                raise EdgewakeError(f"the model returned {result}; its output is int8, -128 to 127")
            output[0] = result
        except BaseException as error:
            self._error = error
            return _native.INFERENCE_FAILED
        return _native.OK


def pipeline_bytes(config: FrontendConfig, params: PipelineParams) -> int:
    """Memory that the C pipeline needs on this host, in bytes; a 32-bit board needs a little less."""
    return int(_native.load().ew_pipeline_size(*_given(config, params)))


def selftest_bytes(config: FrontendConfig, params: PipelineParams) -> int:
    """Memory that the C self-test needs on this host, in bytes: a pipeline and one frame of features."""
    return int(_native.load().ew_selftest_size(*_given(config, params)))


def _given(config: FrontendConfig, params: PipelineParams) -> tuple[Any, Any]:
    """The two structures that the C functions take, by reference."""
    values = {name: getattr(params, name) for name, _ in _native.PipelineConfig._fields_}
    values["probabilities"] = address(params.probabilities)
    return native_tables(config).pointer, ctypes.byref(_native.PipelineConfig(**values))
