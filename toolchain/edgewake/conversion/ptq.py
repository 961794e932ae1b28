"""Post-training quantization, the baseline to compare with: ranges measured on features after training.

The statistics are those of ai-edge-quantizer's calibration (min and max of each window, averaged with a factor of
0.95 from one window to the next), computed in numpy: no converter is needed, and both give the same scales up to
the order of float32 sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgewake.errors import EdgewakeError
from edgewake.runtime.deployed import DeployedModel, Layer, Quantization
from edgewake.runtime.simulator import float_activations, real_steps
from edgewake.runtime.streaming import INPUT_NAME, window_steps

MOMENTUM = 0.95
# The smallest range that ai-edge-quantizer gives a tensor.
SMALLEST_RANGE = 1e-9


def calibrated(model: DeployedModel, features: Sequence[npt.NDArray[np.uint16]]) -> DeployedModel:
    """The same weights with ranges measured by running the float model on `features`.

    Recordings are (frames, channels) uint16 each; windows of `window_steps` steps are cut from them without overlap.
    """
    steps = window_steps(model)
    ranges: dict[str, npt.NDArray[np.float64]] = {}
    for recording in features:
        values = real_steps(model, recording)
        for start in range(0, len(values) - steps + 1, steps):
            window = values[start : start + steps]
            for name, value in ({INPUT_NAME: window} | float_activations(model, window)).items():
                found = np.array([value.min(), value.max()], np.float64)
                ranges[name] = MOMENTUM * ranges[name] + (1 - MOMENTUM) * found if name in ranges else found
    if not ranges:
        raise EdgewakeError(f"no calibration recording fills a window of {steps} steps; give longer ones")
    given = _quantization(ranges[INPUT_NAME])
    layers: list[Layer] = []
    for layer in model.layers:
        output = _quantization(ranges[layer.name])
        if layer.kind == "avgpool":
            # TFLite's int8 pooling keeps its input's scale.
            output = layers[-1].output if layers else given
        # Audio for calibration need not hold the phrase, and the logit's range decides which cutoffs can be reached.
        layers.append(replace(layer, output=layer.output if layer is model.layers[-1] else output))
    return replace(model, layers=tuple(layers), input=given)


def _quantization(span: npt.NDArray[np.float64]) -> Quantization:
    """Asymmetric int8 over a range that includes 0 (Jacob et al. 2018, arXiv:1712.05877)."""
    low, high = min(float(span[0]), 0.0), max(float(span[1]), 0.0)
    scale = max(high - low, SMALLEST_RANGE) / 255
    return Quantization(np.float32(scale), int(np.rint(-128 - low / scale)))
