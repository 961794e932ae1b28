"""The int8 .tflite of a model, made from its integers: windowed over time, or streaming with its past inside.

The windowed form is what the chain of torch, onnx2tf and ai-edge-quantizer gives (see conversion/chain.py). In the
streaming one each layer that looks back over h steps gets a variable of those h steps of its input. Stepping from
reset gives exactly what the windowed model gives after infinite silence, because CALL_ONCE fills the variables with
the bytes that silence leaves there, not with zeros. `verify` accepts this form alone: TFLM follows offsets, tensor
indices and shapes without bounds, so that a damaged file would end the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from edgewake.errors import EdgewakeError
from edgewake.runtime.deployed import DeployedModel, Kind, Layer, Quantization
from edgewake.runtime.integers import IntegerLayer, integer_layers, without_weights
from edgewake.runtime.simulator import IntegerModel
from edgewake.runtime.tflite_file import Affine, Graph, Operator, Tensor, options, read_tflite, write_tflite

Int8Array = npt.NDArray[np.int8]
Options = tuple[str, dict[str, Any]]
Code = tflite.BuiltinOperator
INPUT_NAME = "features"
OPERATORS: dict[Kind, int] = {
    "conv1x1": Code.CONV_2D,
    "depthwise": Code.DEPTHWISE_CONV_2D,
    "avgpool": Code.AVERAGE_POOL_2D,
}
SPARE_STEPS = 4
TIME_AXIS = 1
INIT_GRAPH = 1
_INT8, _INT32 = tflite.TensorType.INT8, tflite.TensorType.INT32
_TYPE_NAMES = {code: name.lower() for name, code in vars(tflite.TensorType).items() if name.isupper()}
# TFLM shifts an accumulator left by at most 30 bits.
_LARGEST_FACTOR = 2.0**30


def window_steps(model: DeployedModel) -> int:
    """Steps of the windowed model: enough for a few outputs, so that it slides as well as looks back."""
    return model.receptive_field_steps + SPARE_STEPS


def windowed_graph(model: DeployedModel, steps: int | None = None) -> Graph:
    """The int8 graph over S steps (`window_steps`), input [1, S, 1, width], output [1, S - R + 1, 1, 1]."""
    return _graphs(model.input, (1, steps or window_steps(model), 1, model.input_width), integer_layers(model))[0]


def windowed_tflite(model: DeployedModel) -> bytes:
    """The .tflite of `windowed_graph`."""
    return write_tflite([windowed_graph(model)])


def streaming_graphs(model: DeployedModel) -> list[Graph]:
    """Main graph, input [1, 1, 1, width] and output [1, 1, 1, 1], and init graph of the streaming model."""
    layers, silence = integer_layers(model), IntegerModel(model).silence()
    return _graphs(model.input, (1, 1, 1, model.input_width), layers, silence)


def _graphs(
    given: Quantization,
    shape: tuple[int, ...],
    layers: Iterable[IntegerLayer],
    silence: Mapping[str, Int8Array] | None = None,
) -> list[Graph]:
    """The graph of the layers, windowed; with `silence`, the bytes of layers with a history, main and init graph."""
    main, init = Graph(), Graph()
    if silence is not None:
        calling = options("CallOnceOptions", InitSubgraphIndex=INIT_GRAPH)
        main.operators.append(Operator(Code.CALL_ONCE, (), (), calling))
    value = main.add(Tensor(INPUT_NAME, shape, _INT8, quantization=affine(given)))
    main.inputs = (value,)
    for numbers in layers:
        layer, steps = numbers.layer, shape[TIME_AXIS]
        if silence is None:
            steps -= layer.history
        elif layer.history:
            value = _remember(main, init, value, layer.history, silence[layer.name])
        constants = _constants(numbers)
        if silence is not None:
            # Without names, and biases without their scale, which no kernel reads.
            constants = [
                replace(tensor, name="", quantization=None if tensor.type == _INT32 else tensor.quantization)
                for tensor in constants
            ]
        inputs = (value, *map(main.add, constants))
        channels = len(numbers.bias) if numbers.bias is not None else shape[3]
        shape = (1, steps, 1, channels)
        value = main.add(Tensor(layer.name, shape, _INT8, quantization=affine(layer.output)))
        main.operators.append(Operator(OPERATORS[layer.kind], inputs, (value,), _layer_options(layer)))
    main.outputs = (value,)
    return [main, init]


def affine(value: Quantization) -> Affine:
    """A layer's quantization as a .tflite holds it."""
    return Affine(np.array([value.scale], np.float32), np.array([value.zero_point], np.int64))


