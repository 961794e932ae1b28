"""A manifest that loads is complete, consistent and of a known version; otherwise one line names what is wrong."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, ValidationError, model_validator

from edgewake.config.base import first_complaint
from edgewake.config.frontend import FrontendConfig
from edgewake.errors import EdgewakeError
from edgewake.io import read_json, write_json
from edgewake.runtime.deployed import NotNegative, Part, Positive, Range, Text
from edgewake.runtime.events import as_probability, probability_table
from edgewake.runtime.pipeline.params import PipelineParams, derive_quantizer, pipeline_params
from edgewake.runtime.streaming import StreamingModel, verify

VERSION = 2
FILE = "manifest.json"

Count = Annotated[int, Field(ge=0)]


def _beside(name: str) -> str:
    if name in (".", "..") or set(name) & set("/\\"):
        raise ValueError("must be the name of a file beside the manifest, without a folder")
    return name


class ModelFile(Part):
    """The .tflite, beside the manifest."""

    file: Annotated[Text, AfterValidator(_beside)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Positive


class FrontendPart(Part):
    """The frontend that the model was trained with: its configuration and the configuration's hash."""

    config: FrontendConfig
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.config.hash() != self.hash:
            raise ValueError(f"frontend.hash {self.hash} is not the hash of frontend.config, {self.config.hash()}")
        return self


class InputPart(Range):
    """How a uint16 feature f becomes int8: clamp(((f * multiplier + 2^(shift-1)) >> shift) + zero_point)."""

    multiplier: Positive
    shift: Annotated[int, Field(ge=1, le=62)]


class ArenaPart(Part):
    """Bytes of the interpreter's memory: measured on the host, ESP-NN's bound, reserved on the board."""

    host_bytes: Positive
    s3_scratch_bytes: Count
    total_bytes: Positive


class Counted(Part):
    """A rate with the counts behind it and its 95 % interval; None where nothing was counted."""

    value: NotNegative | None
    low: NotNegative | None
    high: NotNegative | None
    hits: NotNegative | None = None
    total: NotNegative | None = None
    events: Count | None = None
    hours: NotNegative | None = None
    data: Text


class Versions(Part):
    """What made the model and what the board runs."""

    edgewake: str
    tflm: str
    esp_nn: str


class ModelManifest(Part):
    """All that a host or a board needs to run one model, and what was measured of it. Version 2."""

    version: Literal[2]
    phrase: Text
    target: str | None = None
    quantization: Literal["qat", "ptq"] = "qat"
    model: ModelFile
    frontend: FrontendPart
    frames_per_step: Positive
    input: InputPart
    output: Range
    receptive_field_steps: Positive
    window: Annotated[int, Field(ge=1, le=64)]
    cutoff: Annotated[float, Field(gt=0, le=1)]
    cutoff_sum: Positive
    refractory_s: NotNegative
    refractory_steps: Count
    arena: ArenaPart
    operators: list[dict[str, Any]]
    measured: dict[str, Counted]
    versions: Versions

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        top = int(probability_table(self.output.quantization)[-1]) * self.window
        if self.cutoff_sum > top:
            raise ValueError(
                f"cutoff_sum {self.cutoff_sum} can never be reached: window {self.window} and the output's range allow "
                f"{top}"
            )
        expected = as_probability(self.cutoff_sum, self.window)
        if np.float32(self.cutoff) != expected:
            raise ValueError(f"cutoff {self.cutoff} is not cutoff_sum / (65536 * window) = {expected}: change both")
        if self.arena.total_bytes < self.arena.host_bytes:
            raise ValueError(f"arena.total_bytes {self.arena.total_bytes} is below host_bytes {self.arena.host_bytes}")
        return self

    @property
    def step_s(self) -> float:
        """Seconds between two inference steps."""
        return self.frames_per_step * self.frontend_config.step_ms / 1000

    @property
    def frontend_config(self) -> FrontendConfig:
        """The frontend that the model was trained with."""
        return self.frontend.config

    def pipeline_params(self, cutoff: float | None = None) -> PipelineParams:
        """The C pipeline's parameters, with another cutoff where one is given; see `pipeline_params`."""
        given, output = self.input.quantization, self.output.quantization
        settings, frontend = self.model_dump(), self.frontend_config
        return pipeline_params(given, output, settings, frontend, self.frames_per_step, cutoff=cutoff)

    def save(self, folder: Path) -> Path:
        """Write manifest.json into `folder`, atomically; returns its path."""
        path = Path(folder) / FILE
        write_json(path, self.model_dump(mode="json"))
        return path


