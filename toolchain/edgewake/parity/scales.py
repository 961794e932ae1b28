"""Scales by tensor name: those that training learned, and those that a .tflite holds, read by other code."""

from __future__ import annotations

from typing import Any

import numpy as np
import tflite

from edgewake.runtime.deployed import DeployedModel, Quantization
from edgewake.runtime.integers import integer_layers
from edgewake.runtime.tflite_file import Affine


def learned_scales(model: DeployedModel) -> dict[str, Affine]:
    """What every tensor must have: "features", LAYER, LAYER/weight and LAYER/bias."""
    scales, zero = {"features": _activation(model.input)}, np.zeros(1, np.int64)
    for numbers in integer_layers(model):
        name = numbers.layer.name
        scales[name] = _activation(numbers.layer.output)
        if numbers.weight_scale is not None:
            scales[f"{name}/weight"] = Affine(numbers.weight_scale, zero)
            scales[f"{name}/bias"] = Affine(numbers.bias_scale, zero)
    return scales


def _activation(value: Quantization) -> Affine:
    return Affine(np.array([value.scale], np.float32), np.array([value.zero_point], np.int64))


def stored_scales(data: bytes) -> dict[str, Affine]:
    """What a .tflite's main graph holds, under the same names.

    Activations go by their own name; weights and biases by the layer whose operator takes them, so that
    it does not matter whether a file names them. Tensors without a scale are left out.
    """
    graph = tflite.Model.GetRootAs(data, 0).Subgraphs(0)
    tensors = [graph.Tensors(index) for index in range(graph.TensorsLength())]
    names: list[tuple[str, Any]] = [((tensor.Name() or b"").decode(), tensor) for tensor in tensors]
    for place in range(graph.OperatorsLength()):
        operator = graph.Operators(place)
        if operator.OutputsLength() == 1 and operator.InputsLength() == 3:
            layer = names[operator.Outputs(0)][0]
            roles = (f"{layer}/weight", f"{layer}/bias") if layer else ("", "")
            names += [(role, tensors[operator.Inputs(position)]) for position, role in enumerate(roles, 1)]
    return {
        name: Affine(given.ScaleAsNumpy(), np.array([given.ZeroPoint(i) for i in range(given.ZeroPointLength())]))
        for name, tensor in names
        if name and (given := tensor.Quantization()) is not None and given.ScaleLength()
    }
