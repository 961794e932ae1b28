"""The streaming .tflite: one step in, one probability out, and every past step that it needs kept inside.

Each operator that looks back over h steps gets a variable of those h steps of its input. Stepping from reset
gives exactly what the windowed model gives after infinite silence, because CALL_ONCE fills the variables with
the bytes that silence leaves there, not with zeros. `verify` accepts this form alone: TFLM follows offsets, tensor
indices and shapes without bounds, so that a damaged file would end the process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from edgewake.errors import EdgewakeError
from edgewake.runtime.deployed import LOGISTIC_SCALE, LOGISTIC_ZERO_POINT, Quantization
from edgewake.runtime.fixedpoint import LOGISTIC_SHIFT_RANGE
from edgewake.runtime.tflite_file import Affine, Graph, Operator, Tensor, options, read_tflite, write_tflite

Int8Array = npt.NDArray[np.int8]
Options = tuple[str, dict[str, Any]]
Code = tflite.BuiltinOperator
TIME_AXIS = 1
INIT_GRAPH = 1
_INT8, _INT32 = tflite.TensorType.INT8, tflite.TensorType.INT32
_LAYERS = (Code.CONV_2D, Code.DEPTHWISE_CONV_2D, Code.AVERAGE_POOL_2D, Code.LOGISTIC)
_TYPE_NAMES = {code: name.lower() for name, code in vars(tflite.TensorType).items() if name.isupper()}
# TFLM shifts an accumulator left by at most 30 bits.
_LARGEST_FACTOR = 2.0**30


def streaming_graphs(windowed: Graph, silence: Mapping[str, Int8Array]) -> list[Graph]:
    """Main graph and init graph of the streaming model.

    Args:
        windowed: int8 graph over time, whose operators follow one another and whose tensors are named.
        silence: bytes (channels,) of the input of every layer with a history, after infinite silence.

    Raises:
        EdgewakeError: an operator has no streaming form; it is named with its layer.
    """
    main, init = Graph(), Graph()
    main.operators.append(Operator(Code.CALL_ONCE, (), (), options("CallOnceOptions", InitSubgraphIndex=INIT_GRAPH)))
    value = main.add(_one_step(windowed.tensors[windowed.inputs[0]]))
    main.inputs = (value,)
    for operator in windowed.operators:
        output = _one_step(windowed.tensors[operator.outputs[0]])
        constants = [windowed.tensors[index] for index in operator.inputs[1:]]
        history = _history(operator, constants, output.name)
        if history:
            channels = main.tensors[value].shape[-1]
            initial = silence.get(output.name)
            if initial is None or initial.shape != (channels,):
                raise EdgewakeError(
                    f"layer {output.name} needs its silence state of {channels} channels, none is given"
                )
            value = _remember(main, init, value, history, initial)
        # Without names, and biases without their quantization, input scale * weight scale, which no kernel reads.
        lean = [
            replace(tensor, name="", quantization=None if tensor.type == _INT32 else tensor.quantization)
            for tensor in constants
        ]
        inputs = (value, *map(main.add, lean))
        value = main.add(output)
        main.operators.append(replace(operator, inputs=inputs, outputs=(value,)))
    main.outputs = (value,)
    return [main, init]


def _one_step(tensor: Tensor) -> Tensor:
    return replace(tensor, shape=(1, 1, 1, tensor.shape[-1]))


def _history(operator: Operator, constants: list[Tensor], name: str) -> int:
    """Past steps that an operator looks at."""
    if operator.code in (Code.CONV_2D, Code.DEPTHWISE_CONV_2D):
        return constants[0].shape[TIME_AXIS] - 1
    if operator.code == Code.AVERAGE_POOL_2D and operator.options is not None:
        return int(operator.options[1]["FilterHeight"]) - 1
    if operator.code == Code.LOGISTIC:
        return 0
    raise EdgewakeError(f"layer {name} is {operator.name}, which has no streaming form here")


def _remember(main: Graph, init: Graph, value: int, history: int, initial: Int8Array) -> int:
    """Put the past before `value`, keep its latest part for the next step, and return the whole window."""
    step = replace(main.tensors[value], name="")
    channels = step.shape[-1]
    past = replace(step, shape=(1, history, 1, channels))
    shared_name = str(sum(operator.code == Code.VAR_HANDLE for operator in init.operators))

    def run(
        graph: Graph, code: int, inputs: tuple[int, ...], output: Tensor | None, given: Options | None = None
    ) -> int:
        outputs = () if output is None else (graph.add(output),)
        graph.operators.append(Operator(code, inputs, outputs, given))
        return outputs[0] if outputs else -1

    def handle(graph: Graph) -> int:
        named = options("VarHandleOptions", Container="", SharedName=shared_name)
        return run(graph, Code.VAR_HANDLE, (), Tensor("", (), tflite.TensorType.RESOURCE), named)

    variable = handle(main)
    read = run(main, Code.READ_VARIABLE, (variable,), past)
    window_tensor = replace(step, shape=(1, history + 1, 1, channels))
    window = run(
        main, Code.CONCATENATION, (read, value), window_tensor, options("ConcatenationOptions", Axis=TIME_AXIS)
    )
    bounds = ((0, 1, 0, 0), (1, history + 1, 1, channels), (1, 1, 1, 1))
    begin, end, stride = (main.add(Tensor("", (4,), _INT32, np.array(b, np.int32).tobytes())) for b in bounds)
    # Not SLICE: TFLM copies that byte by byte, and a stride of 1 by rows, a tenth of the cycles.
    dropping = options("StridedSliceOptions")
    latest = run(main, Code.STRIDED_SLICE, (window, begin, end, stride), past, dropping)
    run(main, Code.ASSIGN_VARIABLE, (variable, latest), None)

    constant = init.add(replace(past, data=np.tile(initial, history).astype(np.int8).tobytes()))
    run(init, Code.ASSIGN_VARIABLE, (handle(init), constant), None)
    return window


# ---- verification --------------------------------------------------------------------------------


@dataclass(frozen=True)
class StreamingModel:
    """What a verified .tflite takes (`width` int8 features a step) and gives, and how far back it looks."""

    width: int
    input: Quantization
    output: Quantization
    receptive_field_steps: int


def verify(data: bytes) -> StreamingModel:
    """Check that a .tflite is a streaming model as edgewake writes it, so that TFLM can run it safely.

    Its layers are checked one by one; then the whole file is written again from them, and must be the same to
    the byte. That covers every offset, vector, index, state and option.

    Raises:
        EdgewakeError: it is damaged, or is another model; one line names which.
    """
    graphs = read_tflite(data)
    try:
        _refuse_foreign(graphs)
        windowed, silence, field = _layers(graphs, len(data))
        same = write_tflite(streaming_graphs(windowed, silence)) == data
    except EdgewakeError:
        raise
    except Exception as error:  # Indices and lengths of a damaged file lead anywhere.
        raise EdgewakeError(f"the .tflite is damaged ({type(error).__name__}): build the model again") from error
    if not same:
        raise EdgewakeError("the .tflite is damaged, or edgewake did not write it: build the model again")
    first, last = windowed.tensors[windowed.inputs[0]], windowed.tensors[windowed.outputs[0]]
    return StreamingModel(first.shape[-1], _per_tensor(first), _per_tensor(last), field)


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


def _layers(graphs: list[Graph], size: int) -> tuple[Graph, dict[str, Int8Array], int]:
    """The windowed graph that a streaming model was made from, its silence states, and its receptive field."""
    main, init = graphs
    windowed = Graph(main.tensors, [], main.inputs, main.outputs)
    states = iter([init.tensors[op.inputs[1]] for op in init.operators if op.code == Code.ASSIGN_VARIABLE])
    silence: dict[str, Int8Array] = {}
    field, value = 1, main.inputs[0]
    _per_tensor(main.tensors[value])
    for operator in main.operators:
        if operator.code not in _LAYERS:
            continue
        source, output = main.tensors[value], main.tensors[operator.outputs[0]]
        constants = [main.tensors[index] for index in operator.inputs[1:]]
        _check_layer(operator, source, constants, output)
        history = _history(operator, constants, output.name)
        _need(history * source.shape[-1] <= size, f"{operator.name} over {history + 1} steps")
        if history:
            state = np.frombuffer(next(states).data or b"", np.int8)
            silence[output.name] = state[: source.shape[-1]]
        windowed.operators.append(replace(operator, inputs=(value, *operator.inputs[1:])))
        value = operator.outputs[0]
        field += history
    _need(main.tensors[value].shape[-1] == 1, "the output is not one value")
    return windowed, silence, field


def _check_layer(operator: Operator, source: Tensor, constants: list[Tensor], output: Tensor) -> None:
    """Shapes, types, scales and options of one layer over one step of its input."""
    name, channels = operator.name, source.shape[-1]
    fields = {"Padding": tflite.Padding.VALID, "StrideW": 1, "StrideH": 1}
    found = operator.options[1] if operator.options is not None else {}
    if operator.code in (Code.CONV_2D, Code.DEPTHWISE_CONV_2D):
        weight, bias = constants
        pointwise = operator.code == Code.CONV_2D
        outputs = weight.shape[0] if pointwise else channels
        shape = (outputs, 1, 1, channels) if pointwise else (1, weight.shape[TIME_AXIS], 1, channels)
        _check_constant(name, weight, shape, _INT8, 1)
        _check_constant(name, bias, (outputs,), _INT32, 4)
        factors = float(_per_tensor(source).scale) * _per_channel(weight, outputs, 0 if pointwise else 3)
        factors /= float(_per_tensor(output).scale)
        _need(bool((factors < _LARGEST_FACTOR).all()), f"{name} has scales that int8 kernels cannot compute")
        fields["FusedActivationFunction"] = found["FusedActivationFunction"]
        _need(fields["FusedActivationFunction"] in (0, tflite.ActivationFunctionType.RELU), f"activation of {name}")
        depth = {} if pointwise else {"DepthMultiplier": 1}
        expected: Options | None = options(
            "Conv2DOptions" if pointwise else "DepthwiseConv2DOptions", **fields, **depth
        )
    else:
        outputs = channels
        height = found.get("FilterHeight", 0)
        pool = operator.code == Code.AVERAGE_POOL_2D
        _need(not constants and (height >= 1 or not pool), f"{name} is incomplete")
        expected = options("Pool2DOptions", **fields, FilterWidth=1, FilterHeight=height) if pool else None
        given, made = _per_tensor(source), _per_tensor(output)
        if not pool:
            exact = made == Quantization(LOGISTIC_SCALE, LOGISTIC_ZERO_POINT)
            _need(exact and math.frexp(given.scale)[1] + 27 in LOGISTIC_SHIFT_RANGE, "LOGISTIC has another scale")
    _need(operator.options == expected, f"{name} has other options")
    _need(output.shape == (1, 1, 1, outputs), f"{name} gives {list(output.shape)}")


def _check_constant(name: str, tensor: Tensor, shape: tuple[int, ...], kind: int, size: int) -> None:
    expected = min(shape) >= 1 and (tensor.shape, tensor.type) == (shape, kind)
    _need(expected and len(tensor.data or b"") == math.prod(shape) * size, f"{name} has a constant {tensor.shape}")


def _per_channel(weight: Tensor, channels: int, axis: int) -> npt.NDArray[np.float64]:
    affine = weight.quantization or Affine(np.zeros(0, np.float32), np.zeros(0, np.int64))
    _need(
        affine.axis == axis and affine.scale.shape == affine.zero_point.shape == (channels,), "weights have no scales"
    )
    valid = np.isfinite(affine.scale).all() and (affine.scale > 0).all() and not affine.zero_point.any()
    _need(bool(valid), "weights have scales that no quantizer gives")
    return affine.scale.astype(np.float64)


def _per_tensor(tensor: Tensor) -> Quantization:
    """Quantization of an int8 activation."""
    affine = tensor.quantization
    whole = affine is not None and affine.scale.shape == affine.zero_point.shape == (1,) and affine.axis == 0
    _need(whole and tensor.type == _INT8 and tensor.data is None, f"tensor {tensor.name} is not an int8 activation")
    assert affine is not None
    return Quantization(affine.scale[0], int(affine.zero_point[0]))


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise EdgewakeError(f"the .tflite is damaged: {what}: build the model again")
