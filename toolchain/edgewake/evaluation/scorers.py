"""What gives probability tracks of whole recordings; the int8 model's are equal to the detector's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from edgewake.config import FrontendConfig
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
        step_s: seconds from one step to the next.
        refractory_steps: see `find_events`.
    """

    frontend: FrontendConfig | None
    step_s: float
    refractory_steps: int

    def score(self, recordings: Sequence[npt.NDArray[Any]]) -> list[Probabilities]:
        """Smoothed probability at every step of each recording, from its own reset: float32, (steps,)."""


class Int8Scorer:
    """The int8 model: (steps, inputs) int8 from reset to (steps,) int8, by `run`.

    Args:
        run: the model.
        to_input: features of a recording, uint16 (frames, channels), as the model's int8 steps.
        frontend: makes the features.
        step_s: seconds from one step to the next.
        window: steps of the smoothing window.
        refractory_steps: see `find_events`.
    """

    def __init__(
        self,
        run: Callable[[Int8Array], Int8Array],
        to_input: Callable[[npt.NDArray[np.uint16]], Int8Array],
        frontend: FrontendConfig,
        *,
        step_s: float,
        window: int,
        refractory_steps: int,
    ) -> None:
        self._run, self._to_input, self._window = run, to_input, window
        self.frontend: FrontendConfig | None = frontend
        self.step_s, self.refractory_steps = step_s, refractory_steps

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

        return cls(
            _simulator(path) if engine == "simulator" else _tflm(tflite),
            to_input,
            frontend,
            step_s=manifest.step_s,
            window=manifest.window,
            refractory_steps=manifest.refractory_steps,
        )

    @classmethod
    def of_deployed(
        cls, model: DeployedModel, frontend: FrontendConfig, *, window: int, refractory_s: float
    ) -> Int8Scorer:
        """A model in the deploy form, in the integer simulator."""
        step_s = model.frames_per_step * frontend.step_ms / 1000
        return cls(
            IntegerModel(model).windowed,
            lambda features: model_input(model, features),
            frontend,
            step_s=step_s,
            window=window,
            refractory_steps=refractory_steps(refractory_s, step_s),
        )

    def score(self, recordings: Sequence[npt.NDArray[Any]]) -> list[Probabilities]:
        """Equal to `Detector.probabilities` of each recording; see `Scorer`."""
        return [probabilities(self._run(self._to_input(features)), self._window) for features in recordings]


def _simulator(path: Path) -> Callable[[Int8Array], Int8Array]:
    folder = find_manifest(path).parent
    if not (folder / "model.json").is_file():
        raise EdgewakeError(f"{folder} has no model.json and weights.safetensors for the simulator: add --engine tflm")
    return IntegerModel(DeployedModel.load(folder)).windowed


def _tflm(tflite: bytes) -> Callable[[Int8Array], Int8Array]:
    model = TflmModel(tflite)

    def run(steps: Int8Array) -> Int8Array:
        model.reset()
        return model.run(steps)

    return run
