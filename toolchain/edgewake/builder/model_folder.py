"""A model folder that loads has all that a build needs; an error names what another one lacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.calibration import load_features
from edgewake.calibration import load_manifest as load_calibration
from edgewake.config.defaults import TargetConfig, WakewordConfig
from edgewake.data.reading import read_audio
from edgewake.errors import EdgewakeError
from edgewake.io import read_json
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.frontend import FrontendConfig, features
from edgewake.runtime.pipeline import PipelineParams, pipeline_params


@dataclass(frozen=True)
class ModelFolder:
    """Weights with their learned ranges, and the model's settings.

    Attributes:
        folder: holds weights.safetensors and model.json.
        deployed: both of them.
        frontend: from config.yaml, or the defaults.
        limits: the target section of config.yaml, which may allow less than the chip does.
    """

    folder: Path
    deployed: DeployedModel
    frontend: FrontendConfig
    limits: TargetConfig

    @property
    def network(self) -> dict[str, Any]:
        """What conversion depends on beside the weights: model.json without the detection settings."""
        record = read_json(self.folder / "model.json", "model description")
        return {key: value for key, value in record.items() if key != "info"}

    def pipeline(self, deployed: DeployedModel) -> PipelineParams:
        """The C pipeline's parameters for this model as converted."""
        return pipeline_params(deployed.input, deployed.info, self.frontend, deployed.frames_per_step)


def load_model_folder(folder: Path) -> ModelFolder:
    """Read a model folder; an error names what it lacks."""
    folder = Path(folder)
    if not folder.is_dir():
        raise EdgewakeError(f"model folder {folder} does not exist: train one, or give another --model")
    for name in ("weights.safetensors", "model.json"):
        if not (folder / name).is_file():
            raise EdgewakeError(f"model folder {folder} has no {name}: train it, or give another --model")
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
