"""What quantization costs: learned and calibrated ranges, each against the float network."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.conversion.features import model_input
from edgewake.runtime.deployed import DeployedModel, Layer
from edgewake.runtime.events import probabilities, smooth_probabilities
from edgewake.runtime.frontend import FEATURE_SCALE
from edgewake.runtime.simulator import IntegerModel

Float = npt.NDArray[np.float32]


def float_probabilities(model: DeployedModel, features: npt.NDArray[np.uint16]) -> Float:
    """Probability of every step by the float weights, after silence heard for ever.

    Args:
        features: (frames, channels) uint16 from reset.

    Returns:
        (steps,) float32, not smoothed.
    """
    steps = len(features) // model.frames_per_step
    real = features[: steps * model.frames_per_step].astype(np.float32) * np.float32(FEATURE_SCALE)
    value = real.reshape(steps, model.input_width)
    silence = np.zeros((1, model.input_width), np.float32)
    for layer in model.layers:
        value = _apply(layer, np.concatenate([np.repeat(silence, layer.history, axis=0), value]))
        silence = _apply(layer, np.repeat(silence, layer.history + 1, axis=0))
    return value[:, 0]


def _apply(layer: Layer, value: Float) -> Float:
    """One layer, valid in time: (history + steps, in) -> (steps, out)."""
    if layer.kind == "logistic":
        return np.asarray(1 / (1 + np.exp(-value)), np.float32)
    steps = len(value) - layer.history
    taps = [value[tap : tap + steps] for tap in range(layer.history + 1)]
    if layer.kind == "avgpool":
        return np.asarray(np.mean(taps, axis=0), np.float32)
    assert layer.weight is not None
    assert layer.bias is not None
    if layer.kind == "depthwise":
        out = np.sum([tap * weight for tap, weight in zip(taps, layer.weight, strict=True)], axis=0)
    else:
        out = value @ layer.weight.T
    out = out + layer.bias
    return np.asarray(np.maximum(out, 0) if layer.relu else out, np.float32)


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
