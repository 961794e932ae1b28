"""The deploy form through torch, ONNX, onnx2tf and ai-edge-quantizer, checked at every stage to stay the same network.

Everything here needs the extra `convert`; without it, runtime/streaming.py makes the same windowed model.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tflite

from edgewake.errors import EdgewakeError, MissingDependencyError
from edgewake.io import atomic_path, write_bytes
from edgewake.runtime.deployed import DeployedModel, Layer
from edgewake.runtime.streaming import INPUT_NAME, file_layout, window_steps, windowed_graph
from edgewake.runtime.tflite_file import SIGNATURE, Graph, Tensor, in_order_of_use, read_tflite, write_tflite

if TYPE_CHECKING:
    from torch import nn

OPSET = 13
PACKAGES = ("torch", "onnx", "onnx2tf", "tensorflow", "tf_keras", "ai_edge_quantizer")
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}


def has_converters() -> bool:
    """Whether the packages of the chain are installed (the extra `convert`)."""
    return all(find_spec(name) is not None for name in PACKAGES)


@contextlib.contextmanager
def needing(what: str) -> Iterator[None]:
    """Name the extra where an import in the block fails."""
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(f"{what} needs {error.name}: pip install 'edgewake[convert]'") from error


def versions(*packages: str) -> dict[str, Any]:
    """Versions of installed distributions, for the record of a stage."""
    return {"tools": {name: metadata.version(name) for name in packages}}


def export_onnx(model: DeployedModel, output: Path) -> dict[str, Any]:
    """Write the float model as ONNX: input [1, width, S, 1], output [1, 1, S - R + 1, 1]; returns versions of tools."""
    with needing("conversion"):
        from torch import nn
    module = nn.Sequential()
    for layer in model.layers:
        module.add_module(layer.name, operator_module(layer))
        if layer.relu:
            module.add_module(f"{layer.name}_relu", nn.ReLU())
    shape = (1, model.input_width, window_steps(model), 1)
    write_onnx(module.eval(), shape, output, OPSET, model.layers[-1].name)
    return versions("torch", "onnx")


def write_onnx(
    module: nn.Module, shape: tuple[int, ...], output: Path, opset: int, result: str, *, batches: bool = False
) -> None:
    """Write a module as ONNX, from "features" of `shape` (of any first axis, with `batches`) to `result`."""
    with needing("conversion"):
        import onnx  # noqa: F401  torch's exporter needs it
        import torch
    with atomic_path(output) as temporary, warnings.catch_warnings():
        # torch warns of its newer exporter (onnx2tf 1.28.8 was measured with this one), and of constant sizes.
        warnings.simplefilter("ignore")
        axes = {INPUT_NAME: {0: "batch"}, result: {0: "batch"}} if batches else None
        names: dict[str, Any] = {"input_names": [INPUT_NAME], "output_names": [result], "dynamic_axes": axes}
        given = (torch.zeros(shape),)
        torch.onnx.export(module, given, str(temporary), opset_version=opset, dynamo=False, **names)


def operator_module(layer: Layer) -> nn.Module:
    """One layer as a torch module over [1, channels, steps, 1], without its ReLU."""
    from torch import nn

    if layer.kind == "avgpool":
        # Nothing is padded; but told to count padding, onnx2tf 1.28.8 scales the result in slices by 1.0.
        return nn.AvgPool2d((layer.window, 1), stride=1, count_include_pad=False)
    assert layer.weight is not None
    assert layer.bias is not None
    if layer.kind == "conv1x1":
        return convolution(layer.weight[:, :, None, None], layer.bias)
    return convolution(layer.weight.T[:, None, :, None], layer.bias, groups=layer.weight.shape[1])


def convolution(weight: Any, bias: Any, dilation: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution along time with these weights, (out, in / groups, k, 1), and bias."""
    import torch
    from torch import nn

    out, channels, kernel, _ = weight.shape
    made = nn.Conv2d(channels * groups, out, (kernel, 1), dilation=(dilation, 1), groups=groups)
    assert made.bias is not None
    with torch.no_grad():
        made.weight.copy_(torch.as_tensor(weight))
        made.bias.copy_(torch.as_tensor(bias))
    return made


def to_float_tflite(onnx: Path, output: Path, model: DeployedModel) -> dict[str, Any]:
    """Write the float32 .tflite of an exported ONNX: input [1, steps, 1, width], tensors named by layer.

    Returns versions of tools; the graph is checked to be that of `model`.
    """
    write_bytes(output, write_tflite([checked_and_named(onnx_graphs(onnx)[0], model)], signature=True))
    return versions("onnx2tf", "tensorflow")


def onnx_graphs(onnx: Path) -> list[Graph]:
    """Any ONNX of static shape as onnx2tf makes a float32 .tflite of it.

    onnx2tf runs in a process of its own, which keeps its logs and TensorFlow's memory away.
    """
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.tflite"
        command = [sys.executable, "-m", "edgewake.conversion.chain", str(onnx), str(raw)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | _QUIET)
        if done.returncode:
            lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            reason = lines[-1] if lines else f"exit code {done.returncode}"
            raise EdgewakeError(f"onnx2tf cannot convert {onnx.name}: {reason}; is the pinned set installed?")
        return read_tflite(raw.read_bytes())


