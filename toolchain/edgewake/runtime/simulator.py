"""The network in numpy: `IntegerModel` gives the bytes that TFLM gives, from reset, for recordings of any length.

`float_activations` is the float network of the same weights: what calibration and the cost of quantization need.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edgewake.errors import EdgewakeError
from edgewake.runtime.deployed import DeployedModel, Layer, Quantization
from edgewake.runtime.fixedpoint import logistic_table
from edgewake.runtime.frontend import FEATURE_SCALE
from edgewake.runtime.integers import IntegerLayer, integer_layers
from edgewake.runtime.pipeline.quantizer import derive_quantizer, quantize

Int8Array = npt.NDArray[np.int8]

# Steps computed at once: large enough for BLAS, small enough that a block of int64 stays in the cache.
BLOCK_STEPS = 512
# float32 holds every integer up to 2^24, and |weight * input| <= 127 * 128.
FLOAT32_EXACT_INPUTS = 2**24 // (127 * 128)


class _Operator:
    """One layer over a block: (history + steps, in) int8 -> (steps, out) int8."""

    def __init__(self, numbers: IntegerLayer) -> None:
        self.numbers = numbers
        self.kind, self.history = numbers.layer.kind, numbers.layer.history
        self.window = numbers.layer.window
        if self.kind == "logistic":
            self.table = logistic_table(numbers.input.scale, numbers.input.zero_point)
        if numbers.weight is not None:
            self._prepare_sums(numbers.weight)
            self._prepare_rescaling()

    def _prepare_sums(self, weight: Int8Array) -> None:
        """The input's zero point goes into the bias, so that sums run over the raw bytes."""
        assert self.numbers.bias is not None
        axis = 1 if self.kind == "conv1x1" else 0
        exact = np.float32 if weight.shape[axis] <= FLOAT32_EXACT_INPUTS else np.float64
        self.weight = np.ascontiguousarray(weight.T if axis else weight, exact)
        offset = weight.astype(np.int64).sum(axis=axis) * self.numbers.input.zero_point
        self.bias = self.numbers.bias.astype(np.int64) - offset

    def _prepare_rescaling(self) -> None:
        assert self.numbers.multiplier is not None
        assert self.numbers.shift is not None
        self.multiplier = self.numbers.multiplier
        self.left = np.maximum(self.numbers.shift, 0) if (self.numbers.shift > 0).any() else None
        self.right = np.maximum(-self.numbers.shift, 0)
        self.half = (np.int64(1) << self.right) >> 1
        self.zero_point = self.numbers.layer.output.zero_point
        # Where a ReLU clips at the zero point, the tie-break of negative values cannot reach the output.
        self.ties = None if self.numbers.layer.relu else (self.half > 0).astype(np.int64)

    def __call__(self, value: Int8Array) -> Int8Array:
        if self.kind == "logistic":
            return self.table[value.astype(np.int16) + 128]
        if self.kind == "avgpool":
            return self._average(value)
        sums = self._pointwise(value) if self.kind == "conv1x1" else self._depthwise(value)
        return self._rescale(sums.astype(np.int64))

    def _pointwise(self, value: Int8Array) -> npt.NDArray[np.floating]:
        return np.asarray(value.astype(self.weight.dtype) @ self.weight)

    def _depthwise(self, value: Int8Array) -> npt.NDArray[np.floating]:
        raw = value.astype(self.weight.dtype)
        steps = len(raw) - self.history
        total = raw[:steps] * self.weight[0]
        scratch = np.empty_like(total)
        for tap in range(1, self.history + 1):
            total += np.multiply(raw[tap : tap + steps], self.weight[tap], out=scratch)
        return np.asarray(total)

    def _rescale(self, total: npt.NDArray[np.int64]) -> Int8Array:
        """The two roundings of `fixedpoint.multiply_by_quantized_multiplier`, in place, by columns."""
        total += self.bias
        if self.left is not None:
            total <<= self.left
        total *= self.multiplier
        total += 1 << 30
        total >>= 31
        if self.ties is not None:
            total -= (total < 0) * self.ties
        total += self.half
        total >>= self.right
        total += self.zero_point
        return np.clip(total, self.numbers.minimum, 127, out=total).astype(np.int8)

    def _average(self, value: Int8Array) -> Int8Array:
        """Mean over the window, halves away from zero."""
        steps = len(value) - self.history
        total = np.zeros((steps, value.shape[1]), np.int32)
        for tap in range(self.window):
            total += value[tap : tap + steps]
        magnitude = (np.abs(total) + self.window // 2) // self.window
        return np.where(total > 0, magnitude, -magnitude).astype(np.int8)


Float = npt.NDArray[np.float32]


def model_input(model: DeployedModel, features: npt.NDArray[np.uint16]) -> Int8Array:
    """Frames as the model's int8 steps: (frames, channels) uint16 -> (frames // frames_per_step, inputs) int8.

    Frames that do not fill a step are dropped, as a device that stops there has not stepped yet. Quantized by
    the integers that the device uses.

    Raises:
        EdgewakeError: the number of channels is not the model's.
    """
    multiplier, shift = _input_quantizer(model.input)
    return quantize(_whole_steps(model, features), multiplier, shift, model.input.zero_point)


def real_steps(model: DeployedModel, features: npt.NDArray[np.uint16]) -> Float:
    """Frames as real values by steps: (frames, channels) uint16 -> (frames // frames_per_step, inputs)."""
    return _whole_steps(model, features).astype(np.float32) * np.float32(FEATURE_SCALE)


def _whole_steps(model: DeployedModel, features: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    if features.ndim != 2 or features.shape[1] != model.channels:
        raise EdgewakeError(f"features of shape {features.shape}: the model takes (frames, {model.channels})")
    steps = len(features) // model.frames_per_step
    return features[: steps * model.frames_per_step].reshape(steps, model.input_width)


@lru_cache(maxsize=16)
def _input_quantizer(quantization: Quantization) -> tuple[int, int]:
    return derive_quantizer(quantization.scale, quantization.zero_point)


def float_activations(model: DeployedModel, value: Float) -> dict[str, Float]:
    """Output of every layer in floating point, valid in time: {layer name: (steps - history so far, channels)}.

    Args:
        model: the deploy form; its weights count, its quantization does not.
        value: (steps, inputs) real features; see `real_steps`.
    """
    outputs = {}
    for layer in model.layers:
        value = _float_layer(layer, value)
        outputs[layer.name] = value
    return outputs


def float_probabilities(model: DeployedModel, features: npt.NDArray[np.uint16]) -> Float:
    """Probability of every step from reset by the float weights: (frames, channels) uint16 -> (steps,)."""
    silence = np.zeros((model.receptive_field_steps - 1, model.input_width), np.float32)
    value = np.concatenate([silence, real_steps(model, features)])
    return float_activations(model, value)[model.layers[-1].name][:, 0]


def _float_layer(layer: Layer, value: Float) -> Float:
    if layer.kind == "logistic":
        return np.asarray(1 / (1 + np.exp(-value)), np.float32)
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
    """The int8 network in integers; streaming from reset and `windowed` give the same bytes.

    Before the first step, the input was silence (features of real value 0) for infinite time, as in the .tflite.

    Args:
        deployed: the deploy form.

    Raises:
        EdgewakeError: the model has ranges that int8 kernels cannot compute; see `integers.integer_layers`.
    """

    def __init__(self, deployed: DeployedModel) -> None:
        self.deployed = deployed
        self._operators = [_Operator(numbers) for numbers in integer_layers(deployed)]
        self._silence = self._constant_inputs(np.int8(deployed.input.zero_point))
        self._state = self._initial_state()

    @property
    def layer_names(self) -> list[str]:
        """Names of the activations, in order."""
        return [operator.numbers.layer.name for operator in self._operators]

    def silence(self) -> dict[str, Int8Array]:
        """What every layer with a history holds in each past step after reset: {layer name: (in,) int8}."""
        pairs = zip(self._operators, self._silence, strict=True)
        return {operator.numbers.layer.name: value for operator, value in pairs if operator.history}

    def windowed(self, features: Int8Array) -> Int8Array:
        """Probability of every step, streaming from reset: (steps, inputs) int8 -> (steps,) int8.

        Leaves the state of `step` alone. Raises EdgewakeError for another shape or type.
        """
        features = self._checked(features)
        output = np.empty(len(features), np.int8)
        for place, values in self._blocks(features):
            output[place] = values[-1][:, 0]
        return output

    def activations(self, features: Int8Array) -> dict[str, Int8Array]:
        """Output of every layer at every step: {layer name: (steps, channels) int8}."""
        features = self._checked(features)
        parts = [values for _, values in self._blocks(features)]
        if not parts:
            return {}
        stacked = (np.concatenate(column) for column in zip(*parts, strict=True))
        return dict(zip(self.layer_names, stacked, strict=True))

    def step(self, features: Int8Array) -> int:
        """Probability of the next step: (inputs,) int8 -> -128..127. Raises EdgewakeError for others."""
        value = self._checked(np.asarray(features)[None])
        return int(self._advance(value, self._state)[-1][0, 0])

    def reset(self) -> None:
        """Set the state to that after infinite silence."""
        self._state = self._initial_state()

    def _checked(self, features: Int8Array) -> Int8Array:
        width = self.deployed.input_width
        if features.ndim != 2 or features.shape[1] != width or features.dtype != np.int8:
            raise EdgewakeError(
                f"features of shape {features.shape}, {features.dtype}: the model takes (steps, {width}) int8"
            )
        return features

    def _constant_inputs(self, level: np.int8) -> list[Int8Array]:
        value = np.full(self.deployed.input_width, level, np.int8)
        inputs = []
        for operator in self._operators:
            inputs.append(value)
            value = operator(np.repeat(value[None], operator.history + 1, axis=0))[0]
        return inputs

    def _initial_state(self) -> list[Int8Array]:
        pairs = zip(self._operators, self._silence, strict=True)
        return [np.repeat(value[None], operator.history, axis=0) for operator, value in pairs]

    def _blocks(self, features: Int8Array) -> Iterator[tuple[slice, list[Int8Array]]]:
        state = self._initial_state()
        for start in range(0, len(features), BLOCK_STEPS):
            place = slice(start, min(start + BLOCK_STEPS, len(features)))
            yield place, self._advance(features[place], state)

    def _advance(self, value: Int8Array, state: list[Int8Array]) -> list[Int8Array]:
        """Outputs of all layers for a block of steps; `state` moves on by the block."""
        outputs = []
        for index, operator in enumerate(self._operators):
            if operator.history:
                value = np.concatenate([state[index], value])
                state[index] = value[len(value) - operator.history :]
            value = operator(value)
            outputs.append(value)
        return outputs
