"""What quantization costs: learned and calibrated ranges, each against the float network."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.events import probabilities, smooth_probabilities
from edgewake.runtime.simulator import IntegerModel, float_probabilities, model_input


def cost_of_quantization(
    name: str, model: DeployedModel, features: npt.NDArray[np.uint16], model_bytes: int
) -> dict[str, Any]:
    """Compare int8 with float on smoothed probabilities.

    Args:
        name: "qat" or "ptq".
        model: with the ranges that are judged.
        features: (frames, channels) uint16.
        model_bytes: size of the .tflite.

    Returns:
        name, bytes, steps, mean and largest absolute difference of smoothed probability, and `decisions`, the
        steps on another side of the cutoff.
    """
    window = int(model.info["window"])
    cutoff = np.float32(int(model.info["cutoff_sum"]) / (256 * window))
    outputs = IntegerModel(model).windowed(model_input(model, features))
    quantized = probabilities(outputs, window)
    exact = smooth_probabilities(float_probabilities(model, features), window)
    difference = np.abs(quantized - exact)
    return {
        "name": name,
        "bytes": model_bytes,
        "steps": len(difference),
        "mean": float(difference.mean()),
        "largest": float(difference.max()),
        "decisions": int(((quantized >= cutoff) != (exact >= cutoff)).sum()),
    }
