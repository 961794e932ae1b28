"""Deploy form -> ONNX opset 13 by torch: the float model over a window of steps, tensors named by layer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewake.conversion.record import write_record
from edgewake.errors import EdgewakeError, MissingDependencyError
from edgewake.io import atomic_path
from edgewake.runtime.deployed import DeployedModel, Layer

if TYPE_CHECKING:
    from torch import nn

OPSET = 13
INPUT_NAME = "features"
SPARE_STEPS = 4


def window_steps(model: DeployedModel) -> int:
    """Steps of the windowed model: enough for a few outputs, so that it slides as well as looks back."""
    return model.receptive_field_steps + SPARE_STEPS


def export_onnx(model: DeployedModel, output: Path, steps: int | None = None) -> Path:
    """Write the float model as ONNX: input [1, width, steps, 1], output [1, 1, steps - R + 1, 1].

    Args:
        model: the deploy form.
        output: the .onnx; a JSON record goes beside it.
        steps: length of the window, at least the receptive field R; by default `window_steps`.

    Raises:
        MissingDependencyError: torch or onnx is not installed.
        EdgewakeError: `steps` is less than the receptive field, or the graph is not one operator a layer.
    """
    try:
        import onnx
        import torch
    except ImportError as error:
        raise MissingDependencyError(f"conversion needs {error.name}: pip install 'edgewake[convert]'") from error
    steps = window_steps(model) if steps is None else steps
    if steps < model.receptive_field_steps:
        raise EdgewakeError(
            f"a window of {steps} steps is less than the receptive field of {model.receptive_field_steps}"
        )
    module = _module(model).eval()
    example = torch.zeros(1, model.input_width, steps, 1)
    with atomic_path(output) as temporary:
        with warnings.catch_warnings():
            # torch announces the exporter that replaces this one; onnx2tf 1.28.8 was measured with this one.
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                module,
                (example,),
                str(temporary),
                opset_version=OPSET,
                dynamo=False,
                input_names=[INPUT_NAME],
                output_names=[model.layers[-1].name],
            )
        proto = onnx.load(str(temporary))
        _name_tensors(proto.graph, model)
        onnx.checker.check_model(proto)
        onnx.save(proto, str(temporary))
    details = {"opset": OPSET, "steps": steps, "layers": [layer.name for layer in model.layers]}
    write_record(output, "onnx", {}, details, ("torch", "onnx"))
    return output


def _module(model: DeployedModel) -> nn.Module:
    """The layers as a torch module over [1, channels, steps, 1]."""
    from torch import nn

    parts: list[nn.Module] = []
    for layer in model.layers:
        parts.append(operator_module(layer))
        if layer.relu:
            parts.append(nn.ReLU())
    return nn.Sequential(*parts)


def operator_module(layer: Layer) -> nn.Module:
    """One layer as a torch module over [1, channels, steps, 1], without its ReLU."""
    import torch
    from torch import nn

    if layer.kind == "avgpool":
        # Nothing is padded; but told to count padding, onnx2tf 1.28.8 scales the result in slices by 1.0.
        return nn.AvgPool2d((layer.window, 1), stride=1, count_include_pad=False)
    if layer.kind == "logistic":
        return nn.Sigmoid()
    assert layer.weight is not None
    assert layer.bias is not None
    weight = torch.from_numpy(layer.weight.copy())
    if layer.kind == "conv1x1":
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
        values = weight[:, :, None, None]
    else:
        kernel, channels = weight.shape
        conv = nn.Conv2d(channels, channels, (kernel, 1), groups=channels)
        values = weight.T[:, None, :, None]
    with torch.no_grad():
        conv.weight.copy_(values)
        assert conv.bias is not None
        conv.bias.copy_(torch.from_numpy(layer.bias.copy()))
    return conv


def _name_tensors(graph: Any, model: DeployedModel) -> None:
    """Give every activation its layer's name, and weights NAME/weight and NAME/bias, by graph order."""
    expected = [(layer, kind) for layer in model.layers for kind in _onnx_kinds(layer)]
    if [node.op_type for node in graph.node] != [kind for _, kind in expected]:
        found = [node.op_type for node in graph.node]
        raise EdgewakeError(f"torch exported {found}, not one operator a layer; use the pinned torch")
    names: dict[str, str] = {}
    for node, (layer, kind) in zip(graph.node, expected, strict=True):
        last = kind == _onnx_kinds(layer)[-1]
        names[node.output[0]] = layer.name if last else f"{layer.name}/sum"
        node.name = names[node.output[0]]
        for role, name in zip(("weight", "bias"), node.input[1:], strict=False):
            names[name] = f"{layer.name}/{role}"
    for node in graph.node:
        for slots in (node.input, node.output):
            slots[:] = [names.get(name, name) for name in slots]
    for initializer in graph.initializer:
        initializer.name = names.get(initializer.name, initializer.name)


def _onnx_kinds(layer: Layer) -> tuple[str, ...]:
    kind = {"avgpool": "AveragePool", "logistic": "Sigmoid"}.get(layer.kind, "Conv")
    return (kind, "Relu") if layer.relu else (kind,)
