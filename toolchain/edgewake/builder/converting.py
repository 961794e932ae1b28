"""The stages that make a .tflite, with learned or with calibrated ranges, and `edgewake convert`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgewake.builder.source import Source, calibration_features, calibration_files, load_source
from edgewake.cache import Cache, Entry
from edgewake.calibration import default_folder
from edgewake.console import steps
from edgewake.conversion.convert import STAGES, convert, to_streaming
from edgewake.conversion.int8_tflite import to_int8
from edgewake.conversion.ptq import calibrated
from edgewake.io import atomic_path, check_output_folder, sha256_file
from edgewake.runtime.simulator import IntegerModel

MODEL = "model.tflite"


def convert_stage(cache: Cache, source: Source) -> Entry:
    """The .tflite with the learned ranges, and all that led to it; `deployed` in its folder is the model."""

    def make(folder: Path) -> dict[str, Any]:

        result = convert(source.folder, folder)
        result.deployed.save(folder / "deployed")
        return {"bytes": len(result.model)}

    inputs = [source.folder / "weights.safetensors"]
    return cache.get("convert", source.network, make, code=[__name__], inputs=inputs)


def ptq_stage(cache: Cache, source: Source, converted: Entry, calibration: Path) -> Entry:
    """The same weights with ranges from calibration audio: the baseline that learned ranges have to beat.

    Starts at the float .tflite of `convert_stage`, and leaves the same files.
    """

    def make(folder: Path) -> dict[str, Any]:

        float_tflite = converted.folder / "model_float.tflite"
        found = calibrated(float_tflite, source.deployed, [calibration_features(calibration, source.frontend)])
        windowed = to_int8(float_tflite, folder / "model_windowed.tflite", found)
        streaming = to_streaming(windowed, folder / MODEL, IntegerModel(found).silence())
        found.save(folder / "deployed")
        return {"bytes": streaming.stat().st_size}

    return cache.get(
        "calibrate",
        {"frontend": source.frontend.hash(), **source.network},
        make,
        code=[__name__],
        inputs=[
            converted.folder / "model_float.tflite",
            source.folder / "weights.safetensors",
            *calibration_files(calibration),
        ],
    )


def run_conversion(
    model: Path, out: Path, *, quantization: str = "qat", calibration: Path | None = None
) -> dict[str, Any]:
    """`edgewake convert`: every file of the conversion in `out`, each with its record; returns a summary.

    Raises:
        EdgewakeError: what the conversion raises; it names the layer.
    """

    check_output_folder(out, ("model.tflite.json", "model.onnx.json"), "conversion")
    source = load_source(model)
    given = None
    if quantization == "ptq":
        given = Path(out) / "features.npz"
        found = calibration_features(calibration or default_folder(), source.frontend)
        with atomic_path(given) as path:
            np.savez_compressed(path, features=found)
    with steps(STAGES) as done:
        result = convert(source.folder, out, quantization, given, _after_first(done))  # type: ignore[arg-type]
    return {
        "quantization": quantization,
        "model": str(result.streaming),
        "sha256": sha256_file(result.streaming),
        "bytes": result.streaming.stat().st_size,
        "operators": [{"operator": operator, "layer": layer} for operator, layer in result.operators],
        "seconds": {stage: round(seconds, 2) for stage, seconds in result.seconds.items()},
    }


def _after_first(done: Callable[[], None]) -> Callable[[str], None]:
    """conversion tells when a stage begins, which ends the one before."""
    begun: list[str] = []

    def begin(stage: str) -> None:
        if begun:
            done()
        begun.append(stage)

    return begin
