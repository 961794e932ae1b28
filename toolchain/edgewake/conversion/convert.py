"""Deploy form in, streaming int8 .tflite and its C array out: by the chain of converters, or without any.

Both ways give the same bytes. `convert` runs the chain where its packages (the extra `convert`) are installed, so
that every conversion there proves it again; a base install makes the windowed model directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgewake.calibration import load_features
from edgewake.conversion.c_source import c_array
from edgewake.conversion.chain import export_onnx, has_converters, to_float_tflite, to_int8
from edgewake.conversion.ptq import calibrated
from edgewake.errors import ConfigError
from edgewake.io import sha256_file, write_bytes, write_text
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.streaming import streaming_graphs, windowed_tflite
from edgewake.runtime.tflite_file import write_tflite

Method = Literal["qat", "ptq"]
ARRAY_NAME = "edgewake_model"
MODEL, WINDOWED, FLOAT, ONNX = "model.tflite", "model_windowed.tflite", "model_float.tflite", "model.onnx"


@dataclass(frozen=True)
class Conversion:
    """A converted model, with calibrated ranges after "ptq", and the folder of its files.

    `stages` tells what each stage wrote: `file`, `sha256`, `bytes`, `seconds`, and more that it has to report.
    """

    deployed: DeployedModel
    folder: Path
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def model(self) -> bytes:
        """The streaming .tflite."""
        return (self.folder / MODEL).read_bytes()

    @property
    def windowed(self) -> bytes:
        """The windowed .tflite."""
        return (self.folder / WINDOWED).read_bytes()


def stages(chain: bool | None = None) -> tuple[str, ...]:
    """Names of the stages of `convert`, in order."""
    return (("onnx", "float") if (has_converters() if chain is None else chain) else ()) + ("int8", "streaming", "c")


def convert(
    model: DeployedModel | Path,
    out_dir: Path,
    quantization: Method = "qat",
    features: Sequence[npt.NDArray[np.uint16]] | None = None,
    progress: Callable[[str], None] = lambda stage: None,
    *,
    chain: bool | None = None,
) -> Conversion:
    """Run every stage; all files go to `out_dir`. An error of a stage names the layer.

    Args:
        model: the deploy form, or a folder that `DeployedModel.load` reads.
        quantization: "qat" keeps the learned ranges; "ptq" measures ranges on `features`.
        features: recordings for "ptq", (frames, channels) uint16 each; None: edgewake's calibration audio.
        progress: called with the name of each stage (see `stages`) as it begins.
        chain: run the converters; None: where they are installed.
    """
    if quantization not in ("qat", "ptq"):
        raise ConfigError(f"quantization is {quantization!r}; it must be qat or ptq")
    deployed = model if isinstance(model, DeployedModel) else DeployedModel.load(model)
    if quantization == "ptq":
        deployed = calibrated(deployed, [load_features()] if features is None else features)
    graphs = streaming_graphs(deployed)
    folder = Path(out_dir)
    found: dict[str, dict[str, Any]] = {}

    def run(stage: str, file: str, make: Callable[[Path], dict[str, Any] | None]) -> None:
        progress(stage)
        began, path = time.perf_counter(), folder / file
        details = make(path) or {}
        seconds = round(time.perf_counter() - began, 2)
        found[stage] = {"file": file, "sha256": sha256_file(path), "bytes": path.stat().st_size, "seconds": seconds}
        found[stage] |= details

    def array(path: Path) -> None:
        source, header = c_array((folder / MODEL).read_bytes(), ARRAY_NAME)
        write_text(path, source)
        write_text(path.with_suffix(".h"), header)

    if has_converters() if chain is None else chain:
        run("onnx", ONNX, lambda path: export_onnx(deployed, path))
        run("float", FLOAT, lambda path: to_float_tflite(folder / ONNX, path, deployed))
        run("int8", WINDOWED, lambda path: to_int8(folder / FLOAT, path, deployed))
    else:
        run("int8", WINDOWED, lambda path: write_bytes(path, windowed_tflite(deployed)))
        found["int8"]["how"] = "without converters"
    run("streaming", MODEL, lambda path: write_bytes(path, write_tflite(graphs)))
    layers = ((each, graphs[0].tensors[each.outputs[0]].name if each.outputs else "") for each in graphs[0].operators)
    found["streaming"]["operators"] = [{"operator": operator.name, "layer": layer} for operator, layer in layers]
    run("c", f"{ARRAY_NAME}.c", array)
    return Conversion(deployed, folder, found)
