"""Deploy form in, streaming int8 .tflite and its C array out: by the chain of converters, or without any.

Both ways give the same bytes. `convert` runs the chain where its packages (the extra `convert`) are installed, so
that every conversion there proves it again; a base install makes the windowed model directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgewake.calibration import load_features
from edgewake.conversion.c_array import c_array
from edgewake.conversion.chain import export_onnx, has_converters, to_float_tflite, to_int8
from edgewake.conversion.direct import windowed_tflite
from edgewake.conversion.ptq import calibrated
from edgewake.conversion.record import write_record
from edgewake.errors import ConfigError
from edgewake.io import write_bytes, write_text
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.simulator import IntegerModel
from edgewake.runtime.streaming import streaming_graphs
from edgewake.runtime.tflite_file import read_tflite, write_tflite

Method = Literal["qat", "ptq"]
ARRAY_NAME = "edgewake_model"
MODEL, WINDOWED, FLOAT, ONNX = "model.tflite", "model_windowed.tflite", "model_float.tflite", "model.onnx"


@dataclass(frozen=True)
class ConversionResult:
    """What conversion left.

    Attributes:
        deployed: the model as converted; with "ptq" its ranges are the calibrated ones.
        windowed, streaming, source, header: the files, each with a JSON record beside it.
        float_tflite: the float model that the chain of converters made; None without them.
        seconds: time of each stage.
    """

    deployed: DeployedModel
    windowed: Path
    streaming: Path
    source: Path
    header: Path
    float_tflite: Path | None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def model(self) -> bytes:
        """Bytes of the streaming .tflite."""
        return self.streaming.read_bytes()

    @property
    def operators(self) -> list[tuple[str, str]]:
        """(operator, layer) of the streaming model's main graph in order; the layer is "" for state handling."""
        graph = read_tflite(self.model)[0]
        return [(op.name, graph.tensors[op.outputs[0]].name if op.outputs else "") for op in graph.operators]


def stages(chain: bool | None = None) -> tuple[str, ...]:
    """Names of the stages of `convert`, in order."""
    return (("onnx", "float") if (has_converters() if chain is None else chain) else ()) + ("int8", "streaming", "c")


def convert(
    model: DeployedModel | Path,
    out_dir: Path,
    quantization: Method = "qat",
    features: Sequence[npt.NDArray[np.uint16]] | None = None,
    progress: Callable[[str], None] | None = None,
    *,
    chain: bool | None = None,
    isolated: bool = True,
) -> ConversionResult:
    """Run every stage; all files go to `out_dir`.

    Args:
        model: the deploy form, or a folder that `DeployedModel.load` reads.
        out_dir: folder of the results.
        quantization: "qat" keeps the learned ranges; "ptq" measures ranges on `features`.
        features: recordings for "ptq", (frames, channels) uint16 each; None: edgewake's calibration audio.
        progress: called with the name of each stage (see `stages`) as it begins.
        chain: run the converters; None: where they are installed.
        isolated: run onnx2tf in a process of its own.

    Raises:
        ConfigError: an unknown method.
        MissingDependencyError: the chain is asked for and the extra `convert` is not installed.
        EdgewakeError: a stage failed; the message names the layer.
    """
    if quantization not in ("qat", "ptq"):
        raise ConfigError(f"quantization is {quantization!r}; it must be qat or ptq")
    deployed = model if isinstance(model, DeployedModel) else DeployedModel.load(model)
    if quantization == "ptq":
        deployed = calibrated(deployed, [load_features()] if features is None else features)
    silence = IntegerModel(deployed).silence()
    folder = Path(out_dir)
    windowed, streaming, float_tflite = folder / WINDOWED, folder / MODEL, None
    clock = _Clock(progress)
    if has_converters() if chain is None else chain:
        clock.begin("onnx")
        onnx = export_onnx(deployed, folder / ONNX)
        clock.begin("float")
        float_tflite = to_float_tflite(onnx, folder / FLOAT, deployed, isolated=isolated)
        clock.begin("int8")
        to_int8(float_tflite, windowed, deployed)
    else:
        clock.begin("int8")
        write_bytes(windowed, windowed_tflite(deployed))
        write_record(windowed, "int8", {}, {"how": "without converters"})
    clock.begin("streaming")
    graphs = streaming_graphs(read_tflite(windowed.read_bytes())[0], silence)
    write_bytes(streaming, write_tflite(graphs))
    operators = [operator.name for graph in graphs for operator in graph.operators]
    states = {name: len(value) for name, value in silence.items()}
    write_record(streaming, "streaming", {"windowed": windowed}, {"states": states, "operators": operators})
    clock.begin("c")
    source, header = _write_c(streaming, folder)
    clock.end()
    return ConversionResult(deployed, windowed, streaming, source, header, float_tflite, clock.seconds)


def _write_c(tflite: Path, folder: Path) -> tuple[Path, Path]:
    """Write the C array of a .tflite into `folder`; see `c_array`."""
    source, header = folder / f"{ARRAY_NAME}.c", folder / f"{ARRAY_NAME}.h"
    texts = c_array(tflite.read_bytes(), ARRAY_NAME)
    for path, text in zip((source, header), texts, strict=True):
        write_text(path, text)
        write_record(path, "c", {"tflite": tflite}, {"name": ARRAY_NAME})
    return source, header


class _Clock:
    """Time of each stage, reported as it begins."""

    def __init__(self, progress: Callable[[str], None] | None) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self._stage = ""
        self._since = 0.0

    def begin(self, stage: str) -> None:
        self.end()
        self._stage, self._since = stage, time.perf_counter()
        if self.progress is not None:
            self.progress(stage)

    def end(self) -> None:
        if self._stage:
            self.seconds[self._stage] = time.perf_counter() - self._since
        self._stage = ""
