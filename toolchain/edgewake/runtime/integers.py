"""Every integer and scale of the int8 model, derived from the deploy form alone; all stages share them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewake.errors import EdgewakeError
from edgewake.runtime.deployed import DeployedModel, Layer, Quantization
from edgewake.runtime.fixedpoint import quantize_multiplier

# A bias up to 2^30 leaves as much room again for the sum of products in int32.
BIAS_LIMIT = 2**30
SMALLEST_WEIGHT_SCALE = np.float32(2.0**-100)


@dataclass(frozen=True)
class IntegerLayer:
    """One operator in integers, derived from `layer`; `input` is the quantization of its input.

    Attributes:
        weight: int8, (out, in) for conv1x1, (k, channels) for depthwise; None for avgpool.
        weight_scale: float32 (out,), symmetric per channel.
        bias: int32 (out,), of scale input.scale * weight_scale.
        multiplier: int64 (out,), Q0.31; together with `shift` it rescales the accumulator to the output.
        shift: int64 (out,); positive goes left.
        minimum: smallest output level: the zero point behind a fused ReLU, otherwise -128.
    """

    layer: Layer
    input: Quantization
    weight: npt.NDArray[np.int8] | None = None
    weight_scale: npt.NDArray[np.float32] | None = None
    bias: npt.NDArray[np.int32] | None = None
    multiplier: npt.NDArray[np.int64] | None = None
    shift: npt.NDArray[np.int64] | None = None
    minimum: int = -128

    @property
    def bias_scale(self) -> npt.NDArray[np.float32]:
        """Scale of the bias as files carry it: the float32 product input scale * weight scale, (out,)."""
        assert self.weight_scale is not None
        return (self.input.scale * self.weight_scale).astype(np.float32)


def weight_scale(layer: Layer, input_scale: np.float32) -> npt.NDArray[np.float32]:
    """absmax / 127 per channel in float32, as trained, except for rows that the bias dominates: (out,).

    The bias is int32 with scale input_scale * weight_scale, so a row of (almost) zero weights could not hold
    its bias. Such a row, with |bias| > 2^30 * input_scale * absmax / 127, gets the smallest scale that can;
    its (up to 120) weights then add less than 0.4 % of the bias, and lose 2e-5 of it by rounding. TensorFlow
    Lite's converter adjusts scales for the same reason.
    """
    assert layer.bias is not None
    floor = np.abs(layer.bias.astype(np.float64)) / (float(input_scale) * BIAS_LIMIT)
    floor = np.maximum(np.nextafter(floor.astype(np.float32), np.float32(np.inf)), SMALLEST_WEIGHT_SCALE)
    learned = layer.weight_scale
    return np.maximum(learned, floor).astype(np.float32)


def _weighted(layer: Layer, given: Quantization) -> IntegerLayer:
    assert layer.weight is not None
    assert layer.bias is not None
    scale, axis = weight_scale(layer, given.scale), 1 if layer.kind == "conv1x1" else 0
    # float32 division and rint: what QAT's fake quantizer and the LiteRT quantizer compute.
    per_row = np.expand_dims(scale, axis)
    weight = np.asarray(np.clip(np.rint(layer.weight / per_row), -127, 127), np.int8)
    accumulator_scale = np.float64(given.scale) * scale.astype(np.float64)
    bias = np.rint(layer.bias.astype(np.float64) / accumulator_scale).astype(np.int64)
    pairs = [quantize_multiplier(float(value) / float(layer.output.scale)) for value in accumulator_scale]
    multiplier, shift = (np.array(part, np.int64) for part in zip(*pairs, strict=True))
    # The kernels do not check whether an accumulator leaves int32, they wrap.
    reach = max(127 - given.zero_point, 128 + given.zero_point)
    largest = np.abs(weight.astype(np.int64)).sum(axis=axis) * reach + np.abs(bias)
    worst = int(np.argmax(largest.astype(np.float64) * 2.0 ** np.maximum(shift, 0)))
    bits = math.log2(max(1, int(largest[worst]))) + max(0, int(shift[worst]))
    if bits >= 31:
        raise EdgewakeError(
            f"layer {layer.name}, channel {worst}: the accumulator needs {bits:.1f} bits, int32 has 31; "
            f"its output scale {layer.output.scale:g} is too fine for its inputs: train its range again"
        )
    minimum = layer.output.zero_point if layer.relu else -128
    return IntegerLayer(layer, given, weight, scale, bias.astype(np.int32), multiplier, shift, minimum)


def without_weights(layer: Layer, given: Quantization) -> IntegerLayer:
    """An average pool, whose range is that of its input."""
    if layer.output != given:
        raise EdgewakeError(
            f"layer {layer.name} (average pool) has scale {layer.output.scale:g} and zero point "
            f"{layer.output.zero_point}, its input {given.scale:g} and {given.zero_point}: they must be equal"
        )
    return IntegerLayer(layer, given)


def integer_layers(model: DeployedModel) -> tuple[IntegerLayer, ...]:
    """The whole model in integers; an EdgewakeError where int32 or an operator cannot hold its ranges."""
    ranges = [model.input, *(layer.output for layer in model.layers)]
    pairs = zip(model.layers, ranges, strict=False)
    return tuple((without_weights if layer.weight is None else _weighted)(layer, given) for layer, given in pairs)