def find_manifest(path: Path) -> Path:
    """The manifest that `path` means: itself, or the one in a build or model folder."""
    path = Path(path)
    found = path / FILE if path.is_dir() else path
    if found.suffix == ".tflite" and found.is_file():
        _verified(found, found.read_bytes())
        raise EdgewakeError(f"{found} is a model without its settings: give the {FILE} beside it, or their folder")
    if found.is_file():
        return found
    if (path / "model.json").is_file():
        raise EdgewakeError(f"{path} holds weights but no {FILE}: run edgewake build --model {path}")
    lack = f"holds no {FILE}" if path.exists() else "does not exist"
    raise EdgewakeError(f"{path} {lack}: give a build folder, a model folder or a manifest.json")


def load_manifest(path: Path) -> ModelManifest:
    """Read and validate the manifest that `path` means; an error has the key's full path, value and what is allowed."""
    file = find_manifest(path)
    record = read_json(file, "manifest")
    found = record if isinstance(record, dict) else {}
    if found.get("type") == "micro":
        raise EdgewakeError(
            f"{file} is that of a microWakeWord model, which edgewake does not run: use pymicro-wakeword or ESPHome "
            "for it, or train one with edgewake"
        )
    if found.get("version") != VERSION:
        version = found.get("version")
        raise EdgewakeError(
            f"manifest {file} has version {version!r}; this edgewake reads {VERSION} (the model's output is a logit): "
            "build it again"
        )
    try:
        return ModelManifest.model_validate(record)
    except (ValidationError, EdgewakeError) as error:  # the latter of the frontend's configuration
        reason = first_complaint(error) if isinstance(error, ValidationError) else error
        raise EdgewakeError(f"manifest {file}: {reason}: build it again") from None


def load_model(path: Path) -> tuple[ModelManifest, bytes]:
    """A manifest and the streaming .tflite that it names, which are of one build, hold the same numbers and are safe
    for TFLM; an EdgewakeError says what is not.
    """
    manifest = load_manifest(path)
    file, digest = find_manifest(path).parent / manifest.model.file, manifest.model.sha256
    try:
        data = file.read_bytes()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = f"does not exist, but {FILE} names it" if missing else f"cannot be read: {error.strerror or error}"
        raise EdgewakeError(f"model {file} {reason}: build it again") from error
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise EdgewakeError(f"model {file} has SHA-256 {found[:12]}..., not {digest[:12]}...: build it again")
    model = _verified(file, data)
    multiplier, shift = derive_quantizer(model.input.scale, model.input.zero_point)
    # Every number of the manifest that the .tflite decides.
    pairs = {
        "model.bytes": (manifest.model.bytes, len(data)),
        "frames_per_step * channels": (manifest.frames_per_step * manifest.frontend_config.channels, model.width),
        "input.scale": (np.float32(manifest.input.scale), model.input.scale),
        "input.zero_point": (manifest.input.zero_point, model.input.zero_point),
        "input.multiplier": (manifest.input.multiplier, multiplier),
        "input.shift": (manifest.input.shift, shift),
        "output.scale": (np.float32(manifest.output.scale), model.output.scale),
        "output.zero_point": (manifest.output.zero_point, model.output.zero_point),
        "receptive_field_steps": (manifest.receptive_field_steps, model.receptive_field_steps),
    }
    for name, (given, held) in pairs.items():
        if given != held:
            raise EdgewakeError(f"model {file}: {FILE} has {name} = {given}, the .tflite {held}: build it again")
    return manifest, data


def _verified(file: Path, data: bytes) -> StreamingModel:
    try:
        return verify(data)
    except EdgewakeError as error:
        raise EdgewakeError(f"model {file}: {error}") from None
