"""The student as it ships: plain arrays and the quantization that was learned, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from edgewake.config.base import first_complaint
from edgewake.errors import EdgewakeError
from edgewake.io import atomic_path, read_json, write_json

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
Kind = Literal["conv1x1", "depthwise", "avgpool"]
FORMAT_VERSION = 2
# The `kind` in model.json of a student that is not in the deploy form; see conversion/clip_export.py.
CLIP = "clip"
CLIP_VERSION = 1


@dataclass(frozen=True)
class Quantization:
    """Affine int8 quantization: real = scale * (q - zero_point), q in [-128, 127]."""

    scale: np.float32
    zero_point: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", np.float32(self.scale))
        object.__setattr__(self, "zero_point", int(self.zero_point))
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise EdgewakeError(f"quantization scale {self.scale} is not a positive number; train with QAT again")
        if not -128 <= self.zero_point <= 127:
            raise EdgewakeError(f"zero point {self.zero_point} is outside -128..127; train with QAT again")

    @property
    def low(self) -> float:
        """The smallest real value, (-128 - zero_point) * scale, in float64."""
        return (-128 - self.zero_point) * float(self.scale)

    @property
    def high(self) -> float:
        """The largest real value, (127 - zero_point) * scale, in float64."""
        return (127 - self.zero_point) * float(self.scale)


@dataclass(frozen=True)
class Layer:
    """One operator over time.

    Attributes:
        kind: conv1x1, depthwise (valid, along time) or avgpool (valid, stride 1, along time).
        name: unique; the name under which the output's range is visible at every stage.
        weight: conv1x1: (out, in) float32; depthwise: (k, channels) float32; otherwise None.
        bias: (out,) float32, or None.
        relu: ReLU is fused into the output.
        output: quantization of the output.
        window: avgpool: steps averaged; otherwise 1.
    """

    kind: Kind
    name: str
    output: Quantization
    weight: npt.NDArray[np.float32] | None = None
    bias: npt.NDArray[np.float32] | None = None
    relu: bool = False
    window: int = 1

    @property
    def history(self) -> int:
        """Input steps, before the present one, that an output step depends on."""
        if self.kind == "depthwise":
            assert self.weight is not None
            return int(self.weight.shape[0]) - 1
        return self.window - 1 if self.kind == "avgpool" else 0

    @property
    def weight_scale(self) -> npt.NDArray[np.float32]:
        """Per-channel symmetric weight scale, absmax / 127 in float32: (out,)."""
        assert self.weight is not None
        axis = 1 if self.kind == "conv1x1" else 0
        absmax: npt.NDArray[np.float32] = np.abs(self.weight).max(axis=axis)
        return np.divide(absmax, np.float32(127), dtype=np.float32)


@dataclass(frozen=True)
class DeployedModel:
    """The deploy form: layers in order, from int8 features of one step to one int8 logit.

    Attributes:
        layers: ends with a conv1x1 to one channel, the logit.
        input: quantization of the features (real = uint16 feature * 0.0390625).
        info: phrase, smoothing window, cutoff_sum, refractory_steps, training provenance (JSON values).
    """

    layers: tuple[Layer, ...]
    input: Quantization
    frames_per_step: int = 3
    channels: int = 40
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def input_width(self) -> int:
        """Features of one step: frames_per_step * channels."""
        return self.frames_per_step * self.channels

    @property
    def output(self) -> Quantization:
        """Quantization of the logit; `events.probability_table` has the probabilities."""
        return self.layers[-1].output

    @property
    def receptive_field_steps(self) -> int:
        """Steps of input that one output depends on."""
        return 1 + sum(layer.history for layer in self.layers)

    def validate(self) -> DeployedModel:
        """Check that shapes chain from the input to one logit; an error names the layer. Returns self."""
        width = self.input_width
        names = [layer.name for layer in self.layers]
        if len(set(names)) != len(names):
            raise EdgewakeError(f"layer names repeat: {names}; give each layer its own name")
        for layer in self.layers:
            if layer.kind not in ("conv1x1", "depthwise"):
                continue
            weight, bias = layer.weight, layer.bias
            shapes = [getattr(array, "shape", None) for array in (weight, bias)]
            if weight is None or bias is None or weight.ndim != 2 or weight.shape[1] != width:
                raise EdgewakeError(f"layer {layer.name} has weights {shapes[0]} for {width} channels: export it again")
            width = weight.shape[0] if layer.kind == "conv1x1" else width
            if bias.shape != (width,):
                raise EdgewakeError(f"layer {layer.name} has a bias {shapes[1]} for {width} channels: export it again")
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise EdgewakeError(f"layer {layer.name} holds values that are not finite; train again")
        if not self.layers or self.layers[-1].kind != "conv1x1" or self.layers[-1].relu or width != 1:
            raise EdgewakeError(f"the model must end with a conv1x1 without ReLU to one logit, not {width} channels")
        return self

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and `model.json` into `folder`, atomically."""
        tensors, layers = {}, []
        for layer in self.layers:
            for part, array in (("weight", layer.weight), ("bias", layer.bias)):
                if array is not None:
                    tensors[f"{layer.name}.{part}"] = np.ascontiguousarray(array, np.float32)
            record = {name: getattr(layer, name) for name in ("kind", "name", "relu", "window")}
            layers.append(record | {"output": quantization_json(layer.output)})
        with atomic_path(Path(folder) / "weights.safetensors") as path:
            save_file(tensors, path)
        shape = {"frames_per_step": self.frames_per_step, "channels": self.channels}
        numbers = {"input": quantization_json(self.input), "layers": layers, "info": self.info}
        write_json(Path(folder) / "model.json", {"version": FORMAT_VERSION, **shape, **numbers})

    @classmethod
    def load(cls, folder: Path) -> DeployedModel:
        """Read what `save` wrote."""
        path, weights = Path(folder) / "model.json", Path(folder) / "weights.safetensors"
        if clip := clip_record(folder):
            raise EdgewakeError(
                f"{folder} holds a {clip.get('architecture')} that takes whole clips and runs on a host: "
                "its model.onnx and model_float.tflite are for onnxruntime and LiteRT; only tiny_conv streams"
            )
        record = read_json(path, "model description")
        if isinstance(record, dict) and record.get("version") != FORMAT_VERSION:
            raise EdgewakeError(
                f"{path} has version {record.get('version')!r}; this edgewake reads {FORMAT_VERSION} (the model's "
                "output is a logit): export it again with edgewake train ... --resume"
            )
        try:
            given = _Description.model_validate(record)
            tensors = load_file(weights)
        except ValidationError as error:
            raise EdgewakeError(f"{path}: {first_complaint(error)}; export the model again") from None
        except (OSError, SafetensorError) as error:
            raise EdgewakeError(f"weights {weights} cannot be read: {error}") from error
        layers = []
        for item in given.layers:
            weight, bias = (tensors.get(f"{item.name}.{part}") for part in ("weight", "bias"))
            output = item.output.quantization
            layers.append(Layer(item.kind, item.name, output, weight, bias, item.relu, item.window))
        shape = given.input.quantization, given.frames_per_step, given.channels
        return cls(tuple(layers), *shape, record["info"]).validate()


