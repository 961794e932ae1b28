"""Samples to probability tracks by the fastest path that is proved equal to the detector's, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgewake.errors import EdgewakeError, ParityError
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.detector import Detector
from edgewake.runtime.events import probabilities
from edgewake.runtime.frontend import features_batch
from edgewake.runtime.model_manifest import find_manifest, load_model
from edgewake.runtime.pipeline.quantizer import quantize
from edgewake.runtime.simulator import IntegerModel
from edgewake.runtime.tflm import TflmModel

Engine = Literal["simulator", "tflm"]
Samples = npt.NDArray[np.int16]
Int8Array = npt.NDArray[np.int8]


class Scorer:
    """Scores whole recordings, each from its own reset.

    Args:
        path: a build or model folder, or its manifest.json.
        engine: "simulator", the integer model of conversion, which needs the deploy form beside the
            manifest; or "tflm", the interpreter itself.

    Raises:
        EdgewakeError: there is no such model, or no deploy form for the simulator.
    """

    def __init__(self, path: Path, engine: Engine = "simulator") -> None:
        self.path = find_manifest(Path(path))
        self.manifest, self._bytes = load_model(self.path)
        self.engine = engine
        self.frontend = self.manifest.frontend_config
        self._run = self._simulator() if engine == "simulator" else self._tflm()

    def score(self, recordings: Sequence[Samples]) -> list[npt.NDArray[np.float32]]:
        """Probability tracks of recordings, equal to `Detector.probabilities` of each."""
        found = features_batch(list(recordings), self.frontend)
        return [probabilities(self._run(self._steps(f)), self.manifest.window) for f in found]

    def check(self, name: str, samples: Samples, track: npt.NDArray[np.float32]) -> int:
        """Run the detector (C pipeline, TFLM) on a recording and compare every step; returns the steps.

        Raises:
            ParityError: a step differs.
        """
        expected = Detector(self.path).probabilities(samples)
        if len(expected) != len(track):
            raise ParityError(f"{name}: {len(expected)} steps by the detector, {len(track)} by {self.engine}")
        wrong = np.flatnonzero(expected != track)
        if len(wrong):
            step = int(wrong[0])
            raise ParityError(
                f"{name}: step {step} is {track[step]} by {self.engine}, {expected[step]} by the detector; "
                f"{len(wrong)} of {len(track)} steps differ: build the model again"
            )
        return len(track)

    def _steps(self, features: npt.NDArray[np.uint16]) -> Int8Array:
        """(frames, channels) features to (steps, frames_per_step * channels) int8, whole steps only."""
        known = self.manifest
        steps = len(features) // known.frames_per_step
        width = known.frames_per_step * self.frontend.channels
        quantized = quantize(
            features[: steps * known.frames_per_step],
            known.input.multiplier,
            known.input.shift,
            known.input.zero_point,
        )
        return quantized.reshape(steps, width)

    def _simulator(self) -> Callable[[Int8Array], Int8Array]:
        folder = self.path.parent
        if not (folder / "model.json").is_file():
            raise EdgewakeError(
                f"{folder} has no model.json and weights.safetensors for the simulator: add --engine tflm"
            )
        return IntegerModel(DeployedModel.load(folder)).windowed

    def _tflm(self) -> Callable[[Int8Array], Int8Array]:
        model = TflmModel(self._bytes)

        def run(steps: Int8Array) -> Int8Array:
            model.reset()
            return model.run(steps)

        return run