def run_onnx2tf(onnx: Path, output: Path) -> None:
    """Convert in this process, with onnx2tf's logs on stdout.

    Nothing is fetched: onnx2tf gets test images only for inputs of 3 channels, or for its own quantization.
    """
    os.environ.update(_QUIET)
    with needing("conversion"):
        import onnx2tf
        import tensorflow as tf
    with tempfile.TemporaryDirectory() as folder:
        # onnx2tf may rewrite its input, so it gets a copy.
        copy = Path(folder) / "model.onnx"
        copy.write_bytes(onnx.read_bytes())
        given = {"input_onnx_file_path": str(copy), "output_folder_path": folder}
        # Not saved, as onnx2tf would write constants as JSON too, minutes for 11 million weights.
        quiet = {"not_use_onnxsim": True, "non_verbose": True, "verbosity": "error", "disable_model_save": True}
        model = onnx2tf.convert(**given, **quiet)
    signature = [tf.TensorSpec(value.shape, value.dtype, value.name) for value in model.inputs]
    function = tf.function(lambda *inputs: model(inputs), input_signature=signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    output.write_bytes(converter.convert())


def float_graph(model: DeployedModel) -> Graph:
    """`windowed_graph` with the weights and biases of the deploy form, and no quantization."""
    graph, data = windowed_graph(model), {}
    for layer in model.layers:
        if layer.weight is not None and layer.bias is not None:
            data[f"{layer.name}/weight"] = np.ascontiguousarray(file_layout(layer, layer.weight)).tobytes()
            data[f"{layer.name}/bias"] = layer.bias.tobytes()
    kind = tflite.TensorType.FLOAT32
    return replace(graph, tensors=[Tensor(each.name, each.shape, kind, data.get(each.name)) for each in graph.tensors])


def checked_and_named(graph: Graph, model: DeployedModel) -> Graph:
    """`float_graph`, after checking that onnx2tf's graph is the same, weight for weight; an error names the layer."""
    found, expected = in_order_of_use(graph), float_graph(model)
    made, wanted = ([operator.name for operator in values.operators] for values in (found, expected))
    if made != wanted:
        raise EdgewakeError(f"onnx2tf made {made}, not one operator a layer; use the pinned versions")
    for one, other, layer in zip(found.operators, expected.operators, model.layers, strict=True):
        options = one.options
        if options is not None and layer.history == 0:
            # Over a single step nothing is padded, whether it is called SAME or VALID.
            options = options[0], options[1] | {"Padding": tflite.Padding.VALID}
        indices = zip((*one.inputs, *one.outputs), (*other.inputs, *other.outputs), strict=False)
        pairs = [(found.tensors[made], expected.tensors[wanted]) for made, wanted in indices]
        same = all(replace(made, name=wanted.name, quantization=None) == wanted for made, wanted in pairs)
        if not same or (one.inputs, options) != (other.inputs, other.options):
            raise EdgewakeError(
                f"onnx2tf changed layer {layer.name} ({one.name}, {one.options}); use the pinned versions"
            )
    return expected


def to_int8(float_tflite: Path, output: Path, model: DeployedModel) -> dict[str, Any]:
    """Write the int8 .tflite with the learned ranges; input and output are int8 as well.

    ai-edge-quantizer gets the learned ranges as its calibration result, with min and max in float64, from
    which it computes the learned scale exactly. Where it deviates all the same (docs/conversion.md lists the cases),
    the number of `windowed_graph` is written.

    Returns versions of tools, and the deviating tensors under `corrected`.
    """
    expected = windowed_graph(model)
    shape = (1, 1, 1, 1)
    named = {INPUT_NAME: model.input} | {layer.name: layer.output for layer in model.layers}
    ranges = {name: {"min": np.full(shape, q.low), "max": np.full(shape, q.high)} for name, q in named.items()}
    found = read_tflite(quantized(float_tflite.read_bytes(), ranges))[0]
    write_bytes(output, write_tflite([expected]))
    return versions("ai-edge-quantizer") | {"corrected": differing_tensors(in_order_of_use(found), expected)}


def differing_tensors(found: Graph, expected: Graph) -> list[str]:
    """Names of the tensors whose numbers differ, after checking that both graphs are the same network in int8."""
    if found.operators != expected.operators:
        names = [operator.name for operator in found.operators]
        raise EdgewakeError(f"the int8 model is {names}, not one operator a layer; use the pinned versions")
    pairs = list(zip(found.tensors, expected.tensors, strict=True))
    for one, other in pairs:
        if (one.type, one.shape) != (other.type, other.shape):
            raise EdgewakeError(f"tensor {other.name} is not quantized as it must; use the pinned versions")
    return [other.name for one, other in pairs if (one.data, one.quantization) != (other.data, other.quantization)]


def quantized(data: bytes, ranges: Mapping[str, Any] | None = None, inputs: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """A float .tflite by ai-edge-quantizer's static_wi8_ai8, with such `ranges` or calibrated on `inputs`."""
    with needing("conversion"):
        from ai_edge_quantizer import quantizer, recipe
    with quietly():
        made = quantizer.Quantizer(bytearray(data), recipe.static_wi8_ai8())
        if ranges is None:
            ranges = made.calibrate({SIGNATURE: list(inputs)}, num_threads=1)
        return bytes(made.quantize(dict(ranges), enable_progress_report=False).quantized_model)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Drop what the LiteRT runtime writes to stderr, and warnings."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere, warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


if __name__ == "__main__":
    run_onnx2tf(Path(sys.argv[1]), Path(sys.argv[2]))
