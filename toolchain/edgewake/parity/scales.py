"""Scales by tensor name: those that training learned, and those that a .tflite holds, read by other code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from edgewake.runtime.deployed import DeployedModel, Quantization
from edgewake.runtime.integers import integer_layers


@dataclass(frozen=True)
class Scale:
    """Quantization of one tensor, (1,) or one for each channel."""

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]


def learned_scales(model: DeployedModel) -> dict[str, Scale]:
    """What every tensor must have: "features", LAYER, LAYER/weight and LAYER/bias."""
    scales = {"features": _activation(model.input)}
    for numbers in integer_layers(model):
        name = numbers.layer.name
        scales[name] = _activation(numbers.layer.output)
        if numbers.weight_scale is not None:
            zero = np.zeros(1, np.int64)
            scales[f"{name}/weight"] = Scale(numbers.weight_scale, zero)
            scales[f"{name}/bias"] = Scale(numbers.bias_scale, zero)
    return scales


def _activation(value: Quantization) -> Scale:
    return Scale(np.array([value.scale], np.float32), np.array([value.zero_point], np.int64))


def stored_scales(data: bytes) -> dict[str, Scale]:
    """What a .tflite's main graph holds, under the same names.

    Activations go by their own name; weights and biases by the layer whose operator takes them, so that
    it does not matter whether a file names them. Tensors without a scale are left out.
    """
    graph = tflite.Model.GetRootAs(data, 0).Subgraphs(0)
    scales: dict[str, Scale] = {}

    def note(name: str, index: int) -> None:
        given = graph.Tensors(index).Quantization()
        if name and given is not None and given.ScaleLength():
            scales[name] = Scale(_vector(given, "Scale", np.float32), _vector(given, "ZeroPoint", np.int64))

    for index in range(graph.TensorsLength()):
        note((graph.Tensors(index).Name() or b"").decode(), index)
    for place in range(graph.OperatorsLength()):
        operator = graph.Operators(place)
        if operator.OutputsLength() != 1 or operator.InputsLength() != 3:
            continue
        name = (graph.Tensors(operator.Outputs(0)).Name() or b"").decode()
        for position, role in ((1, "weight"), (2, "bias")):
            note(f"{name}/{role}" if name else "", operator.Inputs(position))
    return scales


def _vector(given: Any, field: str, dtype: type[Any]) -> npt.NDArray[Any]:
    length = getattr(given, f"{field}Length")()
    return np.array([getattr(given, field)(index) for index in range(length)], dtype)
