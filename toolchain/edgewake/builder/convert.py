"""The converted model of a build, with learned or with calibrated ranges, and `edgewake convert`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.builder.model_folder import ModelFolder, calibration_features, calibration_files, load_model_folder
from edgewake.cache import Cache
from edgewake.calibration import default_folder
from edgewake.console import bar
from edgewake.conversion.convert import MODEL, WINDOWED, Conversion, Method, convert, stages
from edgewake.io import check_output_folder, write_json
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.events import probabilities, smooth_probabilities
from edgewake.runtime.simulator import IntegerModel, float_probabilities, model_input

RECORD = "conversion.json"


def conversion_files(converted: Conversion) -> list[Path]:
    """The streaming .tflite, the windowed one and the deployed weights: what decides the model's output."""
    return [converted.folder / name for name in (MODEL, WINDOWED, "deployed/weights.safetensors")]


def cached_conversion(cache: Cache, source: ModelFolder, quantization: Method, calibration: Path) -> Conversion:
    """The .tflite with learned ranges ("qat") or with ranges from the calibration audio ("ptq")."""

    def make(folder: Path) -> None:
        features = [calibration_features(calibration, source.frontend)]
        # With and without converters the bytes are the same; they check it here for the learned ranges.
        chain = None if quantization == "qat" else False
        convert(source.deployed, folder, quantization, features, chain=chain).deployed.save(folder / "deployed")

    entry = cache.get(
        "conversion",
        {"quantization": quantization, "frontend": source.frontend.hash(), **source.network},
        make,
        code=[__name__],
        inputs=[source.folder / "weights.safetensors", *calibration_files(calibration)],
    )
    # The entry may be older than the folder's detection settings, on which conversion does not depend.
    deployed = replace(DeployedModel.load(entry.folder / "deployed"), info=source.deployed.info)
    return Conversion(deployed, entry.folder)


def cost_of_quantization(name: str, converted: Conversion, features: npt.NDArray[np.uint16]) -> dict[str, Any]:
    """Compare an int8 model with the float network of the same weights, on smoothed probabilities.

    Returns:
        name, bytes of the .tflite, steps, mean and largest absolute difference of the smoothed probability, and
        `decisions`, the steps on another side of the cutoff.
    """
    deployed = converted.deployed
    window = int(deployed.info["window"])
    cutoff = np.float32(int(deployed.info["cutoff_sum"]) / (256 * window))
    int8 = probabilities(IntegerModel(deployed).windowed(model_input(deployed, features)), window)
    exact = smooth_probabilities(float_probabilities(deployed, features), window)
    difference = np.abs(int8 - exact)
    return {
        "name": name,
        "bytes": len(converted.model),
        "steps": len(difference),
        "mean": float(difference.mean()),
        "largest": float(difference.max()),
        "decisions": int(((int8 >= cutoff) != (exact >= cutoff)).sum()),
    }


def run_conversion(
    model: Path, out: Path, *, quantization: Method = "qat", calibration: Path | None = None
) -> dict[str, Any]:
    """`edgewake convert`: every file of the conversion in `out`; returns what conversion.json records."""
    check_output_folder(out, (RECORD,), "conversion")
    source = load_model_folder(model)
    # Written first, so that an interrupted conversion can be repeated into its folder.
    write_json(out / RECORD, {})
    features = [calibration_features(calibration or default_folder(), source.frontend)]
    first, total = stages()[0], len(stages())
    with bar(first, total) as advance:
        result = convert(
            source.deployed, out, quantization, features, lambda stage: advance(float(stage != first), stage)
        )
    streaming = result.stages["streaming"]
    record = {
        "quantization": quantization,
        "model": str(result.folder / MODEL),
        **{key: streaming[key] for key in ("sha256", "bytes")},
        "operators": streaming.pop("operators"),
        "stages": result.stages,
    }
    write_json(out / RECORD, record)
    return record
