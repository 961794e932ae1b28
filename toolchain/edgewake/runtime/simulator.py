"""The network in numpy: `IntegerModel` gives the bytes that TFLM gives, from reset, for recordings of any length.

`float_activations` is the float network of the same weights: what calibration and the cost of quantization need.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edgewake.errors import EdgewakeError
from edgewake.runtime.deployed import DeployedModel, Layer
from edgewake.runtime.fixedpoint import multiply_by_quantized_multiplier
from edgewake.runtime.frontend import FEATURE_SCALE
from edgewake.runtime.integers import IntegerLayer, integer_layers
from edgewake.runtime.pipeline.params import derive_quantizer, quantize

Int8Array = npt.NDArray[np.int8]
Float = npt.NDArray[np.float32]

# Steps computed at once: large enough for BLAS, small enough that a block of int64 stays in the cache.
BLOCK_STEPS = 512
# float32 holds every integer up to 2^24, and |weight * input| <= 127 * 128.
FLOAT32_EXACT_INPUTS = 2**24 // (127 * 128)


class _Operator:
    """One layer over a block: (history + steps, in) int8 -> (steps, out) int8."""

    def __init__(self, numbers: IntegerLayer) -> None:
        self.numbers, self.layer, self.history = numbers, numbers.layer, numbers.layer.history
        if numbers.weight is None or numbers.bias is None:
            return
        axis = 1 if self.layer.kind == "conv1x1" else 0
        exact = np.float32 if numbers.weight.shape[axis] <= FLOAT32_EXACT_INPUTS else np.float64
        self.weight = np.ascontiguousarray(numbers.weight.T if axis else numbers.weight, exact)
        # The input's zero point goes into the bias, so that sums run over the raw bytes.
        self.bias = numbers.bias - numbers.weight.astype(np.int64).sum(axis=axis) * numbers.input.zero_point

    def __call__(self, value: Int8Array) -> Int8Array:
        steps = len(value) - self.history
        if self.layer.kind == "avgpool":
            total = sum(value[tap : tap + steps].astype(np.int32) for tap in range(self.layer.window))
            # The mean, halves away from zero.
            magnitude = (np.abs(total) + self.layer.window // 2) // self.layer.window
            return np.where(total > 0, magnitude, -magnitude).astype(np.int8)
        raw = value.astype(self.weight.dtype)
        if self.layer.kind == "conv1x1":
            sums = raw @ self.weight
        else:
            sums = sum(raw[tap : tap + steps] * weight for tap, weight in enumerate(self.weight))
        numbers = self.numbers
        assert numbers.multiplier is not None
        assert numbers.shift is not None
        scaled = multiply_by_quantized_multiplier(sums.astype(np.int64) + self.bias, numbers.multiplier, numbers.shift)
        return np.clip(scaled + self.layer.output.zero_point, numbers.minimum, 127).astype(np.int8)


def model_input(model: DeployedModel, features: npt.NDArray[np.uint16]) -> Int8Array:
    """Frames as the model's int8 steps: (frames, channels) uint16 -> (frames // frames_per_step, inputs) int8.

    Quantized by the integers that the device uses; frames that do not fill a step are dropped.
    """
    given = model.input
    return quantize(_whole_steps(model, features), *_input_quantizer(given.scale, given.zero_point), given.zero_point)


def real_steps(model: DeployedModel, features: npt.NDArray[np.uint16]) -> Float:
    """Frames as real values by steps: (frames, channels) uint16 -> (frames // frames_per_step, inputs)."""
    return _whole_steps(model, features).astype(np.float32) * np.float32(FEATURE_SCALE)


def _whole_steps(model: DeployedModel, features: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    if features.ndim != 2 or features.shape[1] != model.channels:
        raise EdgewakeError(f"features of shape {features.shape}: the model takes (frames, {model.channels})")
    steps = len(features) // model.frames_per_step
    return features[: steps * model.frames_per_step].reshape(steps, model.input_width)


_input_quantizer = lru_cache(maxsize=16)(derive_quantizer)


def float_activations(model: DeployedModel, value: Float) -> dict[str, Float]:
    """Output of every layer in floating point, valid in time: {layer name: (steps - history so far, channels)}.

    The model's weights count, its quantization does not; `value` holds real features, (steps, inputs).
    """
    outputs = {}
    for layer in model.layers:
        outputs[layer.name] = value = _float_layer(layer, value)
    return outputs


def float_probabilities(model: DeployedModel, features: npt.NDArray[np.uint16]) -> Float:
    """Probability of every step from reset by the float weights: (frames, channels) uint16 -> (steps,)."""
    silence = np.zeros((model.receptive_field_steps - 1, model.input_width), np.float32)
    value = np.concatenate([silence, real_steps(model, features)])
    logit = float_activations(model, value)[model.layers[-1].name][:, 0]
    return np.asarray(1 / (1 + np.exp(-logit)), np.float32)


def _float_layer(layer: Layer, value: Float) -> Float:
    steps = len(value) - layer.history
    taps = [value[tap : tap + steps] for tap in range(layer.history + 1)]
    if layer.kind == "avgpool":
        return np.asarray(np.mean(taps, axis=0), np.float32)
    assert layer.weight is not None
    assert layer.bias is not None
    if layer.kind == "depthwise":
        value = np.asarray(sum(tap * weight for tap, weight in zip(taps, layer.weight, strict=True)), np.float32)
    else:
        value = value @ layer.weight.T
    value = value + layer.bias
    return np.maximum(value, 0) if layer.relu else value


class IntegerModel:
    """The int8 network in integers (see `integers.integer_layers`); `step` and `windowed` give the same bytes.

    Before the first step, the input was silence (features of real value 0) for infinite time, as in the .tflite.
    """

    def __init__(self, deployed: DeployedModel) -> None:
        self.deployed = deployed
        self._operators = {numbers.layer.name: _Operator(numbers) for numbers in integer_layers(deployed)}
        # What each layer takes in each past step after reset, (in,) int8.
        self._silence: dict[str, Int8Array] = {}
        value = np.full(deployed.input_width, deployed.input.zero_point, np.int8)
        for name, operator in self._operators.items():
            self._silence[name] = value
            value = operator(np.repeat(value[None], operator.history + 1, axis=0))[0]
        self.reset()

    def silence(self) -> dict[str, Int8Array]:
        """What every layer with a history holds in each past step after reset: {layer name: (in,) int8}."""
        return {name: value for name, value in self._silence.items() if self._operators[name].history}

    def windowed(self, features: Int8Array) -> Int8Array:
        """Logit of every step from reset, apart from `step`: (steps, inputs) int8 -> (steps,) int8."""
        output = [list(values.values())[-1][:, 0] for values in self._blocks(features)]
        return np.concatenate(output) if output else np.zeros(0, np.int8)

    def activations(self, features: Int8Array) -> dict[str, Int8Array]:
        """Output of every layer at every step: {layer name: (steps, channels) int8}; empty without steps."""
        blocks = list(self._blocks(features))
        return {name: np.concatenate([block[name] for block in blocks]) for name in self._operators if blocks}

    def step(self, features: Int8Array) -> int:
        """Logit of the next step: (inputs,) int8 -> -128..127. Raises EdgewakeError for others."""
        (values,) = self._blocks(np.asarray(features)[None], self._state)
        return int(list(values.values())[-1][0, 0])

    def reset(self) -> None:
        """Set the state to that after infinite silence."""
        self._state = self._initial_state()

    def _initial_state(self) -> dict[str, Int8Array]:
        return {
            name: np.repeat(value[None], self._operators[name].history, axis=0) for name, value in self._silence.items()
        }

    def _blocks(self, features: Int8Array, state: dict[str, Int8Array] | None = None) -> Iterator[dict[str, Int8Array]]:
        """Outputs of all layers, a block of steps at a time; `state`, by default that of reset, moves on."""
        width = self.deployed.input_width
        if features.ndim != 2 or features.shape[1] != width or features.dtype != np.int8:
            raise EdgewakeError(
                f"features of shape {features.shape}, {features.dtype}: the model takes (steps, {width}) int8"
            )
        state = self._initial_state() if state is None else state
        for start in range(0, len(features), BLOCK_STEPS):
            value = features[start : start + BLOCK_STEPS]
            outputs = {}
            for name, operator in self._operators.items():
                if operator.history:
                    value = np.concatenate([state[name], value])
                    state[name] = value[len(value) - operator.history :]
                outputs[name] = value = operator(value)
            yield outputs
