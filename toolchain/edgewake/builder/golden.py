"""Golden vectors: audio, and all that the host computed from it, which the board reproduces byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.calibration import array_sha256
from edgewake.errors import EdgewakeError
from edgewake.runtime.frontend import FrontendConfig, features
from edgewake.runtime.pipeline.native import NativePipeline
from edgewake.runtime.pipeline.params import PipelineParams
from edgewake.runtime.tflm import TflmModel

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Golden:
    """One stretch of audio from reset, and what frontend, model and pipeline make of it.

    Attributes:
        name: for reports.
        samples: (n,) int16; the last one completes the last step.
        features: (steps * frames_per_step, channels) uint16.
        outputs: (steps,) int8, of the model itself.
        sums: (steps,) uint32, smoothed.
        detections: (steps,) uint8, 1 where an event starts.
    """

    name: str
    samples: Samples
    features: npt.NDArray[np.uint16]
    outputs: npt.NDArray[np.int8]
    sums: npt.NDArray[np.uint32]
    detections: npt.NDArray[np.uint8]

    def json(self, window: int) -> dict[str, Any]:
        """What a report shows of it."""
        return {
            "name": self.name,
            "samples": len(self.samples),
            "frames": len(self.features),
            "steps": len(self.outputs),
            "sha256": array_sha256(self.features),
            "probabilities": [float(total) / (256 * window) for total in self.sums],
        }


def make_golden(name: str, audio: Samples, config: FrontendConfig, params: PipelineParams, model: bytes) -> Golden:
    """Run audio through the C pipeline with TFLM behind it, cut to whole steps."""
    steps = config.frames(len(audio)) // params.frames_per_step
    if steps == 0:
        raise EdgewakeError(f"golden audio of {len(audio)} samples completes no step: give a longer one")
    last_frame = steps * params.frames_per_step - 1
    samples = np.ascontiguousarray(audio[: config.window_samples + config.step_samples * last_frame])
    interpreter = TflmModel(model)
    done = NativePipeline(config, params, lambda step: int(interpreter.step(step))).process(samples)
    return Golden(
        name=name,
        samples=samples,
        features=features(samples, config),
        outputs=np.array([step.output for step in done], np.int8),
        sums=np.array([step.sum for step in done], np.uint32),
        detections=np.array([step.detected for step in done], np.uint8),
    )
