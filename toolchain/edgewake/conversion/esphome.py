"""The streaming model as ESPHome takes it: the same weights and ranges, its feature scale, and a uint8 probability.

Around the operators that `streaming_graphs` writes there is a RESHAPE of frames to one step, and LOGISTIC, RESHAPE and
QUANTIZE from the logit to uint8 [1, 1].
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import tflite

from edgewake.runtime.deployed import DeployedModel, Quantization
from edgewake.runtime.streaming import affine, streaming_graphs
from edgewake.runtime.tflite_file import Affine, Graph, Operator, Tensor, write_tflite
from edgewake.runtime.tflm import TflmModel
from edgewake.targets.esphome import FEATURES, ONE

Code = tflite.BuiltinOperator
Type = tflite.TensorType
# What LOGISTIC's int8 output must have in TFLM.
PROBABILITY = Quantization(np.float32(1 / ONE), -128)


def for_esphome(model: DeployedModel) -> DeployedModel:
    """The model for features as ESPHome quantizes them; of its integers those of the first layer change."""
    return replace(model, input=FEATURES)


def variant(model: DeployedModel) -> bytes:
    """The .tflite of `for_esphome(model)`: int8 [1, frames_per_step, channels] in, uint8 [1, 1] out."""
    main, init = streaming_graphs(for_esphome(model))
    (step,), (logit,) = main.inputs, main.outputs
    given = Tensor("frames", (1, model.frames_per_step, model.channels), Type.INT8, quantization=affine(FEATURES))
    main.inputs = (main.add(given),)
    # Behind CALL_ONCE.
    main.operators.insert(1, _reshape(main, main.inputs[0], step))
    _probability(main, logit)
    return write_tflite([main, init])


def _probability(graph: Graph, logit: int) -> None:
    """From the int8 logit to the uint8 probability: int8 and uint8 have one scale, so that QUANTIZE adds 128."""
    quantization = affine(PROBABILITY)
    shape = graph.tensors[logit].shape
    values = np.prod(shape, dtype=int)
    value = graph.add(Tensor("probability", shape, Type.INT8, quantization=quantization))
    flat = graph.add(Tensor("", (1, values), Type.INT8, quantization=quantization))
    unsigned = Affine(quantization.scale, quantization.zero_point + 128)
    output = graph.add(Tensor("output", (1, values), Type.UINT8, quantization=unsigned))
    graph.operators += [
        Operator(Code.LOGISTIC, (logit,), (value,)),
        _reshape(graph, value, flat),
        Operator(Code.QUANTIZE, (flat,), (output,)),
    ]
    graph.outputs = (output,)


def _reshape(graph: Graph, given: int, output: int) -> Operator:
    shape = np.array(graph.tensors[output].shape, np.int32)
    return Operator(Code.RESHAPE, (given, graph.add(Tensor("", shape.shape, Type.INT32, shape.tobytes()))), (output,))


@lru_cache(maxsize=16)
def probability_bytes(output: Quantization) -> npt.NDArray[np.uint8]:
    """What TFLM's LOGISTIC, + 128, gives for each int8 logit of a quantization: (256,), indexed by logit + 128."""
    graph = Graph()
    graph.inputs = (graph.add(Tensor("logit", (1, 256), Type.INT8, quantization=affine(output))),)
    value = graph.add(Tensor("probability", (1, 256), Type.INT8, quantization=affine(PROBABILITY)))
    graph.operators, graph.outputs = [Operator(Code.LOGISTIC, graph.inputs, (value,))], (value,)
    found = TflmModel(write_tflite([graph])).invoke(np.arange(-128, 128).astype(np.int8))
    return (found.astype(np.int16) + 128).astype(np.uint8)
