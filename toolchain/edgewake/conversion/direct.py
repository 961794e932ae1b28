"""The windowed int8 model, made without any converter from the integers of the deploy form.

This is the file that the chain of torch, onnx2tf and ai-edge-quantizer gives, byte for byte (see chain.py and
docs/conversion.md), and all that a base install needs to build a model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from edgewake.runtime.deployed import DeployedModel, Layer, Quantization
from edgewake.runtime.integers import IntegerLayer, integer_layers
from edgewake.runtime.tflite_file import Affine, Graph, Operator, Tensor, options, write_tflite

Code = tflite.BuiltinOperator
Shape = tuple[int, ...]
OPERATORS = {
    "conv1x1": Code.CONV_2D,
    "depthwise": Code.DEPTHWISE_CONV_2D,
    "avgpool": Code.AVERAGE_POOL_2D,
    "logistic": Code.LOGISTIC,
}
INPUT_NAME = "features"
SPARE_STEPS = 4


def window_steps(model: DeployedModel) -> int:
    """Steps of the windowed model: enough for a few outputs, so that it slides as well as looks back."""
    return model.receptive_field_steps + SPARE_STEPS


def windowed_graph(model: DeployedModel, steps: int | None = None) -> Graph:
    """The int8 graph over S steps (`window_steps`), input [1, S, 1, width], output [1, S - R + 1, 1, 1].

    Raises:
        EdgewakeError: the model has ranges that int8 cannot hold; see `integers.integer_layers`.
    """
    graph = Graph()
    shape: Shape = (1, steps or window_steps(model), 1, model.input_width)
    value = graph.add(_activation(INPUT_NAME, shape, model.input))
    graph.inputs = (value,)
    for numbers in integer_layers(model):
        layer = numbers.layer
        channels = layer.weight.shape[0] if layer.weight is not None and layer.kind == "conv1x1" else shape[3]
        shape = (1, shape[1] - layer.history, 1, channels)
        constants = () if layer.weight is None else (graph.add(_weight(numbers)), graph.add(_bias(numbers)))
        output = graph.add(_activation(layer.name, shape, layer.output))
        operator = Operator(OPERATORS[layer.kind], (value, *constants), (output,), layer_options(layer))
        graph.operators.append(operator)
        value = output
    graph.outputs = (value,)
    return graph


def windowed_tflite(model: DeployedModel) -> bytes:
    """The .tflite of `windowed_graph`."""
    return write_tflite([windowed_graph(model)])


def layer_options(layer: Layer) -> tuple[str, dict[str, Any]] | None:
    """A layer's operator options: valid padding, stride 1, a fused ReLU; everything else is the default."""
    if layer.kind == "logistic":
        return None
    fields: dict[str, Any] = {"Padding": tflite.Padding.VALID, "StrideW": 1, "StrideH": 1}
    if layer.relu:
        fields["FusedActivationFunction"] = tflite.ActivationFunctionType.RELU
    if layer.kind == "avgpool":
        return options("Pool2DOptions", **fields, FilterWidth=1, FilterHeight=layer.window)
    if layer.kind == "depthwise":
        return options("DepthwiseConv2DOptions", **fields, DepthMultiplier=1)
    return options("Conv2DOptions", **fields)


def file_layout(layer: Layer, weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A weight as the .tflite holds it: conv1x1 (out, 1, 1, in), depthwise (1, k, 1, channels)."""
    return weight[:, None, None, :] if layer.kind == "conv1x1" else weight[None, :, None, :]


def _activation(name: str, shape: Shape, value: Quantization) -> Tensor:
    affine = Affine(np.array([value.scale], np.float32), np.array([value.zero_point], np.int64))
    return Tensor(name, shape, tflite.TensorType.INT8, quantization=affine)


def _weight(layer: IntegerLayer) -> Tensor:
    assert layer.weight is not None
    assert layer.weight_scale is not None
    values = np.ascontiguousarray(file_layout(layer.layer, layer.weight))
    axis = 0 if layer.layer.kind == "conv1x1" else 3
    affine = Affine(layer.weight_scale, np.zeros(layer.weight_scale.size, np.int64), axis)
    name = f"{layer.layer.name}/weight"
    return Tensor(name, values.shape, tflite.TensorType.INT8, values.tobytes(), affine)


def _bias(layer: IntegerLayer) -> Tensor:
    assert layer.bias is not None
    affine = Affine(layer.bias_scale, np.zeros(layer.bias.size, np.int64))
    name = f"{layer.layer.name}/bias"
    return Tensor(name, layer.bias.shape, tflite.TensorType.INT32, layer.bias.tobytes(), affine)
