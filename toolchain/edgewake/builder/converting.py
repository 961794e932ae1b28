"""The stages that make a .tflite, with learned or with calibrated ranges, and `edgewake convert`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgewake.builder.source import Source, calibration_features, calibration_files, load_source
from edgewake.cache import Cache, Entry
from edgewake.calibration import default_folder
from edgewake.console import steps
from edgewake.conversion.convert import Method, convert, stages
from edgewake.conversion.ptq import calibrated
from edgewake.io import check_output_folder, sha256_file

MODEL = "model.tflite"


def convert_stage(cache: Cache, source: Source) -> Entry:
    """The .tflite with the learned ranges, and all that led to it; `deployed` in its folder is the model."""

    def make(folder: Path) -> dict[str, Any]:

        result = convert(source.folder, folder)
        result.deployed.save(folder / "deployed")
        return {"bytes": len(result.model)}

    inputs = [source.folder / "weights.safetensors"]
    return cache.get("convert", source.network, make, code=[__name__], inputs=inputs)


def ptq_stage(cache: Cache, source: Source, calibration: Path) -> Entry:
    """The same weights with ranges from calibration audio: the baseline that learned ranges have to beat."""

    def make(folder: Path) -> dict[str, Any]:

        found = calibrated(source.deployed, [calibration_features(calibration, source.frontend)])
        result = convert(found, folder, chain=False)
        found.save(folder / "deployed")
        return {"bytes": len(result.model)}

    return cache.get(
        "calibrate",
        {"frontend": source.frontend.hash(), **source.network},
        make,
        code=[__name__],
        inputs=[source.folder / "weights.safetensors", *calibration_files(calibration)],
    )


def run_conversion(
    model: Path, out: Path, *, quantization: Method = "qat", calibration: Path | None = None
) -> dict[str, Any]:
    """`edgewake convert`: every file of the conversion in `out`, each with its record; returns a summary.

    Raises:
        EdgewakeError: what the conversion raises; it names the layer.
    """

    check_output_folder(out, ("model.tflite.json", "model.onnx.json"), "conversion")
    source = load_source(model)
    features = None
    if quantization == "ptq":
        features = [calibration_features(calibration or default_folder(), source.frontend)]
    with steps(stages()) as done:
        result = convert(source.folder, out, quantization, features, _after_first(done))
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
