"""A streaming int8 .tflite as C99 that gives TFLM's bytes: constants in reading order, ring buffers, one function."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from edgewake.config.defaults import TargetConfig
from edgewake.errors import EdgewakeError
from edgewake.runtime.fixedpoint import quantize_multiplier
from edgewake.runtime.integers import IntegerLayer
from edgewake.runtime.streaming import verify
from edgewake.runtime.tflite_file import read_tflite

ALIGNMENT = 16
# ESP-NN's vector loads go up to 32 bytes beyond what they use.
READ_BEYOND = 32
OPERATORS = {"conv1x1": "CONV_2D 1x1", "depthwise": "DEPTHWISE_CONV_2D", "avgpool": "AVERAGE_POOL_2D"}
# The layers, and what keeps their state in a .tflite.
_KNOWN = {
    "CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE",
    "CONCATENATION", "STRIDED_SLICE",
}  # fmt: skip


def c_templates(folder: Path) -> jinja2.Environment:
    """The templates of C sources in a folder."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=False,  # C, not HTML
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


_TEMPLATES = c_templates(Path(__file__).parent)


@dataclass(frozen=True)
class NetworkLayer:
    """One layer as the templates write it: `steps` of `inputs` channels to `outputs`; lists of plain integers.

    `ring`: its latest inputs are kept in a ring of `steps`, filled with `silence` at reset.
    """

    index: int
    kind: str
    text: str
    steps: int
    inputs: int
    outputs: int
    levels: Sequence[int] = ()
    weights: Sequence[int] = ()
    bias: Sequence[int] = ()
    multiplier: Sequence[int] = ()
    shift: Sequence[int] = ()
    silence: Sequence[int] = ()

    @property
    def weighted(self) -> bool:
        """Whether it has weights."""
        return bool(self.weights)

    @property
    def weight_count(self) -> int:
        return len(self.weights)

    @property
    def ring(self) -> bool:
        return self.steps > 1

    @property
    def constant_bytes(self) -> int:
        """Of levels, weights, bias, multiplier and shift, each aligned."""
        return ALIGNMENT + _aligned(self.weight_count) + 3 * _aligned(4 * self.outputs) if self.weighted else 0


@dataclass(frozen=True)
class Network:
    """A model as the C backend writes it, and the bytes that it takes."""

    sha256: str
    width: int
    layers: tuple[NetworkLayer, ...]

    @property
    def rings(self) -> list[NetworkLayer]:
        """Layers with a ring."""
        return [layer for layer in self.layers if layer.ring]

    @property
    def widest(self) -> int:
        """The most channels that a layer takes or gives."""
        return max(max(layer.inputs, layer.outputs) for layer in self.layers)

    @property
    def window_bytes(self) -> int:
        """The most values that a depthwise convolution takes."""
        return max((layer.steps * layer.inputs for layer in self.layers if layer.kind == "depthwise"), default=1)

    @property
    def work_bytes(self) -> int:
        """One of the two buffers between layers."""
        return _aligned(max(layer.outputs for layer in self.layers))

    @property
    def constant_bytes(self) -> int:
        """sizeof(ew_network_constants_t): flash of the model."""
        silence = sum(_aligned(layer.inputs) for layer in self.rings)
        return sum(layer.constant_bytes for layer in self.layers) + silence + READ_BEYOND

    @property
    def state_bytes(self) -> int:
        """sizeof(ew_network_t): RAM of the model."""
        rings = sum(_aligned(layer.steps * layer.inputs) for layer in self.rings)
        return rings + 2 * self.work_bytes + _aligned(4 * len(self.rings))


def read_network(model: bytes) -> Network:
    """The network of a streaming .tflite.

    Raises:
        EdgewakeError: an operator that the backend lacks, by name; or `streaming.verify` refuses the file.
    """
    for graph in read_tflite(model):
        for operator in graph.operators:
            if operator.name not in _KNOWN:
                raise EdgewakeError(
                    f"the C backend has no kernel for {operator.name}; it has {', '.join(OPERATORS.values())}: "
                    "build with --backend tflm"
                )
    given = verify(model)
    layers, width = [], given.width
    for index, numbers in enumerate(given.layers):
        silence = given.silence.get(numbers.layer.name, np.zeros(0, np.int8))
        layers.append(_layer(index, numbers, width, silence.tolist()))
        width = layers[-1].outputs
    return Network(hashlib.sha256(model).hexdigest(), given.width, tuple(layers))


def _layer(index: int, numbers: IntegerLayer, width: int, silence: list[int]) -> NetworkLayer:
    layer, weight, bias = numbers.layer, numbers.weight, numbers.bias
    outputs, steps = width if bias is None else len(bias), layer.history + 1
    name = re.sub(r"[^\w ./-]", "?", layer.name)
    text = f"{name}, {OPERATORS[layer.kind]}, {steps} x {width} -> {outputs}{', ReLU' if layer.relu else ''}"
    common = (index, layer.kind, text, steps, width, outputs)
    if weight is None or bias is None or numbers.weight_scale is None:
        return NetworkLayer(*common, silence=silence)
    # float64 throughout, as TFLM's PopulateConvolutionQuantizationParams computes it.
    scales = float(numbers.input.scale) * numbers.weight_scale.astype(np.float64) / float(layer.output.scale)
    multiplier, shift = zip(*map(quantize_multiplier, scales.tolist()), strict=True)
    zero_point = layer.output.zero_point
    levels = (-numbers.input.zero_point, zero_point, zero_point if layer.relu else -128, 0)
    return NetworkLayer(*common, levels, weight.reshape(-1).tolist(), bias.tolist(), multiplier, shift, silence)


def network_sources(network: Network, limits: TargetConfig | None = None) -> dict[str, str]:
    """Sources by file name: ew_network.c and .h, and ew_kernels.h; equal networks give equal bytes.

    With the `limits` of a target, sizes beyond them do not compile.
    """
    names = ("ew_network.c", "ew_network.h", "ew_kernels.h")
    return {name: render(name, network, limits) for name in names}


def render(name: str, network: Network, limits: TargetConfig | None = None) -> str:
    """One file of the templates in this package."""
    return _TEMPLATES.get_template(f"{name}.j2").render(network=network, limits=limits)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
