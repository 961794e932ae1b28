"""How much larger TFLM's arena is on the S3 than on the host: its planner, with and without ESP-NN's scratch.

ESP-NN's kernels ask for scratch memory that the host's reference kernels do not need. TFLM plans it together
with the tensors, largest first, each at the first gap among what lives at the same time
(GreedyMemoryPlanner). Running that plan here twice gives the difference, which is added to what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import tflite

from edgewake.runtime.tflite_file import Graph, Operator, read_tflite

ALIGNMENT = 16
# A scratch buffer also costs a handle and a larger node record, with alignment: at most this in the tail.
BOOKKEEPING_BYTES = 32

_ITEM_BYTES = {
    tflite.TensorType.FLOAT32: 4,
    tflite.TensorType.INT32: 4,
    tflite.TensorType.INT64: 8,
    tflite.TensorType.INT16: 2,
}


@dataclass(frozen=True)
class Buffer:
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
    offsets = greedy_plan(buffers)
    return max((offset + buffer.size for offset, buffer in zip(offsets, buffers, strict=True)), default=0)


def model_buffers(model: bytes, scratch: dict[tuple[int, int], int] | None = None) -> list[Buffer]:
    """What TFLM plans for a model.

    Args:
        scratch: bytes of scratch by (subgraph, place of the operator in it).
    """
    graphs = read_tflite(model)
    lifetimes: dict[tuple[int, int], list[int]] = {}
    scratch_lives: dict[tuple[int, int], tuple[int, int]] = {}
    clock = 0

    def visit(number: int) -> None:
        nonlocal clock
        graph = graphs[number]

        def use(index: int) -> None:
            life = lifetimes.setdefault((number, index), [clock, clock])
            life[1] = clock

        for index in graph.inputs:
            use(index)
        for place, operator in enumerate(graph.operators):
            clock += 1
            start = clock
            for index in operator.outputs:
                use(index)
            for called in _called_subgraphs(operator):
                clock += 1
                visit(called)
            for index in (*operator.inputs, *operator.outputs):
                if index >= 0:
                    use(index)
            scratch_lives[number, place] = (start, clock)
        for index in graph.outputs:
            use(index)

    visit(0)
    buffers = [
        Buffer(_aligned(_bytes(graphs[number], index)), *life)
        for (number, index), life in sorted(lifetimes.items())
        if _is_planned(graphs[number], index)
    ]
    for key, size in sorted((scratch or {}).items()):
        if size > 0:
            buffers.append(Buffer(_aligned(size), *scratch_lives[key]))
    return buffers


def scratch_growth(model: bytes, scratch: dict[tuple[int, int], int]) -> int:
    """Bytes by which ESP-NN's scratch enlarges the arena beyond what the host needs: an upper bound.

    Args:
        scratch: bytes of scratch by (subgraph, place of the operator in it).
    """
    plain = planned_bytes(model_buffers(model))
    grown = planned_bytes(model_buffers(model, scratch))
    requests = sum(size > 0 for size in scratch.values())
    return max(0, grown - plain) + requests * BOOKKEEPING_BYTES


def _called_subgraphs(operator: Operator) -> list[int]:
    if operator.name == "CALL_ONCE" and operator.options is not None:
        return [int(operator.options[1]["InitSubgraphIndex"])]
    return []


def _is_planned(graph: Graph, index: int) -> bool:
    tensor = graph.tensors[index]
    # A resource handle points into its operator's own memory, a constant into flash.
    return tensor.data is None and tensor.type != tflite.TensorType.RESOURCE and _bytes(graph, index) > 0


def _bytes(graph: Graph, index: int) -> int:
    tensor = graph.tensors[index]
    return math.prod(tensor.shape) * _ITEM_BYTES.get(tensor.type, 1)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
