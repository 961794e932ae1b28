"""A .tflite as plain values, read and written: small, deterministic files with 16-byte aligned constants.

Only what TFLM reads is kept (no metadata, signatures, float ranges), and equal vectors, strings and buffers
are stored once, which FlatBuffers allows. Format: tensorflow/compiler/mlir/lite/schema/schema.fbs, version 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import tflite

from edgewake.errors import EdgewakeError

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16
MOST_ITEMS = 10_000
SIGNATURE = "serving_default"

_OPERATOR_NAMES = {code: name for name, code in vars(tflite.BuiltinOperator).items() if name.isupper()}
_OPTION_NAMES = {code: name for name, code in vars(tflite.BuiltinOptions).items() if name.endswith("Options")}
_TYPES = {code: np.dtype(name.lower()) for name, code in vars(tflite.TensorType).items()
          if name in ("FLOAT32", "INT8", "INT16", "INT32", "INT64", "UINT8", "BOOL")}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Affine:
    """Quantization of a tensor: real = scale * (q - zero_point), per tensor or along `axis`."""

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int = 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Affine) or self.axis != other.axis:
            return False
        return np.array_equal(self.scale, other.scale) and np.array_equal(self.zero_point, other.zero_point)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Tensor:
    """One tensor; `data` holds the bytes of a constant, None otherwise."""

    name: str
    shape: tuple[int, ...]
    type: int
    data: bytes | None = None
    quantization: Affine | None = None

    def array(self) -> npt.NDArray[Any]:
        """A constant's values. Raises EdgewakeError for a tensor without data or of another type."""
        if self.data is None or self.type not in _TYPES:
            raise EdgewakeError(f"tensor {self.name or '(unnamed)'} holds no constant that can be read")
        return np.frombuffer(self.data, _TYPES[self.type]).reshape(self.shape)


@dataclass(frozen=True)
class Operator:
    """One operator: a builtin code, tensor indices (-1: absent), and its options as the function `options` has them."""

    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: tuple[str, dict[str, Any]] | None = None
    version: int = 1

    @property
    def name(self) -> str:
        """The builtin operator's name, such as CONV_2D."""
        return str(_OPERATOR_NAMES.get(self.code, f"operator {self.code}"))


@dataclass
class Graph:
    """One subgraph; inputs and outputs are tensor indices."""

    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()

    def add(self, tensor: Tensor) -> int:
        """Append a tensor and return its index; an equal constant without a name is reused."""
        if tensor.data is not None and not tensor.name and tensor in self.tensors:
            return self.tensors.index(tensor)
        self.tensors.append(tensor)
        return len(self.tensors) - 1


