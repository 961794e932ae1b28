"""LSTM and GRU students as a float .tflite: one loop a layer and direction, that starts from zero every time.

onnx2tf 1.28.8 has loops for GRU only and fails on an LSTM whose initial state is zero; TFLite's own
UNIDIRECTIONAL_SEQUENCE_LSTM keeps its state from one clip to the next. So the graph is written here: the
products of all frames with the input weights at once, then WHILE over frames.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from edgewake.conversion.clip_forms import statistics
from edgewake.models.clip import Recurrent
from edgewake.runtime.streaming import INPUT_NAME
from edgewake.runtime.tflite_file import Graph, Operator, Tensor, options

Code = tflite.BuiltinOperator
Type = tflite.TensorType
Floats = npt.NDArray[np.float32]
Shape = tuple[int, ...]
Weights = tuple[Floats, Floats, Floats, Floats]
_WITHOUT_OPTIONS = (Code.LOGISTIC, Code.TANH, Code.DYNAMIC_UPDATE_SLICE)
_OPTIONS = {Code.FULLY_CONNECTED: "FullyConnectedOptions", Code.REDUCE_MAX: "ReducerOptions"}


class _Builder:
    """A graph under construction; methods give indices of tensors."""

    def __init__(self, prefix: str) -> None:
        self.graph = Graph()
        self.prefix = prefix

    def shape(self, index: int) -> Shape:
        return self.graph.tensors[index].shape

    def tensor(self, name: str, shape: Shape, kind: int = Type.FLOAT32) -> int:
        return self.graph.add(Tensor(f"{self.prefix}{name}", shape, kind))

    def constant(self, value: Any) -> int:
        """Integers as int32, other numbers as float32."""
        whole = np.issubdtype(np.asarray(value).dtype, np.integer)
        array = np.asarray(value, np.int32 if whole else np.float32, order="C")
        return self.graph.add(Tensor("", array.shape, Type.INT32 if whole else Type.FLOAT32, array.tobytes()))

    def add(
        self, code: int, *inputs: int, name: str, shape: Shape | None = None, kind: int | None = None, **fields: Any
    ) -> int:
        """Add an operator with one output, by default of the first input's shape and type."""
        first = self.graph.tensors[inputs[0]]
        output = self.tensor(name, first.shape if shape is None else shape, first.type if kind is None else kind)
        operator = Operator(code, inputs, (output,))
        if code not in _WITHOUT_OPTIONS:
            table = _OPTIONS.get(code, f"{operator.name.title()}Options")
            operator = replace(operator, options=options(table, **fields))
        self.graph.operators.append(operator)
        return output

    def dense(self, value: int, weight: Floats, bias: Floats, name: str) -> int:
        """value [rows, in] with weight (out, in) -> [rows, out]."""
        shape = (int(np.prod(self.shape(value)[:-1])), weight.shape[0])
        return self.add(Code.FULLY_CONNECTED, value, self.constant(weight), self.constant(bias), name=name, shape=shape)

    def split(self, value: int, parts: int, name: str) -> list[int]:
        """[1, parts * size] -> parts of [1, size]."""
        size = self.shape(value)[1] // parts
        outputs = tuple(self.tensor(f"{name}{part}", (1, size)) for part in range(parts))
        inputs = (self.constant(1), value)
        self.graph.operators.append(Operator(Code.SPLIT, inputs, outputs, options("SplitOptions", NumSplits=parts)))
        return list(outputs)


def recurrent_graphs(student: Recurrent, frames: int) -> list[Graph]:
    """The graphs of a student over clips of `frames`: input [1, frames, 1, mel], output [1, classes]."""
    main = _Builder("")
    value = main.tensor(INPUT_NAME, (1, frames, 1, student.input_size))
    main.graph.inputs = (value,)
    graphs = [main.graph]
    layers = student.layers
    for layer in range(layers.num_layers):
        outputs = []
        for suffix in ("", "_reverse") if layers.bidirectional else ("",):
            weights = _weights(student, layer, suffix)
            name = f"layer{layer}{suffix}"
            projected = main.dense(value, weights[0], weights[2], f"{name}/inputs")
            outputs.append(_loop(main, graphs, student, name, projected, weights, frames))
        value = outputs[0]
        if len(outputs) == 2:
            shape = (frames, 2 * layers.hidden_size)
            value = main.add(Code.CONCATENATION, *outputs, name=f"layer{layer}", shape=shape, Axis=1)
    axis = main.constant([0])
    top = main.add(Code.REDUCE_MAX, value, axis, name="strongest", shape=(1, main.shape(value)[1]), KeepDims=True)
    head = student.head
    main.graph.outputs = (main.dense(top, _array(head.weight), _array(head.bias), "logits"),)
    return graphs


def _array(value: Any) -> Floats:
    return np.asarray(value.detach().cpu().numpy(), np.float32)


