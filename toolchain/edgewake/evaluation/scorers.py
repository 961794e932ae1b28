"""What gives probability tracks of whole recordings; the int8 model's are equal to the detector's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from edgewake.config import FrontendConfig, WakewordConfig
from edgewake.errors import EdgewakeError
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.events import probabilities, refractory_steps
from edgewake.runtime.model_manifest import find_manifest, load_model
from edgewake.runtime.pipeline.quantizer import quantize
from edgewake.runtime.simulator import IntegerModel, model_input
from edgewake.runtime.tflm import TflmModel

# Of a window that slides over audio, s. Clips are rendered with the phrase ending anywhere within 0.37 s
# (`RenderPlan.tail_frames`): of windows this far apart one always has it there, at the least cost.
HOP_S = 0.35

Engine = Literal["simulator", "tflm"]
Int8Array = npt.NDArray[np.int8]
Probabilities = npt.NDArray[np.float32]


class Scorer(Protocol):
    """Gives the probability of the phrase at every step of whole recordings.

    Attributes:
        frontend: recordings are given as its features, uint16 (frames, channels); None: as int16 samples.
        refractory_steps: see `find_events`.
    """

    @property
    def frontend(self) -> FrontendConfig | None: ...

    @property
    def refractory_steps(self) -> int: ...

    def score(self, recordings: Sequence[npt.NDArray[Any]]) -> list[Probabilities]:
        """Smoothed probability at every step of each recording, from its own reset: float32, (steps,)."""


@dataclass(frozen=True)
class Int8Scorer:
    """The int8 model.

    Attributes:
        run: (steps, inputs) int8 from reset to (steps,) int8.
        to_input: features of a recording, uint16 (frames, channels), as the model's int8 steps.
        frontend: makes the features.
        window: steps of the smoothing window.
        refractory_steps: see `find_events`.
    """

    run: Callable[[Int8Array], Int8Array]
    to_input: Callable[[npt.NDArray[np.uint16]], Int8Array]
    frontend: FrontendConfig
    window: int
    refractory_steps: int

    @classmethod
    def of_model(cls, path: Path, engine: Engine = "simulator") -> Int8Scorer:
        """The model of a build or model folder.

        Args:
            path: the folder, or its manifest.json.
            engine: "simulator", the integer model, which needs the deploy form beside the manifest; or
                "tflm", the interpreter, which takes some times longer.

        Raises:
            EdgewakeError: there is no such model, or no deploy form for the simulator.
        """
        manifest, tflite = load_model(path)
        frontend, given = manifest.frontend_config, manifest.input

        def to_input(features: npt.NDArray[np.uint16]) -> Int8Array:
            whole = features[: len(features) // manifest.frames_per_step * manifest.frames_per_step]
            steps = whole.reshape(-1, manifest.frames_per_step * frontend.channels)
            return quantize(steps, given.multiplier, given.shift, given.zero_point)

        run = _simulator(find_manifest(path).parent) if engine == "simulator" else _tflm(tflite)
        return cls(run, to_input, frontend, manifest.window, manifest.refractory_steps)

    @classmethod
    def of_deployed(cls, model: DeployedModel, config: WakewordConfig) -> Int8Scorer:
        """A model in the deploy form, in the integer simulator, with the settings of its run."""
        frontend, evaluation = config.frontend, config.evaluation
        steps = refractory_steps(evaluation.refractory_s, model.frames_per_step * frontend.step_ms / 1000)
        run = IntegerModel(model).windowed
        return cls(run, lambda features: model_input(model, features), frontend, evaluation.window, steps)

    def score(self, recordings: Sequence[npt.NDArray[Any]]) -> list[Probabilities]:
        """Equal to `Detector.probabilities` of each recording; see `Scorer`."""
        return [probabilities(self.run(self.to_input(features)), self.window) for features in recordings]


def _simulator(folder: Path) -> Callable[[Int8Array], Int8Array]:
    if not (folder / "model.json").is_file():
        raise EdgewakeError(f"{folder} has no model.json and weights.safetensors for the simulator: add --engine tflm")
    return IntegerModel(DeployedModel.load(folder)).windowed


def _tflm(tflite: bytes) -> Callable[[Int8Array], Int8Array]:
    model = TflmModel(tflite)

    def run(steps: Int8Array) -> Int8Array:
        model.reset()
        return model.run(steps)

    return run