def quantization_json(value: Quantization) -> dict[str, Any]:
    """JSON that restores the float32 scale exactly (its shortest decimal does)."""
    return {"scale": float(value.scale), "zero_point": value.zero_point}


class Part(BaseModel):
    """A part of a JSON file: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Range(Part):
    """Quantization of a tensor."""

    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    zero_point: Annotated[int, Field(ge=-128, le=127)]

    @property
    def quantization(self) -> Quantization:
        """The same with a float32 scale."""
        return Quantization(np.float32(self.scale), self.zero_point)


class _LayerRecord(Part):
    kind: Kind
    name: Text
    relu: bool
    window: Positive
    output: Range


class _Info(BaseModel, strict=True):
    """Detection settings; what is absent is not needed by every command, and other keys are free."""

    phrase: Annotated[str, Field(pattern=r"\S")] = " -"
    window: Positive = 1
    cutoff_sum: Positive = 1
    refractory_steps: Positive = 1
    refractory_s: NotNegative = 0.0


class _Description(Part):
    """model.json of a student in the deploy form."""

    version: Literal[2]
    frames_per_step: Positive
    channels: Positive
    input: Range
    layers: list[_LayerRecord]
    info: _Info


def clip_record(folder: Path) -> dict[str, Any] | None:
    """model.json of a student of whole clips, or None where the folder holds something else."""
    path = Path(folder) / "model.json"
    record = read_json(path, "model description") if path.is_file() else None
    if not isinstance(record, dict) or record.get("kind") != CLIP:
        return None
    if record.get("version") != CLIP_VERSION:
        raise EdgewakeError(f"{path} has version {record.get('version')}; this reads {CLIP_VERSION}: export it again")
    return record
