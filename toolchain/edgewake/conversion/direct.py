"""The windowed int8 model built without any converter: byte for byte the one that the whole chain makes.

With only the base install, parity can then be climbed on a built model; and a test that compares both files
proves that torch, onnx2tf and ai-edge-quantizer added nothing.
"""

from __future__ import annotations

import tflite

from edgewake.conversion.float_tflite import OPERATORS, file_layout, layer_options
from edgewake.conversion.int8_tflite import pin
from edgewake.conversion.onnx_export import INPUT_NAME
from edgewake.runtime.deployed import DeployedModel, Layer
from edgewake.runtime.tflite_file import Graph, Operator, Tensor, write_tflite


def windowed_graph(model: DeployedModel, steps: int) -> Graph:
    """The int8 graph over `steps` steps, input [1, steps, 1, width], output [1, steps - R + 1, 1, 1].

    Raises:
        EdgewakeError: the model has ranges that int8 cannot hold; see `integers.integer_layers`.
    """
    graph = Graph()
    shape: tuple[int, ...] = (1, steps, 1, model.input_width)
    value = graph.add(Tensor(INPUT_NAME, shape, tflite.TensorType.INT8))
    graph.inputs = (value,)
    for layer in model.layers:
        channels = layer.weight.shape[0] if layer.weight is not None and layer.kind == "conv1x1" else shape[3]
        shape = (1, shape[1] - layer.history, 1, channels)
        constants = _constants(graph, layer)
        output = graph.add(Tensor(layer.name, shape, tflite.TensorType.INT8))
        operator = Operator(OPERATORS[layer.kind], (value, *constants), (output,), layer_options(layer))
        graph.operators.append(operator)
        value = output
    graph.outputs = (value,)
    return pin(graph, model).graph


def windowed_tflite(model: DeployedModel, steps: int) -> bytes:
    """The .tflite of `windowed_graph`."""
    return write_tflite([windowed_graph(model, steps)])


def _constants(graph: Graph, layer: Layer) -> tuple[int, ...]:
    """Places for weight and bias; `pin` fills them."""
    if layer.weight is None or layer.bias is None:
        return ()
    shape = file_layout(layer, layer.weight).shape
    weight = graph.add(Tensor(f"{layer.name}/weight", shape, tflite.TensorType.INT8))
    bias = graph.add(Tensor(f"{layer.name}/bias", layer.bias.shape, tflite.TensorType.INT32))
    return weight, bias
