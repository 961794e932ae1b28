"""The detector is the C pipeline of the board with TFLM or the generated C behind it, which give the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgewake.runtime.events import as_probability
from edgewake.runtime.model_manifest import load_model
from edgewake.runtime.network.compiled import Backend, CompiledModel, CompiledNetwork, usable
from edgewake.runtime.pipeline.native import NativePipeline
from edgewake.runtime.tflm import TflmModel


@dataclass(frozen=True)
class Detection:
    """The wake phrase was detected, by a step of this smoothed probability.

    `time_s` is the end of the audio that the step had taken, in seconds since reset.
    """

    time_s: float
    probability: float


@dataclass(frozen=True)
class DetectorStep(Detection):
    """An inference step: a detection where `detected`."""

    detected: bool


class Detector:
    """Finds the phrase in int16 mono audio at the rate of the model's frontend (16 kHz).

    Args:
        path: a build folder, a model folder or a manifest.json.
        cutoff: use another cutoff than the model's own, above 0 and at most 65535/65536, the highest probability.
        backend: "tflm", or "c": the generated C, compiled once (about a second) and kept in the cache; a step takes a
            tenth of the time. Without a C compiler it is "tflm". The attribute tells which it is.

    Raises:
        EdgewakeError: no model, not the one that its manifest names, or a cutoff out of range.
    """

    def __init__(self, path: str | Path, *, cutoff: float | None = None, backend: Backend = "tflm") -> None:
        self.manifest, self._bytes = load_model(Path(path))
        self.backend = usable(backend)
        self._compiled = CompiledNetwork(self._bytes) if self.backend == "c" else None
        self.params = self.manifest.pipeline_params(cutoff)
        self._config = self.manifest.frontend_config
        self._stream = self._new_stream()

    @property
    def phrase(self) -> str:
        """The wake phrase."""
        return self.manifest.phrase

    @property
    def step_s(self) -> float:
        """Seconds from one inference step to the next."""
        return self.manifest.step_s

    @property
    def cutoff(self) -> float:
        """Smallest smoothed probability that is a detection, rounded to float32 as `probabilities` are."""
        return float(np.float32(self.params.cutoff))

    @property
    def refractory_steps(self) -> int:
        """Distance between two detections at least, in steps."""
        return self.params.refractory_steps

    def process(self, samples: npt.NDArray[np.int16]) -> list[Detection]:
        """The detections that the next samples of the stream complete, (n,) int16 in chunks of any size, 0 included.

        They are the same for every way of cutting the stream. Raises AudioError for other samples.
        """
        return [Detection(step.time_s, step.probability) for step in self.steps(samples) if step.detected]

    def steps(self, samples: npt.NDArray[np.int16]) -> list[DetectorStep]:
        """Every inference step that the next samples complete, in place of `process`, of which it is the long form."""
        rate, window = self._config.sample_rate, self.params.window
        return [
            DetectorStep(step.sample_index / rate, float(as_probability(step.sum, window)), bool(step.detected))
            for step in self._stream.process(samples)
        ]

    def probabilities(self, samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
        """Smoothed probability of every step of a recording from reset, (n,) int16 -> (steps,) float32.

        The stream of `process` goes on; step s is complete at `sample_index(s)` samples.
        """
        return as_probability([step.sum for step in self._new_stream().process(samples)], self.params.window)

    def sample_index(self, step: int) -> int:
        """Samples since reset after which a step is complete."""
        last_frame = self.params.frames_per_step * (step + 1) - 1
        return self._config.window_samples + self._config.step_samples * last_frame

    def reset(self) -> None:
        """Start again: what follows is taken as if silence had gone before."""
        self._stream = self._new_stream()

    def _new_stream(self) -> NativePipeline:
        infer = CompiledModel(self._compiled) if self._compiled else TflmModel(self._bytes).step
        return NativePipeline(self._config, self.params, infer)
