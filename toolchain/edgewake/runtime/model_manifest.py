"""A manifest that loads is complete, consistent and of a known version; otherwise one line names what is wrong."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgewake.config.frontend import FrontendConfig
from edgewake.errors import EdgewakeError
from edgewake.io import read_json, write_json
from edgewake.runtime.deployed import Positive, Quantization, first_complaint
from edgewake.runtime.pipeline.params import PipelineParams, pipeline_params
from edgewake.runtime.pipeline.quantizer import derive_quantizer
from edgewake.runtime.streaming import StreamingModel, verify

VERSION = 1
FILE = "manifest.json"

Count = Annotated[int, Field(ge=0)]
Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ZeroPoint = Annotated[int, Field(ge=-128, le=127)]
Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Hash64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Hash16 = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Part(BaseModel):
    """A part of the manifest: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelFile(Part):
    """The .tflite, beside the manifest."""

    file: Annotated[str, Field(min_length=1)]
    sha256: Hash64
    bytes: Positive


class FrontendPart(Part):
    """The frontend that the model was trained with: its configuration and the configuration's hash."""

    config: dict[str, Any]
    hash: Hash16


class InputPart(Part):
    """How a uint16 feature f becomes int8: clamp(((f * multiplier + 2^(shift-1)) >> shift) + zero_point)."""

    scale: Scale
    zero_point: ZeroPoint
    multiplier: Positive
    shift: Annotated[int, Field(ge=1, le=62)]


class OutputPart(Part):
    """Quantization of the probability."""

    scale: Scale
    zero_point: ZeroPoint


class ArenaPart(Part):
    """Bytes of the interpreter's memory: measured on the host, ESP-NN's bound, reserved on the board."""

    host_bytes: Positive
    s3_scratch_bytes: Count
    total_bytes: Positive


class Counted(Part):
    """A rate with the counts behind it and its 95 % interval; None where nothing was counted."""

    value: Finite | None
    low: Finite | None
    high: Finite | None
    hits: Finite | None = None
    total: Finite | None = None
    events: Count | None = None
    hours: Finite | None = None
    data: Annotated[str, Field(min_length=1)]


class Versions(Part):
    """What made the model and what the board runs."""

    edgewake: str
    tflm: str
    esp_nn: str


class ModelManifest(Part):
    """All that a host or a board needs to run one model, and what was measured of it. Version 1."""

    version: Literal[1]
    phrase: Annotated[str, Field(min_length=1)]
    target: str | None = None
    quantization: Literal["qat", "ptq"] = "qat"
    model: ModelFile
    frontend: FrontendPart
    frames_per_step: Positive
    input: InputPart
    output: OutputPart
    receptive_field_steps: Positive
    window: Annotated[int, Field(ge=1, le=64)]
    cutoff: Annotated[float, Field(gt=0, le=1)]
    cutoff_sum: Positive
    refractory_s: Finite
    refractory_steps: Count
    arena: ArenaPart
    operators: list[dict[str, Any]]
    measured: dict[str, Counted]
    versions: Versions

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        top = 255 * self.window
        if self.cutoff_sum > top:
            raise ValueError(f"cutoff_sum {self.cutoff_sum} can never be reached: window {self.window} allows {top}")
        expected = np.float32(self.cutoff_sum / (256 * self.window))
        if np.float32(self.cutoff) != expected:
            raise ValueError(
                f"cutoff {self.cutoff} is not cutoff_sum / (256 * window) = {expected}: change both together"
            )
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
        return FrontendConfig(**self.frontend.config)

    def pipeline_params(self, cutoff: float | None = None) -> PipelineParams:
        """The C pipeline's parameters, with another cutoff where one is given; see `pipeline_params`."""
        return pipeline_params(
            Quantization(np.float32(self.input.scale), self.input.zero_point),
            self.model_dump(include={"window", "cutoff_sum", "refractory_steps"}),
            self.frontend_config,
            self.frames_per_step,
            cutoff=cutoff,
        )

    def save(self, folder: Path) -> Path:
        """Write manifest.json into `folder`, atomically; returns its path."""
        path = Path(folder) / FILE
        write_json(path, self.model_dump(mode="json"))
        return path


