"""LSTM and GRU students as a float .tflite: one loop a layer and direction, that starts from zero every time.

onnx2tf 1.28.8 has loops for GRU only and fails on an LSTM whose initial state is zero; TFLite's own
UNIDIRECTIONAL_SEQUENCE_LSTM keeps its state from one clip to the next. So the graph is written here: the
products of all frames with the input weights at once, then WHILE over frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from edgewake.conversion.direct import INPUT_NAME
from edgewake.models.clip import Recurrent
from edgewake.runtime.tflite_file import Graph, Operator, Tensor, options

Code = tflite.BuiltinOperator
Type = tflite.TensorType
Floats = npt.NDArray[np.float32]


class _Builder:
    """A graph under construction; every method adds one operator and gives the index of its output."""

    def __init__(self, prefix: str) -> None:
        self.graph = Graph()
        self.prefix = prefix

    def tensor(self, name: str, shape: tuple[int, ...], kind: int = Type.FLOAT32) -> int:
        return self.graph.add(Tensor(f"{self.prefix}{name}", shape, kind))

    def constant(self, value: Any, kind: int = Type.FLOAT32) -> int:
        array = np.asarray(value, np.float32 if kind == Type.FLOAT32 else np.int32, order="C")
        return self.graph.add(Tensor("", array.shape, kind, array.tobytes()))

    def place(
        self,
        code: int,
        inputs: tuple[int, ...],
        name: str,
        shape: tuple[int, ...],
        given: tuple[str, dict[str, Any]] | None = None,
        kind: int = Type.FLOAT32,
    ) -> int:
        output = self.tensor(name, shape, kind)
        self.graph.operators.append(Operator(code, inputs, (output,), given))
        return output

    def dense(self, value: int, weight: Floats, bias: Floats, name: str) -> int:
        """value [rows, in] with weight (out, in) -> [rows, out]."""
        shape = self.graph.tensors[value].shape
        rows = int(np.prod(shape[:-1]))
        inputs = (value, self.constant(weight), self.constant(bias))
        given = options("FullyConnectedOptions")
        return self.place(Code.FULLY_CONNECTED, inputs, name, (rows, weight.shape[0]), given)

    def binary(self, code: int, left: int, right: int, name: str) -> int:
        table = {Code.ADD: "AddOptions", Code.SUB: "SubOptions", Code.MUL: "MulOptions"}[code]
        tensor = self.graph.tensors[left]
        return self.place(code, (left, right), name, tensor.shape, options(table), tensor.type)

    def unary(self, code: int, value: int, name: str) -> int:
        return self.place(code, (value,), name, self.graph.tensors[value].shape)

    def split(self, value: int, parts: int, name: str) -> list[int]:
        """[1, parts * size] -> parts of [1, size]."""
        size = self.graph.tensors[value].shape[1] // parts
        outputs = tuple(self.tensor(f"{name}{part}", (1, size)) for part in range(parts))
        axis = self.constant(np.int32(1), Type.INT32)
        given = options("SplitOptions", NumSplits=parts)
        self.graph.operators.append(Operator(Code.SPLIT, (axis, value), outputs, given))
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
            outputs.append(_loop(main, graphs, student, name, projected, weights, frames, suffix != ""))
        value = outputs[0]
        if len(outputs) == 2:
            shape = (frames, 2 * layers.hidden_size)
            given = options("ConcatenationOptions", Axis=1)
            value = main.place(Code.CONCATENATION, tuple(outputs), f"layer{layer}", shape, given)
    axis = main.constant(np.array([0]), Type.INT32)
    units = main.graph.tensors[value].shape[1]
    given = options("ReducerOptions", KeepDims=True)
    top = main.place(Code.REDUCE_MAX, (value, axis), "strongest", (1, units), given)
    head = student.head
    main.graph.outputs = (main.dense(top, _array(head.weight), _array(head.bias), "logits"),)
    return graphs


def _array(value: Any) -> Floats:
    return np.asarray(value.detach().cpu().numpy(), np.float32)


def _weights(student: Recurrent, layer: int, suffix: str) -> tuple[Floats, Floats, Floats, Floats]:
    """Input weights, recurrent weights, and both biases; the first layer's take the normalization in."""
    names = (f"{part}_l{layer}{suffix}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    inner, recurrent, bias, recurrent_bias = (_array(getattr(student.layers, name)) for name in names)
    if layer == 0:
        norm = student.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean = norm.running_mean.double().cpu().numpy()
        factor = 1 / np.sqrt(norm.running_var.double().cpu().numpy() + norm.eps)
        scaled = inner * factor
        bias = (bias - scaled @ mean).astype(np.float32)
        inner = scaled.astype(np.float32)
    if student.name == "lstm":
        # Both biases enter one sum; GRU's are apart, since the reset gate multiplies the second.
        return inner, recurrent, bias + recurrent_bias, np.zeros_like(bias)
    return inner, recurrent, bias, recurrent_bias


def _loop(
    main: _Builder,
    graphs: list[Graph],
    student: Recurrent,
    name: str,
    projected: int,
    weights: tuple[Floats, Floats, Floats, Floats],
    frames: int,
    backward: bool,
) -> int:
    """Place WHILE over frames in `main`, and its two graphs; gives the outputs, [frames, hidden]."""
    hidden = student.layers.hidden_size
    states = ("h", "c") if student.name == "lstm" else ("h",)
    shapes: list[tuple[str, tuple[int, ...], int]] = [("t", (1,), Type.INT32)]
    shapes += [(state, (1, hidden), Type.FLOAT32) for state in states]
    shapes += [("outputs", (frames, hidden), Type.FLOAT32)]
    shapes += [("inputs", main.graph.tensors[projected].shape, Type.FLOAT32)]

    condition = _Builder(f"{name}/while/")
    condition.graph.inputs = tuple(condition.tensor(*shape) for shape in shapes)
    limit = condition.constant(np.array([frames]), Type.INT32)
    less = (condition.graph.inputs[0], limit)
    given = options("LessOptions")
    condition.graph.outputs = (condition.place(Code.LESS, less, "goes_on", (1,), given, Type.BOOL),)

    body = _Builder(f"{name}/")
    body.graph.inputs = tuple(body.tensor(f"{text}_in", size, kind) for text, size, kind in shapes)
    time, *before, outputs, rows = body.graph.inputs
    row = time
    if backward:
        last = body.constant(np.array([frames - 1]), Type.INT32)
        row = body.binary(Code.SUB, last, time, "row")
    width = main.graph.tensors[projected].shape[1]
    frame = body.place(Code.GATHER, (rows, row), "frame", (1, width), options("GatherOptions"))
    cell = _lstm if student.name == "lstm" else _gru
    after = cell(body, frame, before, weights[1], weights[3])
    zero = body.constant(np.array([0]), Type.INT32)
    given = options("ConcatenationOptions")
    where = body.place(Code.CONCATENATION, (row, zero), "where", (2,), given, Type.INT32)
    kept = body.place(Code.DYNAMIC_UPDATE_SLICE, (outputs, after[0], where), "outputs", (frames, hidden), None)
    one = body.constant(np.array([1]), Type.INT32)
    following = body.binary(Code.ADD, time, one, "t")
    body.graph.outputs = (following, *after, kept, rows)

    number = len(graphs)
    graphs += [condition.graph, body.graph]
    starts = [main.constant(np.zeros(1), Type.INT32)]
    starts += [main.constant(np.zeros((1, hidden))) for _ in states]
    # Filled when the model runs: as a constant it would take more flash than many a weight.
    size = main.constant(np.array([frames, hidden]), Type.INT32)
    zeros = (size, main.constant(np.float32(0)))
    empty = main.place(Code.FILL, zeros, f"{name}/empty", (frames, hidden), options("FillOptions"))
    starts += [empty, projected]
    ends = tuple(main.tensor(f"{name}/end/{text}", size, kind) for text, size, kind in shapes)
    given = options("WhileOptions", CondSubgraphIndex=number, BodySubgraphIndex=number + 1)
    main.graph.operators.append(Operator(Code.WHILE, tuple(starts), ends, given))
    return ends[-2]


def _lstm(body: _Builder, frame: int, before: list[int], weight: Floats, bias: Floats) -> list[int]:
    """torch.nn.LSTM's equations: gates in the order input, forget, cell, output; gives [h, c]."""
    hidden, cell = before
    gates = body.binary(Code.ADD, frame, body.dense(hidden, weight, bias, "recurrent"), "gates")
    names = ("input", "forget", "cell", "output")
    parts = body.split(gates, 4, "gate")
    i, f, g, o = (
        body.unary(Code.TANH if name == "cell" else Code.LOGISTIC, part, name)
        for name, part in zip(names, parts, strict=True)
    )
    fresh = body.binary(Code.MUL, i, g, "written")
    cell = body.binary(Code.ADD, body.binary(Code.MUL, f, cell, "kept"), fresh, "c")
    return [body.binary(Code.MUL, o, body.unary(Code.TANH, cell, "shown"), "h"), cell]


def _gru(body: _Builder, frame: int, before: list[int], weight: Floats, bias: Floats) -> list[int]:
    """torch.nn.GRU's equations: gates in the order reset, update, new; gives [h]."""
    hidden = before[0]
    from_frame = body.split(frame, 3, "frame")
    from_state = body.split(body.dense(hidden, weight, bias, "recurrent"), 3, "state")
    reset = body.unary(Code.LOGISTIC, body.binary(Code.ADD, from_frame[0], from_state[0], "r_sum"), "reset")
    update = body.unary(Code.LOGISTIC, body.binary(Code.ADD, from_frame[1], from_state[1], "z_sum"), "update")
    inner = body.binary(Code.MUL, reset, from_state[2], "recalled")
    new = body.unary(Code.TANH, body.binary(Code.ADD, from_frame[2], inner, "n_sum"), "new")
    # (1 - z) n + z h, with one product.
    difference = body.binary(Code.SUB, hidden, new, "difference")
    step = body.binary(Code.MUL, update, difference, "step")
    return [body.binary(Code.ADD, new, step, "h")]
