"""The whole chain of conversion: deploy form in, streaming int8 .tflite and its C array out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgewake.conversion.c_array import c_array
from edgewake.conversion.float_tflite import to_float_tflite
from edgewake.conversion.int8_tflite import to_int8
from edgewake.conversion.onnx_export import export_onnx
from edgewake.conversion.ptq import calibrated, load_features
from edgewake.conversion.record import write_record
from edgewake.errors import ConfigError
from edgewake.io import write_bytes, write_text
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.simulator import IntegerModel
from edgewake.runtime.streaming import Int8Array, streaming_graphs
from edgewake.runtime.tflite_file import read_tflite, write_tflite
from edgewake.targets.esp32s3 import analyse, check_operators
from edgewake.targets.operators import operators_from_tflite

Method = Literal["qat", "ptq"]
ARRAY_NAME = "edgewake_model"
STAGES = ("onnx", "float", "int8", "streaming", "c")


@dataclass(frozen=True)
class ConversionResult:
    """What conversion left.

    Attributes:
        deployed: the model as converted; with "ptq" its ranges are the calibrated ones.
        onnx, float_tflite, windowed, streaming, source, header: the files, each with a JSON record beside it.
        operators: (operator, layer) of the streaming model's main graph in order; "" for state handling.
        unaccelerated: what runs without the ESP32-S3's vector instructions, "layer L (OP) runs as ...: why".
        seconds: time of each stage.
    """

    deployed: DeployedModel
    onnx: Path
    float_tflite: Path
    windowed: Path
    streaming: Path
    source: Path
    header: Path
    operators: list[tuple[str, str]]
    unaccelerated: list[str]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def model(self) -> bytes:
        """Bytes of the streaming .tflite."""
        return self.streaming.read_bytes()


def convert(
    model: DeployedModel | Path,
    out_dir: Path,
    quantization: Method = "qat",
    calibration: Path | None = None,
    progress: Callable[[str], None] | None = None,
    *,
    isolated: bool = True,
) -> ConversionResult:
    """Run every stage; all files go to `out_dir`.

    Args:
        model: the deploy form, or a folder that `DeployedModel.load` reads.
        out_dir: folder of the results.
        quantization: "qat" keeps the learned ranges; "ptq" measures ranges on `calibration`.
        calibration: representative features for "ptq"; see `ptq.load_features` (None: those of edgewake).
        progress: called with the name of each stage (`STAGES`) as it begins.
        isolated: run onnx2tf in a process of its own.

    Raises:
        ConfigError: an unknown method.
        MissingDependencyError: the extra `convert` is not installed.
        EdgewakeError: a stage failed; the message names the layer.
    """
    if quantization not in ("qat", "ptq"):
        raise ConfigError(f"quantization is {quantization!r}; it must be qat or ptq")
    deployed = model if isinstance(model, DeployedModel) else DeployedModel.load(model)
    folder = Path(out_dir)
    clock = _Clock(progress)
    IntegerModel(deployed)

    clock.begin("onnx")
    onnx = export_onnx(deployed, folder / "model.onnx")
    clock.begin("float")
    float_tflite = to_float_tflite(onnx, folder / "model_float.tflite", deployed, isolated=isolated)
    clock.begin("int8")
    if quantization == "ptq":
        deployed = calibrated(float_tflite, deployed, load_features(calibration))
    windowed = to_int8(float_tflite, folder / "model_windowed.tflite", deployed)
    clock.begin("streaming")
    streaming = to_streaming(windowed, folder / "model.tflite", IntegerModel(deployed).silence())
    clock.begin("c")
    source, header = write_c(streaming, folder)
    clock.end()
    return ConversionResult(
        deployed=deployed,
        onnx=onnx,
        float_tflite=float_tflite,
        windowed=windowed,
        streaming=streaming,
        source=source,
        header=header,
        operators=operators(streaming),
        unaccelerated=unaccelerated(streaming),
        seconds=clock.seconds,
    )


def to_streaming(windowed: Path, output: Path, silence: Mapping[str, Int8Array]) -> Path:
    """Write the streaming form of a windowed int8 .tflite and its JSON record; see `streaming_graphs`."""
    graphs = streaming_graphs(read_tflite(Path(windowed).read_bytes())[0], silence)
    write_bytes(output, write_tflite(graphs))
    states = {name: len(value) for name, value in silence.items()}
    operators = [operator.name for graph in graphs for operator in graph.operators]
    write_record(output, "streaming", {"windowed": windowed}, {"states": states, "operators": operators})
    return output


def write_c(tflite: Path, folder: Path, name: str = ARRAY_NAME) -> tuple[Path, Path]:
    """Write NAME.c and NAME.h for a .tflite into `folder`; see `c_array`."""
    source, header = Path(folder) / f"{name}.c", Path(folder) / f"{name}.h"
    texts = c_array(Path(tflite).read_bytes(), name)
    for path, text in zip((source, header), texts, strict=True):
        write_text(path, text)
        write_record(path, "c", {"tflite": tflite}, {"name": name})
    return source, header


def unaccelerated(tflite: Path) -> list[str]:
    """Operators that the ESP32-S3 has but does not accelerate, each with its layer and the reason.

    Raises:
        EdgewakeError: the board lacks an operator; it is named with its layer.
    """

    slow = check_operators(analyse(operators_from_tflite(tflite)))
    return [f"layer {cost.name} ({cost.op}) runs as {cost.path}: {cost.note}" for cost in slow]


def operators(tflite: Path) -> list[tuple[str, str]]:
    """(operator, layer) of a .tflite's main graph, in order; the layer is "" where no output is a layer's."""
    graph = read_tflite(Path(tflite).read_bytes())[0]
    return [
        (operator.name, graph.tensors[operator.outputs[0]].name if operator.outputs else "")
        for operator in graph.operators
    ]


class _Clock:
    """Time of each stage, and word of its beginning."""

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