def _weights(student: Recurrent, layer: int, suffix: str) -> Weights:
    """Input weights, recurrent weights, and both biases; the first layer's take the normalization in."""
    names = (f"{part}_l{layer}{suffix}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    inner, recurrent, bias, recurrent_bias = (_array(getattr(student.layers, name)) for name in names)
    if layer == 0:
        mean, factor = (value.cpu().numpy() for value in statistics(student.norm))
        scaled = inner * factor
        bias = (bias - scaled @ mean).astype(np.float32)
        inner = scaled.astype(np.float32)
    if student.name == "lstm":
        # Both biases enter one sum; GRU's are apart, since the reset gate multiplies the second.
        return inner, recurrent, bias + recurrent_bias, np.zeros_like(bias)
    return inner, recurrent, bias, recurrent_bias


def _loop(
    main: _Builder, graphs: list[Graph], student: Recurrent, name: str, projected: int, weights: Weights, frames: int
) -> int:
    """Place WHILE over frames in `main`, and its two graphs; gives the outputs, [frames, hidden]."""
    backward = name.endswith("_reverse")
    hidden, width = student.layers.hidden_size, main.shape(projected)[1]
    states = ("h", "c") if student.name == "lstm" else ("h",)
    shapes: list[tuple[str, Shape, int]] = [("t", (1,), Type.INT32)]
    shapes += [(state, (1, hidden), Type.FLOAT32) for state in states]
    shapes += [("outputs", (frames, hidden), Type.FLOAT32), ("inputs", main.shape(projected), Type.FLOAT32)]

    condition = _Builder(f"{name}/while/")
    condition.graph.inputs = tuple(condition.tensor(*shape) for shape in shapes)
    limit = condition.constant([frames])
    goes_on = condition.add(Code.LESS, condition.graph.inputs[0], limit, name="goes_on", kind=Type.BOOL)
    condition.graph.outputs = (goes_on,)

    body = _Builder(f"{name}/")
    body.graph.inputs = tuple(body.tensor(f"{text}_in", size, kind) for text, size, kind in shapes)
    time, *before, outputs, rows = body.graph.inputs
    row = body.add(Code.SUB, body.constant([frames - 1]), time, name="row") if backward else time
    frame = body.add(Code.GATHER, rows, row, name="frame", shape=(1, width))
    cell = _lstm if student.name == "lstm" else _gru
    after = cell(body, frame, before, weights[1], weights[3])
    where = body.add(Code.CONCATENATION, row, body.constant([0]), name="where", shape=(2,))
    kept = body.add(Code.DYNAMIC_UPDATE_SLICE, outputs, after[0], where, name="outputs")
    following = body.add(Code.ADD, time, body.constant([1]), name="t")
    body.graph.outputs = (following, *after, kept, rows)

    number = len(graphs)
    graphs += [condition.graph, body.graph]
    starts = [main.constant([0]), *(main.constant(np.zeros((1, hidden))) for _ in states)]
    # Filled when the model runs: as a constant it would take more flash than many a weight.
    size, zero = main.constant([frames, hidden]), main.constant(0.0)
    empty = main.add(Code.FILL, size, zero, name=f"{name}/empty", shape=(frames, hidden), kind=Type.FLOAT32)
    ends = tuple(main.tensor(f"{name}/end/{text}", size, kind) for text, size, kind in shapes)
    given = options("WhileOptions", CondSubgraphIndex=number, BodySubgraphIndex=number + 1)
    main.graph.operators.append(Operator(Code.WHILE, (*starts, empty, projected), ends, given))
    return ends[-2]


def _lstm(body: _Builder, frame: int, before: list[int], weight: Floats, bias: Floats) -> list[int]:
    """torch.nn.LSTM's equations: gates in the order input, forget, cell, output; gives [h, c]."""
    hidden, cell = before
    total = body.add(Code.ADD, frame, body.dense(hidden, weight, bias, "recurrent"), name="gates")
    kinds = {"input": Code.LOGISTIC, "forget": Code.LOGISTIC, "cell": Code.TANH, "output": Code.LOGISTIC}
    gates = zip(kinds.items(), body.split(total, 4, "gate"), strict=True)
    i, f, g, o = (body.add(code, gate, name=name) for (name, code), gate in gates)
    fresh = body.add(Code.MUL, i, g, name="written")
    cell = body.add(Code.ADD, body.add(Code.MUL, f, cell, name="kept"), fresh, name="c")
    return [body.add(Code.MUL, o, body.add(Code.TANH, cell, name="shown"), name="h"), cell]


def _gru(body: _Builder, frame: int, before: list[int], weight: Floats, bias: Floats) -> list[int]:
    """torch.nn.GRU's equations: gates in the order reset, update, new; gives [h]."""
    hidden = before[0]
    from_frame = body.split(frame, 3, "frame")
    from_state = body.split(body.dense(hidden, weight, bias, "recurrent"), 3, "state")
    reset, update = (
        body.add(Code.LOGISTIC, body.add(Code.ADD, one, other, name=f"{letter}_sum"), name=name)
        for one, other, letter, name in zip(from_frame, from_state, "rz", ("reset", "update"), strict=False)
    )
    inner = body.add(Code.MUL, reset, from_state[2], name="recalled")
    new = body.add(Code.TANH, body.add(Code.ADD, from_frame[2], inner, name="n_sum"), name="new")
    # (1 - z) n + z h, with one product.
    difference = body.add(Code.SUB, hidden, new, name="difference")
    return [body.add(Code.ADD, new, body.add(Code.MUL, update, difference, name="step"), name="h")]
