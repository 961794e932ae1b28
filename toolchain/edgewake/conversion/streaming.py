"""The streaming .tflite: one step in, one probability out, and every past step that it needs kept inside.

Each operator that looks back over h steps gets a variable of those h steps of its input. Stepping from reset
gives exactly what the windowed model gives after infinite silence, because CALL_ONCE fills the variables with
the bytes that silence leaves there, not with zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tflite

from edgewake.conversion.record import write_record
from edgewake.errors import EdgewakeError
from edgewake.io import write_bytes
from edgewake.runtime.tflite_file import Graph, Operator, Tensor, options, read_tflite, write_tflite

Int8Array = npt.NDArray[np.int8]
Code = tflite.BuiltinOperator
TIME_AXIS = 1
INIT_GRAPH = 1


@dataclass(frozen=True)
class Call:
    """An operator of the windowed model, about to be placed: constants are tensors, `value` is an index."""

    operator: Operator
    value: int
    constants: tuple[Tensor, ...]
    output: Tensor


Placer = Callable[[Graph, Call], int]


def as_convolution(graph: Graph, call: Call) -> int:
    """Place a pointwise layer as CONV_2D over one step. The one place to choose another operator for it."""
    return _place(graph, call)


def streaming_graphs(
    windowed: Graph, silence: Mapping[str, Int8Array], pointwise: Placer = as_convolution
) -> list[Graph]:
    """Main graph and init graph of the streaming model.

    Args:
        windowed: int8 graph over time, whose operators follow one another and whose tensors are named.
        silence: bytes (channels,) of the input of every layer with a history, after eternal silence.
        pointwise: places each pointwise layer.

    Raises:
        EdgewakeError: an operator has no streaming form; it is named with its layer.
    """
    main, init = Graph(), Graph()
    main.operators.append(_call_once())
    source = windowed.tensors[windowed.inputs[0]]
    value = main.add(_one_step(source))
    main.inputs = (value,)
    for operator in windowed.operators:
        output = _one_step(windowed.tensors[operator.outputs[0]])
        constants = tuple(replace(windowed.tensors[index], name="") for index in operator.inputs[1:])
        history = _history(operator, constants, output.name)
        if history:
            value = _remember(main, init, value, history, _initial(output.name, silence, main, value))
        place = pointwise if operator.code == Code.CONV_2D else _place
        value = place(main, Call(operator, value, constants, output))
    main.outputs = (value,)
    return [main, init]


def to_streaming(windowed: Path, output: Path, silence: Mapping[str, Int8Array]) -> Path:
    """Write the streaming form of a windowed int8 .tflite and its JSON record; see `streaming_graphs`."""
    graphs = streaming_graphs(read_tflite(Path(windowed).read_bytes())[0], silence)
    data = write_tflite(graphs)
    write_bytes(output, data)
    states = {name: len(value) for name, value in silence.items()}
    operators = [operator.name for graph in graphs for operator in graph.operators]
    write_record(output, "streaming", {"windowed": windowed}, {"states": states, "operators": operators})
    return output


def _one_step(tensor: Tensor) -> Tensor:
    return replace(tensor, shape=(1, 1, 1, tensor.shape[-1]))


def _place(graph: Graph, call: Call) -> int:
    inputs = (call.value, *(graph.add(_lean(tensor)) for tensor in call.constants))
    output = graph.add(call.output)
    graph.operators.append(replace(call.operator, inputs=inputs, outputs=(output,)))
    return output


def _lean(tensor: Tensor) -> Tensor:
    """A bias without its quantization: by definition input scale * weight scale, and no kernel reads it."""
    return replace(tensor, quantization=None) if tensor.type == tflite.TensorType.INT32 else tensor


def _history(operator: Operator, constants: tuple[Tensor, ...], name: str) -> int:
    """Past steps that an operator looks at."""
    if operator.code in (Code.CONV_2D, Code.DEPTHWISE_CONV_2D):
        return constants[0].shape[TIME_AXIS] - 1
    if operator.code == Code.AVERAGE_POOL_2D and operator.options is not None:
        return int(operator.options[1]["FilterHeight"]) - 1
    if operator.code == Code.LOGISTIC:
        return 0
    raise EdgewakeError(f"layer {name} is {operator.name}, which has no streaming form here")


def _initial(name: str, silence: Mapping[str, Int8Array], graph: Graph, value: int) -> Int8Array:
    channels = graph.tensors[value].shape[-1]
    if name not in silence or silence[name].shape != (channels,):
        raise EdgewakeError(f"layer {name} needs its silence state of {channels} channels, none is given")
    return silence[name]


def _remember(main: Graph, init: Graph, value: int, history: int, initial: Int8Array) -> int:
    """Put the past before `value`, keep its latest part for the next step, and return the whole window."""
    step = replace(main.tensors[value], name="")
    channels = step.shape[-1]
    past = replace(step, shape=(1, history, 1, channels))
    shared_name = str(sum(operator.code == Code.VAR_HANDLE for operator in init.operators))

    handle = _handle(main, shared_name)
    read = main.add(past)
    main.operators.append(Operator(Code.READ_VARIABLE, (handle,), (read,)))
    window = main.add(replace(step, shape=(1, history + 1, 1, channels)))
    along_time = options("ConcatenationOptions", Axis=TIME_AXIS)
    main.operators.append(Operator(Code.CONCATENATION, (read, value), (window,), along_time))
    begin, end, stride = (
        main.add(_int32(numbers)) for numbers in ((0, 1, 0, 0), (1, history + 1, 1, channels), (1, 1, 1, 1))
    )
    latest = main.add(past)
    # Not SLICE: TFLM copies that byte by byte, and a stride of 1 by rows, a tenth of the cycles.
    dropping = options("StridedSliceOptions")
    main.operators.append(Operator(Code.STRIDED_SLICE, (window, begin, end, stride), (latest,), dropping))
    main.operators.append(_assign(handle, latest))

    constant = init.add(replace(past, data=np.tile(initial, history).astype(np.int8).tobytes()))
    init.operators.append(_assign(_handle(init, shared_name), constant))
    return window


def _handle(graph: Graph, shared_name: str) -> int:
    handle = graph.add(Tensor("", (), tflite.TensorType.RESOURCE))
    named = options("VarHandleOptions", Container="", SharedName=shared_name)
    graph.operators.append(Operator(Code.VAR_HANDLE, (), (handle,), named))
    return handle


def _assign(handle: int, value: int) -> Operator:
    return Operator(Code.ASSIGN_VARIABLE, (handle, value), ())


def _call_once() -> Operator:
    return Operator(Code.CALL_ONCE, (), (), options("CallOnceOptions", InitSubgraphIndex=INIT_GRAPH))


def _int32(numbers: tuple[int, ...]) -> Tensor:
    data = np.array(numbers, np.int32).tobytes()
    return Tensor("", (len(numbers),), tflite.TensorType.INT32, data)
