"""How much larger TFLM's arena is on the S3 than on the host: its planner, with and without ESP-NN's scratch.

ESP-NN's kernels ask for scratch memory that the host's reference kernels do not need. TFLM plans it together
with the tensors, largest first, each at the first gap among what lives at the same time
(GreedyMemoryPlanner). The difference of that plan with and without scratch is added to what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import tflite

from edgewake.runtime.tflite_file import Tensor, read_tflite
from edgewake.targets.esp32s3 import analyse
from edgewake.targets.operators import operators_from_bytes

ALIGNMENT = 16
# A scratch buffer also costs a handle and a larger node record, with alignment: at most this in the tail.
BOOKKEEPING_BYTES = 32

_Type = tflite.TensorType
_ITEM_BYTES = {_Type.FLOAT32: 4, _Type.INT32: 4, _Type.INT64: 8, _Type.INT16: 2}


class Buffer(NamedTuple):
    """A block that must exist from operator `first` to operator `last`, both included."""

    size: int
    first: int
    last: int


def greedy_plan(buffers: Sequence[Buffer]) -> list[int]:
    """Offsets that TFLM's GreedyMemoryPlanner gives to `buffers`, in their order."""
    # Of equal sizes, TFLM places the last one first.
    order = sorted(range(len(buffers)), key=lambda index: (-buffers[index].size, -index))
    offsets = [0] * len(buffers)
    placed: list[int] = []
    for index in order:
        wanted = buffers[index]
        offset = 0
        for other in placed:
            if buffers[other].first > wanted.last or wanted.first > buffers[other].last:
                continue
            if offsets[other] - offset >= wanted.size:
                break
            offset = max(offset, offsets[other] + buffers[other].size)
        offsets[index] = offset
        position = next((i for i, other in enumerate(placed) if offsets[other] > offset), len(placed))
        placed.insert(position, index)
    return offsets


def planned_bytes(buffers: Sequence[Buffer]) -> int:
    """Size of the plan: the highest end of a buffer."""
    ends = (offset + buffer.size for offset, buffer in zip(greedy_plan(buffers), buffers, strict=True))
    return max(ends, default=0)


def model_buffers(model: bytes, scratch: Sequence[int] = ()) -> list[Buffer]:
    """What TFLM plans for a model, with bytes of scratch of each operator in the order of `operators_from_bytes`."""
    graphs = read_tflite(model)
    lifetimes: dict[tuple[int, int], list[int]] = {}
    runs: dict[tuple[int, int], tuple[int, int]] = {}
    clock = 0

    def use(number: int, indices: Iterable[int]) -> None:
        for index in indices:
            if index >= 0:
                lifetimes.setdefault((number, index), [clock, clock])[1] = clock

    def visit(number: int) -> None:
        nonlocal clock
        graph = graphs[number]
        use(number, graph.inputs)
        for place, operator in enumerate(graph.operators):
            clock += 1
            start = clock
            use(number, operator.outputs)
            if operator.name == "CALL_ONCE" and operator.options is not None:
                clock += 1
                visit(int(operator.options[1]["InitSubgraphIndex"]))
            use(number, (*operator.inputs, *operator.outputs))
            runs[number, place] = (start, clock)
        use(number, graph.outputs)

    visit(0)
    sizes = {key: _planned_bytes(graphs[key[0]].tensors[key[1]]) for key in lifetimes}
    buffers = [Buffer(_aligned(sizes[key]), *life) for key, life in sorted(lifetimes.items()) if sizes[key]]
    order = [(number, place) for number, graph in enumerate(graphs) for place in range(len(graph.operators))]
    return buffers + [Buffer(_aligned(size), *runs[key]) for key, size in zip(order, scratch, strict=False) if size]


def s3_scratch_bytes(model: bytes, scratch: Sequence[int] | None = None) -> int:
    """Arena beyond what the host's TFLM needs for the same .tflite, as an upper bound in bytes.

    `scratch` is what each operator asks for, by default from ESP-NN as edgewake's own firmware has it.
    """
    if scratch is None:
        scratch = [cost.scratch_bytes for cost in analyse(operators_from_bytes(model))]
    growth = planned_bytes(model_buffers(model, scratch)) - planned_bytes(model_buffers(model))
    return max(0, growth) + sum(size > 0 for size in scratch) * BOOKKEEPING_BYTES


def arena_json(model: bytes, host: int, scratch: Sequence[int] | None = None) -> dict[str, Any]:
    """Bytes of arena: those of the host, what ESP-NN's kernels add, and their sum as the board aligns it.

    For `scratch` see `s3_scratch_bytes`.
    """
    added = s3_scratch_bytes(model, scratch)
    return {"host_bytes": host, "s3_scratch_bytes": added, "total_bytes": _aligned(host + added)}


def _planned_bytes(tensor: Tensor) -> int:
    """Bytes in the arena; 0 for a resource handle, which is in its operator's memory, and a constant, in flash."""
    if tensor.data is not None or tensor.type == tflite.TensorType.RESOURCE:
        return 0
    return math.prod(tensor.shape) * _ITEM_BYTES.get(tensor.type, 1)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