def in_order_of_use(graph: Graph) -> Graph:
    """The same graph with tensors numbered by first use, unused ones dropped: equal networks, equal files."""
    used = dict.fromkeys(graph.inputs)
    for operator in graph.operators:
        used |= dict.fromkeys(index for index in (*operator.inputs, *operator.outputs) if index >= 0)
    numbers = {old: new for new, old in enumerate(used)} | {-1: -1}

    def renumber(indices: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(numbers[index] for index in indices)

    operators = [
        replace(each, inputs=renumber(each.inputs), outputs=renumber(each.outputs)) for each in graph.operators
    ]
    return Graph([graph.tensors[i] for i in used], operators, renumber(graph.inputs), renumber(graph.outputs))


def read_tflite(data: bytes) -> list[Graph]:
    """All subgraphs of a .tflite; an EdgewakeError says what is damaged or cannot be kept."""
    if data[4:8] != FILE_IDENTIFIER:
        raise EdgewakeError("not a .tflite file: the identifier TFL3 is missing")
    try:
        model = tflite.Model.GetRootAs(data, 0)
        return [_read_graph(model, graph) for graph in _items(model, "Subgraphs")]
    except EdgewakeError:
        raise
    except Exception as error:  # Offsets of a damaged file lead anywhere, so that any exception may come.
        reason = " ".join(str(error).split())[:80]
        raise EdgewakeError(f"a damaged .tflite ({type(error).__name__}: {reason}): build it again") from error


def _items(table: Any, name: str) -> list[Any]:
    """Members of a table's vector of tables, which may hold no more than `MOST_ITEMS`."""
    length = getattr(table, f"{name}Length")()
    if length > MOST_ITEMS:
        raise EdgewakeError(f"a damaged .tflite ({length:,} {name.lower()}, {MOST_ITEMS:,} allowed): build it again")
    return [getattr(table, name)(index) for index in range(length)]


def _numbers(values: Any) -> tuple[int, ...]:
    """A vector of integers; flatbuffers gives 0 for an absent one."""
    return tuple(np.atleast_1d(values).tolist()) if isinstance(values, np.ndarray) else ()


def _read_graph(model: Any, graph: Any) -> Graph:
    tensors = [_read_tensor(model, tensor) for tensor in _items(graph, "Tensors")]
    operators = [_read_operator(model, operator) for operator in _items(graph, "Operators")]
    return Graph(tensors, operators, _numbers(graph.InputsAsNumpy()), _numbers(graph.OutputsAsNumpy()))


def _read_tensor(model: Any, tensor: Any) -> Tensor:
    buffer, given, affine = model.Buffers(tensor.Buffer()), tensor.Quantization(), None
    data = None if buffer.DataLength() == 0 else buffer.DataAsNumpy().tobytes()
    if data is None and buffer.Offset() > 1:
        # Writers put large constants behind the FlatBuffer, where TFLM does not look.
        data = bytes(model._tab.Bytes[buffer.Offset() : buffer.Offset() + buffer.Size()])
    if given is not None and given.ScaleLength():
        scale, zero_points = np.array(given.ScaleAsNumpy()), _numbers(given.ZeroPointAsNumpy()) or (0,)
        # Some writers give one zero point for all channels.
        zero_point = np.broadcast_to(np.array(zero_points, np.int64), scale.shape)
        affine = Affine(scale, zero_point, given.QuantizedDimension())
    return Tensor((tensor.Name() or b"").decode(), _numbers(tensor.ShapeAsNumpy()), tensor.Type(), data, affine)


def _read_operator(model: Any, operator: Any) -> Operator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    name, union, given = _OPTION_NAMES.get(operator.BuiltinOptionsType()), operator.BuiltinOptions(), None
    if name is not None and union is not None:
        table = getattr(tflite, name)()
        table.Init(union.Bytes, union.Pos)
        given = name, _option_values(name, table)
    inputs, outputs = _numbers(operator.InputsAsNumpy()), _numbers(operator.OutputsAsNumpy())
    return Operator(builtin, inputs, outputs, given, code.Version())


def options(name: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Operator options as `Operator` holds them: the given fields, all others at the schema's defaults."""
    builder = flatbuffers.Builder(0)
    getattr(tflite, f"{name}Start")(builder)
    builder.Finish(getattr(tflite, f"{name}End")(builder))
    table = getattr(tflite, name).GetRootAs(builder.Output(), 0)
    return name, _option_values(name, table) | fields


@lru_cache(maxsize=256)
def _option_fields(name: str) -> tuple[str, ...]:
    prefix = f"{name}Add"
    return tuple(key.removeprefix(prefix) for key in vars(tflite) if key.startswith(prefix))


def _option_values(name: str, table: Any) -> dict[str, Any]:
    try:
        values = {key: getattr(table, key)() for key in _option_fields(name)}
    except TypeError as error:
        raise EdgewakeError(f"{name} hold a list, which this reader does not keep") from error
    return {key: value.decode() if isinstance(value, bytes) else value for key, value in values.items()}


def write_tflite(graphs: list[Graph], *, signature: bool = False) -> bytes:
    """The .tflite of these subgraphs, the main one first; tools on a host want a `signature`, by tensor names."""
    return _Writer().model(graphs, signature)


class _Writer:
    """Builds one file; every vector, string and buffer is stored once."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1 << 16)
        self.stored: dict[tuple[Any, ...], int] = {}
        self.buffers: dict[bytes, int] = {b"": 0}
        self.codes: dict[tuple[int, int], int] = {}

    def once(self, key: tuple[Any, ...], make: Callable[[], int]) -> int:
        if key not in self.stored:
            self.stored[key] = make()
        return self.stored[key]

    def table(self, kind: str, **fields: int) -> int:
        """A table of the schema; fields are laid out in the order given, and an offset of 0 is left out."""
        getattr(tflite, f"{kind}Start")(self.builder)
        for name, value in fields.items():
            getattr(tflite, f"{kind}Add{name}")(self.builder, value)
        return int(getattr(tflite, f"{kind}End")(self.builder))

    def scalars(self, values: Any, kind: type = np.int32) -> int:
        array: npt.NDArray[Any] = np.asarray(values, kind)
        key = ("vector", array.dtype.str, array.tobytes())
        return self.once(key, lambda: int(self.builder.CreateNumpyVector(array)))

    def text(self, value: str) -> int:
        return self.once(("string", value), lambda: int(self.builder.CreateString(value)))

    def aligned_bytes(self, data: bytes) -> int:
        self.builder.StartVector(1, len(data), BUFFER_ALIGNMENT)
        self.builder.head -= len(data)
        self.builder.Bytes[self.builder.head : self.builder.head + len(data)] = data
        return int(self.builder.EndVector())

    def tables(self, made: Iterable[int]) -> int:
        offsets = list(made)
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def model(self, graphs: list[Graph], signature: bool) -> bytes:
        fields = {"Version": SCHEMA_VERSION}
        subgraphs = self.tables(self.graph(graph) for graph in graphs)
        buffers = self.tables(
            self.table("Buffer", Data=self.aligned_bytes(data) if data else 0) for data in self.buffers
        )
        fields["OperatorCodes"] = self.tables(
            self.table("OperatorCode", DeprecatedBuiltinCode=min(code, 127), Version=version, BuiltinCode=code)
            for code, version in self.codes
        )
        fields |= {"Subgraphs": subgraphs, "Buffers": buffers}
        fields["SignatureDefs"] = self.tables([self.signature(graphs[0])]) if signature else 0
        self.builder.Finish(self.table("Model", **fields), FILE_IDENTIFIER)
        return bytes(self.builder.Output())

    def signature(self, graph: Graph) -> int:
        def maps(indices: tuple[int, ...]) -> int:
            names = ((i, self.text(graph.tensors[i].name)) for i in indices)
            return self.tables(self.table("TensorMap", Name=name, TensorIndex=i) for i, name in names)

        inputs, outputs = maps(graph.inputs), maps(graph.outputs)
        return self.table("SignatureDef", Inputs=inputs, Outputs=outputs, SignatureKey=self.text(SIGNATURE))

    def graph(self, graph: Graph) -> int:
        tensors = self.tables(map(self.tensor, graph.tensors))
        operators = self.tables(map(self.operator, graph.operators))
        inputs, outputs = self.scalars(graph.inputs), self.scalars(graph.outputs)
        return self.table("SubGraph", Tensors=tensors, Inputs=inputs, Outputs=outputs, Operators=operators)

    def tensor(self, tensor: Tensor) -> int:
        name, shape = self.text(tensor.name) if tensor.name else 0, self.scalars(tensor.shape)
        given, quantization = tensor.quantization, 0
        if given is not None:
            scale, zero_point = self.scalars(given.scale, np.float32), self.scalars(given.zero_point, np.int64)
            fields = {"Scale": scale, "ZeroPoint": zero_point, "QuantizedDimension": given.axis}
            quantization = self.once(
                ("quantization", *fields.values()), lambda: self.table("QuantizationParameters", **fields)
            )
        buffer = self.buffers.setdefault(tensor.data or b"", len(self.buffers))
        return self.table("Tensor", Shape=shape, Type=tensor.type, Buffer=buffer, Name=name, Quantization=quantization)

    def operator(self, operator: Operator) -> int:
        fields = {"OpcodeIndex": self.codes.setdefault((operator.code, operator.version), len(self.codes))}
        options = kind = 0
        if operator.options is not None:
            table, given = operator.options
            kind = getattr(tflite.BuiltinOptions, table)
            known = ((key, value) for key, value in sorted(given.items()) if value is not None)
            values = {key: self.text(value) if isinstance(value, str) else value for key, value in known}
            options = self.once(("options", table, tuple(values.items())), lambda: self.table(table, **values))
        fields |= {"Inputs": self.scalars(operator.inputs), "Outputs": self.scalars(operator.outputs)}
        return self.table("Operator", **fields, BuiltinOptionsType=kind, BuiltinOptions=options)