def _layer_options(layer: Layer) -> Options:
    """Valid padding, stride 1, a fused ReLU; everything else is the default."""
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


def _constants(numbers: IntegerLayer) -> list[Tensor]:
    """Weight and bias."""
    layer, weight, bias, scale = numbers.layer, numbers.weight, numbers.bias, numbers.weight_scale
    if weight is None or bias is None or scale is None:
        return []
    values, zeros = np.ascontiguousarray(file_layout(layer, weight)), np.zeros(scale.size, np.int64)
    weights = Affine(scale, zeros, 0 if layer.kind == "conv1x1" else 3)
    return [
        Tensor(f"{layer.name}/weight", values.shape, _INT8, values.tobytes(), weights),
        Tensor(f"{layer.name}/bias", bias.shape, _INT32, bias.tobytes(), Affine(numbers.bias_scale, zeros)),
    ]


def _remember(main: Graph, init: Graph, value: int, history: int, initial: Int8Array) -> int:
    """Put the past before `value`, keep its latest part for the next step, and return the whole window."""
    step = replace(main.tensors[value], name="")
    channels = step.shape[-1]
    past, whole = (replace(step, shape=(1, steps, 1, channels)) for steps in (history, history + 1))
    shared_name = str(sum(operator.code == Code.VAR_HANDLE for operator in init.operators))

    def run(graph: Graph, code: int, inputs: tuple[int, ...], output: Tensor, given: Options | None = None) -> int:
        outputs = (graph.add(output),)
        graph.operators.append(Operator(code, inputs, outputs, given))
        return outputs[0]

    def handle(graph: Graph) -> int:
        named = options("VarHandleOptions", Container="", SharedName=shared_name)
        return run(graph, Code.VAR_HANDLE, (), Tensor("", (), tflite.TensorType.RESOURCE), named)

    variable = handle(main)
    read = run(main, Code.READ_VARIABLE, (variable,), past)
    window = run(main, Code.CONCATENATION, (read, value), whole, options("ConcatenationOptions", Axis=TIME_AXIS))
    bounds = ((0, 1, 0, 0), (1, history + 1, 1, channels), (1, 1, 1, 1))
    places = (main.add(Tensor("", (4,), _INT32, np.array(bound, np.int32).tobytes())) for bound in bounds)
    # Not SLICE: TFLM copies that byte by byte, and a stride of 1 by rows, a tenth of the cycles.
    latest = run(main, Code.STRIDED_SLICE, (window, *places), past, options("StridedSliceOptions"))
    main.operators.append(Operator(Code.ASSIGN_VARIABLE, (variable, latest), ()))

    constant = init.add(replace(past, data=np.tile(initial, history).astype(np.int8).tobytes()))
    init.operators.append(Operator(Code.ASSIGN_VARIABLE, (handle(init), constant), ()))
    return window


# ---- verification --------------------------------------------------------------------------------


@dataclass(frozen=True)
class StreamingModel:
    """What a verified .tflite takes (`width` int8 features a step) and gives, and how far back it looks.

    Attributes:
        layers: as the file holds them, without multipliers.
        silence: what endless silence leaves in each past step of a layer with a history: {layer name: (in,) int8}.
    """

    width: int
    input: Quantization
    output: Quantization
    receptive_field_steps: int
    layers: tuple[IntegerLayer, ...] = field(repr=False)
    silence: Mapping[str, Int8Array] = field(repr=False)


