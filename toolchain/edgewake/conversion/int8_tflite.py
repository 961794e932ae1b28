"""Float .tflite -> int8 .tflite whose every scale, zero point and integer is what training learned."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from edgewake.conversion.float_tflite import OPERATORS, file_layout, layer_options
from edgewake.conversion.onnx_export import INPUT_NAME
from edgewake.conversion.record import write_record
from edgewake.errors import EdgewakeError, MissingDependencyError
from edgewake.io import write_bytes
from edgewake.runtime.deployed import DeployedModel, Quantization
from edgewake.runtime.integers import IntegerLayer, integer_layers
from edgewake.runtime.tflite_file import (
    Affine,
    Graph,
    Tensor,
    in_order_of_use,
    read_tflite,
    write_tflite,
)

CalibrationResult = dict[str, dict[str, npt.NDArray[np.float64]]]


@dataclass(frozen=True)
class Pinned:
    """An int8 graph that holds the model's numbers, and what had to change for that.

    Attributes:
        graph: the graph.
        corrected: tensors where the quantizer had other numbers, by name; docs/conversion.md says why.
    """

    graph: Graph
    corrected: list[str]


def to_int8(float_tflite: Path, output: Path, model: DeployedModel) -> Path:
    """Write the int8 .tflite with the learned ranges; input and output are int8 as well.

    ai-edge-quantizer gets the learned ranges as its calibration result, with min and max in float64, from
    which it computes the learned scale exactly. Numbers where it deviates are then set (see `pin`).

    Args:
        float_tflite: what `to_float_tflite` wrote.
        output: the .tflite; a JSON record goes beside it and lists the corrected tensors.
        model: the deploy form.

    Raises:
        MissingDependencyError: ai-edge-quantizer is not installed.
        EdgewakeError: the model has ranges that int8 cannot hold; see `integers.integer_layers`.
    """
    data = Path(float_tflite).read_bytes()
    pinned = pin(read_tflite(quantized(data, learned_ranges(model)))[0], model)
    write_bytes(output, write_tflite([pinned.graph]))
    details = {"tensors": len(pinned.graph.tensors), "corrected": pinned.corrected}
    write_record(output, "int8", {"float": float_tflite}, details, ("ai-edge-quantizer",))
    return output


def learned_ranges(model: DeployedModel) -> CalibrationResult:
    """The learned ranges as ai-edge-quantizer's calibration result, {tensor name: {"min", "max"}}."""
    named = {INPUT_NAME: model.input} | {layer.name: layer.output for layer in model.layers}
    return {
        name: {"min": np.full((1, 1, 1, 1), value.low), "max": np.full((1, 1, 1, 1), value.high)}
        for name, value in named.items()
    }


def quantized(data: bytes, ranges: Mapping[str, Any]) -> bytes:
    """ai-edge-quantizer's static_wi8_ai8 with the given calibration result."""
    quantizer = load_quantizer(data)
    with quietly():
        result = quantizer.quantize(dict(ranges), enable_progress_report=False)
    return bytes(result.quantized_model)


def load_quantizer(data: bytes) -> Any:
    """An ai-edge-quantizer for a float .tflite, with the recipe static_wi8_ai8."""
    try:
        from ai_edge_quantizer import quantizer, recipe
    except ImportError as error:
        raise MissingDependencyError(f"conversion needs {error.name}: pip install 'edgewake[convert]'") from error
    with quietly():
        return quantizer.Quantizer(bytearray(data), recipe.static_wi8_ai8())


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep the LiteRT runtime's greetings on stderr away; what was written is shown when an error passes."""
    with tempfile.TemporaryFile() as log:
        kept = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                yield
        except BaseException:
            os.dup2(kept, 2)
            log.seek(0)
            os.write(2, log.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def pin(graph: Graph, model: DeployedModel) -> Pinned:
    """Set every number of an int8 graph to `model`'s, and name the tensors where it differed.

    Args:
        graph: int8, one operator a layer, activations named by layer.
        model: the deploy form.

    Raises:
        EdgewakeError: the graph is not `model`'s, or is not int8 throughout.
    """
    numbers = integer_layers(model)
    found = [(operator.code, operator.options) for operator in graph.operators]
    if found != [(OPERATORS[layer.kind], layer_options(layer)) for layer in model.layers]:
        names = [operator.name for operator in graph.operators]
        raise EdgewakeError(f"the int8 model is {names}, not one operator a layer; use the pinned versions")
    tensors = list(graph.tensors)
    corrected: list[str] = []

    def put(index: int, tensor: Tensor) -> None:
        if tensors[index].type != tensor.type or tensors[index].shape != tensor.shape:
            raise EdgewakeError(f"tensor {tensor.name} is not quantized as it must; use the pinned versions")
        if not _equal(tensors[index], tensor):
            corrected.append(tensor.name)
        tensors[index] = tensor

    source = tensors[graph.inputs[0]]
    put(graph.inputs[0], _activation(source, INPUT_NAME, model.input))
    for operator, layer in zip(graph.operators, numbers, strict=True):
        name = layer.layer.name
        put(operator.outputs[0], _activation(tensors[operator.outputs[0]], name, layer.layer.output))
        if layer.weight is not None:
            put(operator.inputs[1], _weight(layer))
            put(operator.inputs[2], _bias(layer))
    pinned = Graph(tensors, graph.operators, graph.inputs, graph.outputs)
    return Pinned(in_order_of_use(pinned), corrected)


def _equal(left: Tensor, right: Tensor) -> bool:
    """Equality of all numbers; zero points that are absent or one for all channels count as written out."""
    if left.quantization is None or right.quantization is None:
        return False
    given, wanted = left.quantization, right.quantization
    return (
        left.data == right.data
        and np.array_equal(given.scale, wanted.scale)
        and given.zero_point.size in (1, wanted.zero_point.size)
        and bool((given.zero_point == wanted.zero_point).all())
    )


def _activation(tensor: Tensor, name: str, value: Quantization) -> Tensor:
    affine = Affine(np.array([value.scale], np.float32), np.array([value.zero_point], np.int64))
    return replace(tensor, name=name, type=tflite.TensorType.INT8, quantization=affine)


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
