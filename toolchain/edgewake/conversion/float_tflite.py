"""ONNX -> float32 .tflite by onnx2tf, checked to be the same network, operator by operator."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from edgewake.conversion.onnx_export import INPUT_NAME
from edgewake.conversion.record import write_record
from edgewake.errors import EdgewakeError, MissingDependencyError
from edgewake.io import write_bytes
from edgewake.runtime.deployed import DeployedModel, Layer
from edgewake.runtime.tflite_file import (
    Graph,
    Operator,
    in_order_of_use,
    options,
    read_tflite,
    write_tflite,
)

Code = tflite.BuiltinOperator
OPERATORS = {
    "conv1x1": Code.CONV_2D,
    "depthwise": Code.DEPTHWISE_CONV_2D,
    "avgpool": Code.AVERAGE_POOL_2D,
    "logistic": Code.LOGISTIC,
}
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}


def to_float_tflite(onnx: Path, output: Path, model: DeployedModel, *, isolated: bool = True) -> Path:
    """Write the float32 .tflite of an exported ONNX: input [1, steps, 1, width], tensors named by layer.

    Args:
        onnx: what `export_onnx` wrote.
        output: the .tflite; a JSON record goes beside it.
        model: the deploy form it was exported from, to check and name tensors by.
        isolated: run onnx2tf in a process of its own, which keeps its logs and TensorFlow's memory away.

    Raises:
        MissingDependencyError: onnx2tf or what it needs is not installed.
        EdgewakeError: onnx2tf failed, or what it wrote is not the network that was exported.
    """
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.tflite"
        if isolated:
            _run_isolated(Path(onnx), raw)
        else:
            run_onnx2tf(Path(onnx), raw)
        graphs = read_tflite(raw.read_bytes())
    graph = checked_and_named(graphs[0], model)
    write_bytes(output, write_tflite([graph], signature=True))
    operators = [operator.name for operator in graph.operators]
    write_record(
        output,
        "float",
        {"onnx": onnx},
        {"steps": graph.tensors[graph.inputs[0]].shape[1], "operators": operators},
        ("onnx2tf", "tensorflow"),
    )
    return output


def run_onnx2tf(onnx: Path, output: Path) -> None:
    """Convert in this process, with onnx2tf's logs on stdout.

    Nothing is fetched: onnx2tf gets test images only for inputs of 3 channels, or for its own quantization.
    onnxsim is left out, as the graph has nothing to simplify.
    """
    os.environ.update(_QUIET)
    try:
        import onnx2tf
        import tensorflow as tf
    except ImportError as error:
        raise MissingDependencyError(f"conversion needs {error.name}: pip install 'edgewake[convert]'") from error
    with tempfile.TemporaryDirectory() as folder:
        # onnx2tf may rewrite its input, so it gets a copy.
        copy = Path(folder) / "model.onnx"
        copy.write_bytes(onnx.read_bytes())
        # onnx2tf would save constants as JSON too, minutes for 11 million weights, which nobody reads.
        model = onnx2tf.convert(
            input_onnx_file_path=str(copy),
            output_folder_path=folder,
            not_use_onnxsim=True,
            non_verbose=True,
            verbosity="error",
            disable_model_save=True,
        )
    signature = [tf.TensorSpec(value.shape, value.dtype, value.name) for value in model.inputs]
    function = tf.function(lambda *inputs: model(inputs), input_signature=signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    output.write_bytes(converter.convert())


def convert_onnx(onnx: Path, output: Path) -> Path:
    """Write the float32 .tflite of any ONNX of static shape, as onnx2tf makes it; in a process of its own.

    Raises:
        MissingDependencyError: onnx2tf or what it needs is not installed.
        EdgewakeError: onnx2tf failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.tflite"
        _run_isolated(Path(onnx), raw)
        graphs = read_tflite(raw.read_bytes())
    write_bytes(output, write_tflite([in_order_of_use(graph) for graph in graphs], signature=True))
    return output


def _run_isolated(onnx: Path, output: Path) -> None:
    command = [sys.executable, "-m", "edgewake.conversion.float_tflite", str(onnx), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | _QUIET)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        if "MissingDependencyError" in reason:
            raise MissingDependencyError(reason.split(": ", 1)[-1])
        raise EdgewakeError(f"onnx2tf cannot convert {onnx.name}: {reason}; is the pinned set installed?")


def checked_and_named(graph: Graph, model: DeployedModel) -> Graph:
    """The graph with tensors named by layer, after checking that it is `model`'s network, weight for weight.

    Raises:
        EdgewakeError: names the first layer that became something else.
    """
    found = [operator.code for operator in graph.operators]
    if found != [OPERATORS[layer.kind] for layer in model.layers]:
        made = [operator.name for operator in graph.operators]
        raise EdgewakeError(f"onnx2tf made {made}, not one operator a layer; use the pinned versions")
    names = {graph.inputs[0]: INPUT_NAME}
    operators = []
    source = graph.inputs[0]
    for operator, layer in zip(graph.operators, model.layers, strict=True):
        weights = _same_weights(graph, operator, layer)
        if operator.inputs[0] != source or not weights or not _same_options(operator, layer):
            raise EdgewakeError(
                f"onnx2tf changed layer {layer.name} ({operator.name}, {operator.options}); use the pinned versions"
            )
        operators.append(replace(operator, options=layer_options(layer)))
        source = operator.outputs[0]
        names[source] = layer.name
        for role, index in zip(("weight", "bias"), operator.inputs[1:], strict=False):
            names[index] = f"{layer.name}/{role}"
    tensors = [replace(tensor, name=names.get(index, "")) for index, tensor in enumerate(graph.tensors)]
    return in_order_of_use(Graph(tensors, operators, graph.inputs, graph.outputs))


def _same_weights(graph: Graph, operator: Operator, layer: Layer) -> bool:
    if layer.weight is None:
        return True
    assert layer.bias is not None
    weight, bias = (graph.tensors[index].array() for index in operator.inputs[1:])
    return bool(np.array_equal(weight, file_layout(layer, layer.weight)) and np.array_equal(bias, layer.bias))


def _same_options(operator: Operator, layer: Layer) -> bool:
    """Equality of options; over a single step nothing is padded whether it is called SAME or VALID."""
    found = operator.options
    if found is not None and layer.history == 0:
        found = found[0], found[1] | {"Padding": tflite.Padding.VALID}
    return found == layer_options(layer)


def layer_options(layer: Layer) -> tuple[str, dict[str, Any]] | None:
    """A layer's operator options: valid padding, stride 1, a fused ReLU; everything else is the default."""
    if layer.kind == "logistic":
        return None
    fields: dict[str, Any] = {"Padding": tflite.Padding.VALID, "StrideW": 1, "StrideH": 1}
    if layer.relu:
        fields["FusedActivationFunction"] = tflite.ActivationFunctionType.RELU
    if layer.kind == "avgpool":
        return options("Pool2DOptions", **fields, FilterWidth=1, FilterHeight=layer.window)
    if layer.kind == "depthwise":
        return options("DepthwiseConv2DOptions", **fields, DepthMultiplier=1)
    return options("Conv2DOptions", **fields)


def file_layout(layer: Layer, weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A weight as the .tflite holds it: conv1x1 (out, 1, 1, in), depthwise (1, k, 1, channels)."""
    return weight[:, None, None, :] if layer.kind == "conv1x1" else weight[None, :, None, :]


if __name__ == "__main__":
    run_onnx2tf(Path(sys.argv[1]), Path(sys.argv[2]))
