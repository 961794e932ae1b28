"""What a build starts from, a model folder, and its converted forms; `edgewake convert`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.cache import Cache
from edgewake.calibration import default_folder, load_features
from edgewake.calibration import load_manifest as load_calibration
from edgewake.config.defaults import TargetConfig, WakewordConfig
from edgewake.console import bar
from edgewake.conversion.convert import MODEL, WINDOWED, Conversion, Method, convert, stages
from edgewake.data.reading import read_audio
from edgewake.errors import EdgewakeError
from edgewake.io import check_output_folder, read_json, write_json
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.events import as_probability, probabilities, smooth_probabilities
from edgewake.runtime.frontend import FrontendConfig, features
from edgewake.runtime.pipeline import PipelineParams, pipeline_params
from edgewake.runtime.simulator import IntegerModel, float_probabilities, model_input

RECORD = "conversion.json"


@dataclass(frozen=True)
class ModelFolder:
    """Weights with their learned ranges, and the model's settings from config.yaml, or the defaults.

    `limits`, the target section of the settings, may allow less than the chip does.
    """

    folder: Path
    deployed: DeployedModel
    frontend: FrontendConfig
    limits: TargetConfig

    @property
    def network(self) -> dict[str, Any]:
        """What conversion depends on beside the weights: the frontend, and model.json without detection settings."""
        record = read_json(self.folder / "model.json", "model description")
        return {"frontend": self.frontend.hash()} | {key: value for key, value in record.items() if key != "info"}

    def pipeline(self, deployed: DeployedModel) -> PipelineParams:
        """The C pipeline's parameters for this model as converted."""
        return pipeline_params(deployed.input, deployed.output, deployed.info, self.frontend, deployed.frames_per_step)


def load_model_folder(folder: Path) -> ModelFolder:
    """Read a model folder; an error names what it lacks."""
    folder = Path(folder)
    for name in ("weights.safetensors", "model.json"):
        if not (folder / name).is_file():
            raise EdgewakeError(f"model folder {folder} has no {name}: train one, or give another --model")
    deployed = DeployedModel.load(folder)
    for key in ("phrase", "window", "cutoff_sum", "refractory_s"):
        if key not in deployed.info:
            raise EdgewakeError(f"{folder / 'model.json'} lacks info.{key}: export the model again")
    settings = folder / "config.yaml"
    config = WakewordConfig.load(settings) if settings.is_file() else WakewordConfig()
    if config.frontend.channels != deployed.channels:
        raise EdgewakeError(
            f"{folder}: the model takes {deployed.channels} channels, its frontend {config.frontend.channels}: "
            "export both from one training run"
        )
    found = ModelFolder(folder, deployed, config.frontend, config.target)
    found.pipeline(deployed)  # raises for settings that the C core refuses, before anything is made
    return found


def calibration_features(calibration: Path, config: FrontendConfig) -> npt.NDArray[np.uint16]:
    """Features of the calibration audio as this frontend computes them: (frames, channels)."""
    if load_calibration(calibration).get("frontend_hash") == config.hash():
        return load_features(calibration)
    return features(read_audio(calibration / "audio.flac"), config)


def calibration_files(calibration: Path) -> list[Path]:
    """The files that `calibration_features` reads."""
    return [calibration / name for name in ("manifest.json", "features.npz", "audio.flac")]


def conversion_files(converted: Conversion) -> list[Path]:
    """The streaming .tflite, the windowed one and the deployed weights: what decides the model's output."""
    return [converted.folder / name for name in (MODEL, WINDOWED, "deployed/weights.safetensors")]


def cached_conversion(cache: Cache, source: ModelFolder, quantization: Method, calibration: Path) -> Conversion:
    """The .tflite with learned ranges ("qat") or with ranges from the calibration audio ("ptq")."""

    def make(folder: Path) -> None:
        recordings = [calibration_features(calibration, source.frontend)]
        # With and without converters the bytes are the same; they check it here for the learned ranges.
        chain = None if quantization == "qat" else False
        convert(source.deployed, folder, quantization, recordings, chain=chain).deployed.save(folder / "deployed")

    inputs = [source.folder / "weights.safetensors", *calibration_files(calibration)]
    parameters = {"quantization": quantization, **source.network}
    entry = cache.get("conversion", parameters, make, code=[__name__], inputs=inputs)
    # The entry may be older than the folder's detection settings, on which conversion does not depend.
    deployed = replace(DeployedModel.load(entry.folder / "deployed"), info=source.deployed.info)
    return Conversion(deployed, entry.folder)


def cost_of_quantization(name: str, converted: Conversion, frames: npt.NDArray[np.uint16]) -> dict[str, Any]:
    """Compare an int8 model with the float network of the same weights: mean and largest absolute difference of the
    smoothed probability, and `decisions`, the steps on another side of the cutoff.
    """
    deployed = converted.deployed
    window = int(deployed.info["window"])
    cutoff = as_probability(int(deployed.info["cutoff_sum"]), window)
    int8 = probabilities(IntegerModel(deployed).windowed(model_input(deployed, frames)), deployed.output, window)
    exact = smooth_probabilities(float_probabilities(deployed, frames), window)
    difference = np.abs(int8 - exact)
    spread = {"mean": float(difference.mean()), "largest": float(difference.max())}
    decisions = int(((int8 >= cutoff) != (exact >= cutoff)).sum())
    return {"name": name, "bytes": len(converted.model), "steps": len(int8), **spread, "decisions": decisions}


def run_conversion(
    model: Path, out: Path, *, quantization: Method = "qat", calibration: Path | None = None
) -> dict[str, Any]:
    """`edgewake convert`: every file of the conversion in `out`; returns what conversion.json records."""
    check_output_folder(out, (RECORD,), "conversion")
    source = load_model_folder(model)
    # Written first, so that an interrupted conversion can be repeated into its folder.
    write_json(out / RECORD, {})
    recordings = [calibration_features(calibration or default_folder(), source.frontend)]
    first, total = stages()[0], len(stages())
    with bar(first, total) as advance:
        found = convert(
            source.deployed, out, quantization, recordings, lambda stage: advance(float(stage != first), stage)
        ).stages
    streaming = found["streaming"]
    record: dict[str, Any] = {"quantization": quantization, "model": str(out / MODEL)}
    record |= {key: streaming[key] for key in ("sha256", "bytes")}
    record |= {"operators": streaming.pop("operators"), "stages": found}
    write_json(out / RECORD, record)
    return record