def verify(data: bytes) -> StreamingModel:
    """Check that a .tflite is a streaming model as edgewake writes it, so that TFLM can run it safely.

    The numbers of its layers are read and checked; then the whole file is written again from them, and must be the
    same to the byte. That covers every offset, vector, index, shape, type and option.

    Raises:
        EdgewakeError: it is damaged, or is another model; one line names which.
    """
    graphs = read_tflite(data)
    try:
        _refuse_foreign(graphs)
        first = graphs[0].tensors[graphs[0].inputs[0]]
        given, shape = _quantization(first), (1, 1, 1, first.shape[-1])
        layers, silence = _read_layers(graphs, given, len(data))
        model = DeployedModel(tuple(numbers.layer for numbers in layers), given, 1, shape[-1]).validate()
        same = write_tflite(_graphs(given, shape, layers, silence)) == data
    except EdgewakeError:
        raise
    except Exception as error:  # Indices and lengths of a damaged file lead anywhere.
        raise EdgewakeError(f"the .tflite is damaged ({type(error).__name__}): build the model again") from error
    if not same:
        raise EdgewakeError("the .tflite is damaged, or edgewake did not write it: build the model again")
    field_steps = model.receptive_field_steps
    return StreamingModel(shape[-1], given, model.output, field_steps, tuple(layers), silence)


def _refuse_foreign(graphs: list[Graph]) -> None:
    """Say what a model of another maker is."""
    main = graphs[0]
    taken, given = main.tensors[main.inputs[0]], main.tensors[main.outputs[0]]
    if (taken.type, given.type) == (_INT8, _INT8) and len(taken.shape) == 4 and len(graphs) == 2:
        return
    form = ", output ".join(f"{_TYPE_NAMES.get(t.type, '?')} {list(t.shape)}" for t in (taken, given))
    if len(taken.shape) == 3 and any(operator.code == Code.VAR_HANDLE for operator in main.operators):
        raise EdgewakeError(
            f"this is a microWakeWord model (input {form}), which edgewake does not run: use pymicro-wakeword or "
            "ESPHome for it, or train one with edgewake"
        )
    raise EdgewakeError(
        f"this is not a streaming model of edgewake (input {form}, {len(main.operators)} operators): "
        "make one with edgewake build"
    )


def _read_layers(
    graphs: list[Graph], given: Quantization, size: int
) -> tuple[list[IntegerLayer], dict[str, Int8Array]]:
    """The layers of a streaming model of `size` bytes, with integers for weights, and its silence states."""
    main, init = graphs
    kinds = {code: kind for kind, code in OPERATORS.items()}
    states = iter([init.tensors[op.inputs[1]] for op in init.operators if op.code == Code.ASSIGN_VARIABLE])
    channels = main.tensors[main.inputs[0]].shape[-1]
    layers: list[IntegerLayer] = []
    silence: dict[str, Int8Array] = {}
    for operator in main.operators:
        if operator.code not in kinds:
            continue
        kind, tensor = kinds[operator.code], main.tensors[operator.outputs[0]]
        fields = operator.options[1] if operator.options is not None else {}
        relu, window = bool(fields.get("FusedActivationFunction")), int(fields.get("FilterHeight", 1))
        layer = Layer(kind, tensor.name, _quantization(tensor), relu=relu, window=window)
        if kind in ("conv1x1", "depthwise"):
            weight, bias = (main.tensors[index] for index in operator.inputs[1:])
            _need((weight.type, bias.type) == (_INT8, _INT32), f"{layer.name} has other constants")
            values = weight.array()[:, 0, 0, :] if kind == "conv1x1" else weight.array()[0, :, 0, :]
            layer = replace(layer, weight=values.astype(np.float32), bias=bias.array().astype(np.float32))
            assert weight.quantization is not None
            scale = weight.quantization.scale
            factors = float(given.scale) * scale.astype(np.float64) / float(layer.output.scale)
            _need(bool(((factors > 0) & (factors < _LARGEST_FACTOR)).all()), f"scales of {layer.name}")
            _need(scale.shape == bias.shape, f"{layer.name} has {len(scale)} scales")
            numbers = IntegerLayer(layer, given, values, scale, bias.array())
        else:
            numbers = without_weights(layer, given)
        _need(0 <= layer.history * channels <= size, f"{layer.name} over {layer.history + 1} steps")
        if layer.history:
            silence[layer.name] = np.frombuffer(next(states).data or b"", np.int8)[:channels]
        channels, given = (channels if numbers.bias is None else len(numbers.bias)), layer.output
        layers.append(numbers)
    return layers, silence


def _quantization(tensor: Tensor) -> Quantization:
    """Of an activation."""
    assert tensor.quantization is not None
    return Quantization(tensor.quantization.scale[0], int(tensor.quantization.zero_point[0]))


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise EdgewakeError(f"the .tflite is damaged: {what}: build the model again")
