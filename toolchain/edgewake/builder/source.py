"""A model folder that loads has all that a build needs; one that does not is named with what it lacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.cache import Entry
from edgewake.calibration import load_features
from edgewake.calibration import load_manifest as load_calibration
from edgewake.config.defaults import WakewordConfig
from edgewake.config.sections import TargetConfig
from edgewake.data.reading import read_audio
from edgewake.errors import EdgewakeError
from edgewake.io import read_json
from edgewake.runtime.deployed import DeployedModel
from edgewake.runtime.frontend import FrontendConfig, features
from edgewake.runtime.pipeline import PipelineParams, pipeline_params
from edgewake.targets.budget import Budget, Target

WEIGHTS = ("weights.safetensors", "model.json")


@dataclass(frozen=True)
class Source:
    """A model folder: weights with their learned ranges, and how the model detects.

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

    def within(self, target: Target) -> Target:
        """The target with this project's own limits, where they are lower."""
        return within(target, self.limits)

    @property
    def network(self) -> dict[str, Any]:
        """What conversion depends on beside the weights: model.json without its info (the cutoff)."""
        record = read_json(self.folder / "model.json", "model description")
        return {key: value for key, value in record.items() if key != "info"}

    def pipeline(self, deployed: DeployedModel) -> PipelineParams:
        """The C pipeline's parameters for this model as converted."""
        return pipeline_params(deployed.input, deployed.info, self.frontend, deployed.frames_per_step)

    def converted(self, stage: Entry) -> DeployedModel:
        """The model that a stage left, which may be older than this folder's info."""
        return replace(DeployedModel.load(stage.folder / "deployed"), info=self.deployed.info)


def within(target: Target, limits: TargetConfig) -> Target:
    """The target with a project's own limits, where they are lower."""
    chip = target.budget
    budget = Budget(
        model_bytes=min(chip.model_bytes, limits.model_bytes),
        arena_bytes=min(chip.arena_bytes, limits.arena_bytes),
        static_ram_bytes=min(chip.static_ram_bytes, limits.ram_bytes),
        compute=min(chip.compute, limits.cpu_share),
    )
    return replace(target, budget=budget)


def load_source(folder: Path) -> Source:
    """Read a model folder.

    Raises:
        EdgewakeError: it does not exist, or lacks what a build needs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EdgewakeError(f"model folder {folder} does not exist: train one, or give another --model")
    for name in WEIGHTS:
        if not (folder / name).is_file():
            raise EdgewakeError(f"model folder {folder} has no {name}: train it, or give another --model")
    deployed = DeployedModel.load(folder)
    for key in ("phrase", "window", "cutoff_sum", "refractory_s"):
        if key not in deployed.info:
            raise EdgewakeError(f"{folder / 'model.json'} lacks info.{key}: export the model again")
    settings = folder / "config.yaml"
    config = WakewordConfig.load(settings) if settings.is_file() else WakewordConfig()
    frontend = config.frontend
    if frontend.channels != deployed.channels:
        raise EdgewakeError(
            f"{folder}: the model takes {deployed.channels} channels, its frontend {frontend.channels}: "
            "export both from one training run"
        )
    source = Source(folder, deployed, frontend, config.target)
    source.pipeline(deployed)  # raises for settings that the C core refuses, before anything is made
    return source


def calibration_features(calibration: Path, config: FrontendConfig) -> npt.NDArray[np.uint16]:
    """Features of the calibration audio as this frontend computes them: (frames, channels)."""
    if load_calibration(calibration).get("frontend_hash") == config.hash():
        return load_features(calibration)

    return features(read_audio(calibration / "audio.flac"), config)


def calibration_files(calibration: Path) -> list[Path]:
    return [calibration / name for name in ("manifest.json", "features.npz", "audio.flac")]
