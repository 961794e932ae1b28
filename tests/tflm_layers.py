"""Activations of all layers are compared with those that TFLM computes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.streaming import windowed_graph
from edgewake.runtime.tflite_file import write_tflite
from edgewake.runtime.tflm import TflmModel

Int8Array = npt.NDArray[np.int8]


def assert_layers_equal_tflm(model: DeployedModel, features: Int8Array, layers: Mapping[str, Int8Array]) -> None:
    """`layers` by name, (steps, channels) each, are in their last steps those of the windowed model in TFLM."""
    graph = windowed_graph(model, len(features))
    interpreter = TflmModel(write_tflite([graph]), keep_tensors=True)
    interpreter.invoke(features)
    for index, tensor in enumerate(graph.tensors):
        if tensor.name in layers:
            found = interpreter.tensor(index).reshape(tensor.shape)[0, :, 0, :]
            np.testing.assert_array_equal(layers[tensor.name][-len(found) :], found, err_msg=tensor.name)
