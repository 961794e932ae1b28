"""Frontend features as the model's int8 input, by the very integers that the device uses."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edgewake.errors import EdgewakeError
from edgewake.runtime.deployed import DeployedModel, Quantization
from edgewake.runtime.pipeline.quantizer import derive_quantizer, quantize


@lru_cache(maxsize=16)
def _integers(quantization: Quantization) -> tuple[int, int]:
    return derive_quantizer(quantization.scale, quantization.zero_point)


def model_input(model: DeployedModel, features: npt.NDArray[np.uint16]) -> npt.NDArray[np.int8]:
    """Frames as the model's steps: (frames, channels) uint16 -> (frames // frames_per_step, inputs) int8.

    Frames that do not fill a step are dropped, as a device that stops there has not stepped yet.

    Raises:
        EdgewakeError: the number of channels is not the model's.
    """
    if features.ndim != 2 or features.shape[1] != model.channels:
        raise EdgewakeError(f"features of shape {features.shape}: the model takes (frames, {model.channels})")
    steps = len(features) // model.frames_per_step
    whole = features[: steps * model.frames_per_step].reshape(steps, model.input_width)
    return quantize(whole, *_integers(model.input), model.input.zero_point)