def find_manifest(path: Path) -> Path:
    """The manifest that `path` means: itself, or the one in a build or model folder.

    Raises:
        EdgewakeError: there is none.
    """
    path = Path(path)
    found = path / FILE if path.is_dir() else path
    if found.suffix == ".tflite" and found.is_file():
        _verified(found, found.read_bytes())
        raise EdgewakeError(f"{found} is a model without its settings: give the {FILE} beside it, or their folder")
    if found.is_file():
        return found
    if not path.exists():
        raise EdgewakeError(f"{path} does not exist: give a build folder, a model folder or a manifest.json")
    if (path / "model.json").is_file():
        raise EdgewakeError(f"{path} holds weights but no {FILE}: run edgewake build --model {path}")
    raise EdgewakeError(f"{path} holds no {FILE}: give a build folder, a model folder or a manifest.json")


def load_manifest(path: Path) -> ModelManifest:
    """Read and validate a manifest.

    Args:
        path: manifest.json, or a folder that holds it.

    Raises:
        EdgewakeError: one line with the key's full path, the value and what is allowed.
    """

    file = find_manifest(path)
    record = read_json(file, "manifest")
    if not isinstance(record, dict):
        raise EdgewakeError(f"manifest {file} holds a {type(record).__name__}, not an object: build it again")
    if record.get("type") == "micro":
        raise EdgewakeError(
            f"{file} is that of a microWakeWord model, which edgewake does not run: use pymicro-wakeword or ESPHome "
            "for it, or train one with edgewake"
        )
    if record.get("version") != VERSION:
        raise EdgewakeError(
            f"manifest {file} has version {record.get('version')!r}; this edgewake reads {VERSION}: build it again"
        )
    try:
        manifest = ModelManifest.model_validate(record)
    except ValidationError as error:
        raise EdgewakeError(f"manifest {file}: {first_complaint(error)}") from None
    try:
        config = manifest.frontend_config
    except EdgewakeError as error:
        raise EdgewakeError(f"manifest {file}: frontend.config: {error}") from None
    if config.hash() != manifest.frontend.hash:
        raise EdgewakeError(
            f"manifest {file}: frontend.hash {manifest.frontend.hash} is not the hash of frontend.config, "
            f"{config.hash()}: build it again"
        )
    return manifest


def load_model(path: Path) -> tuple[ModelManifest, bytes]:
    """A manifest and the streaming .tflite that it names, which are of one build and safe for TFLM.

    Args:
        path: manifest.json, or a folder that holds it.

    Raises:
        EdgewakeError: a file is missing or damaged, the model is another one or not edgewake's, or the manifest
            and the .tflite hold different numbers.
    """
    manifest = load_manifest(path)
    file = find_manifest(path).parent / manifest.model.file
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise EdgewakeError(f"model {file} does not exist, but {FILE} names it: build it again") from None
    except OSError as error:
        raise EdgewakeError(f"model {file} cannot be read: {error.strerror or error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.model.sha256:
        raise EdgewakeError(
            f"model {file} has SHA-256 {found[:12]}..., not {manifest.model.sha256[:12]}...: build it again"
        )
    _check_numbers(file, manifest, _verified(file, data), len(data))
    return manifest, data


def _verified(file: Path, data: bytes) -> StreamingModel:
    try:
        return verify(data)
    except EdgewakeError as error:
        raise EdgewakeError(f"model {file}: {error}") from None


def _check_numbers(file: Path, manifest: ModelManifest, model: StreamingModel, size: int) -> None:
    """Every number of the manifest that the .tflite decides."""
    multiplier, shift = derive_quantizer(model.input.scale, model.input.zero_point)
    width = manifest.frames_per_step * manifest.frontend_config.channels
    pairs = {
        "model.bytes": (manifest.model.bytes, size),
        "frames_per_step * channels": (width, model.width),
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
