"""The operators of a .tflite with what their cost depends on, and those that esp-tflite-micro has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tflite

from edgewake.runtime.tflite_file import Graph, Operator, read_tflite

Shape = tuple[int, ...]
ESP_TFLITE_MICRO, ESP_NN = "1.4.0", "1.2.3"

_TFLM_OPERATORS = """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS
    BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE
    DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV
    FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D
    LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D
    MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX
    REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE
    SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE
    STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE
    WHILE ZEROS_LIKE
"""
TFLM_METHODS = {name: f"Add{name.title().replace('_', '')}" for name in _TFLM_OPERATORS.split()} | {
    "BATCH_MATMUL": "AddBatchMatMul",
    "CUMSUM": "AddCumSum",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}
"""The operators of esp-tflite-micro 1.4.0, and the method of its op resolver that registers each."""


@dataclass(frozen=True)
class OperatorInfo:
    """One operator of a .tflite.

    Attributes:
        name: of its output; where that has no name, the operator and its place, such as SLICE[0:5].
        op: builtin name, such as CONV_2D.
        input_shape, output_shape: of the first one that is no constant; () when there is none.
        filter_shape: CONV_2D (out, h, w, in), DEPTHWISE_CONV_2D (1, h, w, out), FULLY_CONNECTED (out, in),
            pooling (h, w); otherwise ().
        stride, dilation: (h, w).
        int8: input and output are int8 (or there is nothing to compute).
        weight_bytes: constants that the operator reads from flash at each inference.
        copied_bytes: sizes of all inputs that are not constants.
        subgraph: 0 is the main graph; others run once.
    """

    name: str
    op: str
    input_shape: Shape = ()
    output_shape: Shape = ()
    filter_shape: Shape = ()
    stride: tuple[int, int] = (1, 1)
    padding: str = "VALID"
    dilation: tuple[int, int] = (1, 1)
    depth_multiplier: int = 1
    per_channel: bool = False
    int8: bool = True
    input_zero_point: int = 0
    weight_bytes: int = 0
    copied_bytes: int = 0
    subgraph: int = 0

    @property
    def positions(self) -> int:
        """Spatial output positions of a convolution or pooling."""
        return math.prod(self.output_shape[1:-1]) if len(self.output_shape) > 1 else 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        if self.op in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            return self.positions * math.prod(self.filter_shape)
        if self.op == "FULLY_CONNECTED":
            return math.prod(self.output_shape[:-1]) * math.prod(self.filter_shape)
        return 0


def operators_from_bytes(model: bytes) -> list[OperatorInfo]:
    """Operators of all subgraphs of a .tflite, in order of execution."""
    return [
        _describe(graph, operator, subgraph, place)
        for subgraph, graph in enumerate(read_tflite(model))
        for place, operator in enumerate(graph.operators)
    ]


def count_variables(model: bytes) -> int:
    """Different variables that a model keeps between inferences (VAR_HANDLE by container and shared name)."""
    handles = [op.options[1] for graph in read_tflite(model) for op in graph.operators
               if op.name == "VAR_HANDLE" and op.options is not None]  # fmt: skip
    return len({(fields.get("Container"), fields.get("SharedName")) for fields in handles})


def _describe(graph: Graph, operator: Operator, subgraph: int, place: int) -> OperatorInfo:
    inputs = [graph.tensors[index] for index in operator.inputs if index >= 0]
    outputs = [graph.tensors[index] for index in operator.outputs]
    live = [tensor for tensor in inputs if tensor.data is None and tensor.type != tflite.TensorType.RESOURCE]
    options: dict[str, Any] = operator.options[1] if operator.options is not None else {}
    filter_shape: Shape = ()
    per_channel = False
    if "FilterHeight" in options:
        filter_shape = (int(options["FilterHeight"]), int(options["FilterWidth"]))
    elif operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") and inputs[1].data is not None:
        scales = inputs[1].quantization
        filter_shape, per_channel = inputs[1].shape, scales is not None and len(scales.scale) > 1
    zero_points = live[0].quantization if live else None
    return OperatorInfo(
        name=(outputs[0].name if outputs else "") or f"{operator.name}[{subgraph}:{place}]",
        op=operator.name,
        input_shape=live[0].shape if live else (),
        output_shape=outputs[0].shape if outputs else (),
        filter_shape=filter_shape,
        stride=(int(options.get("StrideH", 1)), int(options.get("StrideW", 1))),
        padding="SAME" if options.get("Padding") == tflite.Padding.SAME else "VALID",
        dilation=(int(options.get("DilationHFactor", 1)), int(options.get("DilationWFactor", 1))),
        depth_multiplier=int(options.get("DepthMultiplier", 1)),
        per_channel=per_channel,
        int8=all(tensor.type == tflite.TensorType.INT8 for tensor in (*live[:1], *outputs[:1]))
        or operator.name in ("CALL_ONCE", "VAR_HANDLE"),
        input_zero_point=0 if zero_points is None else int(zero_points.zero_point[0]),
        weight_bytes=sum(len(tensor.data or b"") for tensor in inputs),
        copied_bytes=sum(math.prod(tensor.shape) for tensor in live),
        subgraph=subgraph,
    )
