"""One object holds all settings of a project; a stage works on a frozen copy that was checked as a whole.

All configuration classes can be imported from here, as the guide does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from edgewake.config import yaml_text
from edgewake.config.base import Section, unknown_key
from edgewake.config.frontend import FrontendConfig
from edgewake.config.renamed import replaced, replaced_in
from edgewake.config.sections import (
    AugmentationConfig,
    CacheConfig,
    DataConfig,
    DistillationConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    QATConfig,
    TargetConfig,
    TeacherConfig,
    TrainingConfig,
)
from edgewake.errors import ConfigError
from edgewake.io import write_text

HEADER = "# Every setting of one configuration of edgewake; docs/configuration.md describes them.\n"


class WakewordConfig(Section):
    """All settings.

    Assign to fields and sections; each value is checked at once, the whole by `check`, `load`, `save` and
    `freeze`.
    """

    config_name: str = Field("default", description="names the configuration in reports")
    description: str = Field("", description="what it is for")
    data: DataConfig = Field(default_factory=DataConfig)
    frontend: FrontendConfig = Field(default_factory=FrontendConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    augmentation: AugmentationConfig = Field(default_factory=AugmentationConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    distillation: DistillationConfig = Field(default_factory=DistillationConfig)
    teacher: TeacherConfig = Field(default_factory=TeacherConfig)
    qat: QATConfig = Field(default_factory=QATConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    target: TargetConfig = Field(default_factory=TargetConfig)
    cache: CacheConfig = Field(default_factory=CacheConfig)

    @classmethod
    def section_name(cls) -> str:
        """Empty: the keys of the whole have no prefix."""
        return ""

    def model_post_init(self, context: Any, /) -> None:
        """Take sections of a frozen configuration as copies that can be changed."""
        for name, value in self.__dict__.items():
            self.__dict__[name] = _thawed(value)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, _thawed(value))

    # ---- files -----------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: Path | str, *, check: bool = True) -> WakewordConfig:
        """Read YAML; keys that are not given keep their defaults.

        Args:
            check: check the whole too; False where the caller reports contradictions itself.
        """
        path = Path(path)
        try:
            return cls.from_mapping(yaml_text.load_mapping(path), check=check)
        except ConfigError as error:
            raise error if str(path) in str(error) else ConfigError(f"{path}: {error}") from None

    @classmethod
    def from_mapping(cls, values: dict[str, Any], *, check: bool = True) -> WakewordConfig:
        """From plain data as `to_mapping` gives it; `check` and errors as in `load`."""
        values = replaced_in(values)
        for key, value in values.items():
            for name in (key, *value) if isinstance(value, dict) else (key,):
                if not isinstance(name, str):
                    raise ConfigError(f"key {key if name is key else f'{key}.{name!r}'} must be text")
            field = cls.model_fields.get(key)
            # `training:` with nothing below it, all of it commented out, means its defaults.
            if value is None and field is not None and field.default_factory is not None:
                values[key] = {}
        config = cls(**values)
        if check:
            config.check()
        return config

    def to_mapping(self) -> dict[str, Any]:
        """All settings as plain data, in order."""
        return self.model_dump(mode="python")

    def to_yaml(self) -> str:
        """Every setting, but for `distillation.teacher_architecture` where nobody set it.

        A teacher that is named is never replaced by another one (see `teacher_from_config`): to write the default
        would name it.
        """
        values = self.to_mapping()
        if "teacher_architecture" not in self.distillation.model_fields_set:
            del values["distillation"]["teacher_architecture"]
        return yaml_text.dump(values)

    def save(self, path: Path | str) -> None:
        """Check the settings and write them as YAML, atomically; `load` gives an equal configuration."""
        self.check()
        write_text(Path(path), HEADER + self.to_yaml())

    # ---- access by path --------------------------------------------------------------------------

    def set(self, path: str, value: Any) -> None:
        """Assign by full key: `set("training.epochs", 5)`; errors as in assignment."""
        path, value = replaced(path, value)
        section_name, _, name = path.rpartition(".")
        holder: Any = self
        for part in filter(None, section_name.split(".")):
            if part not in type(holder).model_fields or not isinstance(getattr(holder, part), Section):
                raise ConfigError(unknown_key(type(holder), part, value, path))
            holder = getattr(holder, part)
        setattr(holder, name, value)

    def override(self, assignments: list[str] | tuple[str, ...]) -> Self:
        """A copy with `key=value` assignments, values as in YAML: `override(["training.epochs=5"])`."""
        copy = self.model_copy()
        for assignment in assignments:
            path, equals, text = assignment.partition("=")
            if not equals:
                raise ConfigError(f"{assignment!r} is not key=value, e.g. training.epochs=5")
            copy.set(path.strip(), yaml_text.parse_scalar(text.strip()))
        return copy

    # ---- the whole -------------------------------------------------------------------------------

    def freeze(self) -> Self:
        """A checked deep copy that refuses every assignment: what every stage works on; errors as in `check`."""
        self.check()
        return super().freeze()

    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of all settings but name, description and the place of the cache."""
        values = self.model_dump(mode="json", exclude={"config_name", "description", "cache"})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def check(self) -> None:
        """Raises ConfigError where several keys contradict one another; names them and the remedy."""
        for contradiction in self._contradictions():
            raise ConfigError(contradiction)

    def _contradictions(self) -> Iterator[str]:
        data, frontend, model, training = self.data, self.frontend, self.model, self.training
        if data.sample_rate != frontend.sample_rate:
            yield (
                f"data.sample_rate = {data.sample_rate}, frontend.sample_rate = {frontend.sample_rate}; "
                "set both to 16000"
            )
        if data.hop_length * 1000 % data.sample_rate:
            yield f"data.hop_length = {data.hop_length}: the frontend steps by whole milliseconds; use a multiple of 16"
        yield from self._distillation_contradictions() if self.distillation.enabled else ()
        if model.architecture == "tiny_conv":
            yield from self._tiny_conv_contradictions()
        elif self.qat.enabled:
            yield (
                f"qat.enabled = True with model.architecture = {model.architecture!r}: only tiny_conv has "
                "quantization in its loop; set qat.enabled: false or model.architecture: tiny_conv"
            )
        if model.pretrained and model.architecture not in ("mobilenetv3", "resnet18"):
            yield (
                f"model.pretrained = True with model.architecture = {model.architecture!r}: there are "
                "pretrained weights for mobilenetv3 and resnet18; set model.pretrained: false"
            )
        if training.class_weights is not None and len(training.class_weights) != model.num_classes:
            yield (
                f"training.class_weights has {len(training.class_weights)} values, model.num_classes is "
                f"{model.num_classes}; give one weight a class"
            )

    def _tiny_conv_contradictions(self) -> Iterator[str]:
        data, frontend, model = self.data, self.frontend, self.model
        if data.n_mels != frontend.channels:
            yield (
                f"data.n_mels = {data.n_mels}, frontend.channels = {frontend.channels}: tiny_conv takes the board's "
                f"features; set data.n_mels: {frontend.channels}"
            )
        if data.hop_length != frontend.step_samples:
            yield (
                f"data.hop_length = {data.hop_length}, frontend.step_ms = {frontend.step_ms}: tiny_conv takes the "
                f"board's features; set data.hop_length: {frontend.step_samples}"
            )
        if model.num_classes != 2:
            yield f"model.num_classes = {model.num_classes}: tiny_conv has two classes, the phrase and all else; set 2"
        if (inputs := model.frames_per_step * frontend.channels) % 8:
            yield (
                f"model.frames_per_step * frontend.channels = {inputs}: ESP-NN's 1x1 convolution takes "
                "multiples of 8; change model.frames_per_step"
            )

    def _distillation_contradictions(self) -> Iterator[str]:
        distillation = self.distillation
        for key, wanted in (("use_precomputed_features_for_training", False), ("fallback_to_audio", True)):
            if getattr(self.data, key) != wanted:
                yield (
                    f"data.{key} = {not wanted} with distillation.enabled = True: the teacher needs raw audio; "
                    f"set data.{key}: {str(wanted).lower()}"
                )
        for name in ("alpha", "temperature"):
            schedule, end = (getattr(distillation, f"{name}_{part}") for part in ("schedule", "end"))
            if (schedule != "constant") != (end is not None):
                yield (
                    f"distillation.{name}_schedule = {schedule!r} with distillation.{name}_end = {end}: a "
                    "schedule needs an end, and an end a schedule; set both or neither"
                )


def _thawed(value: Any) -> Any:
    return value.model_copy() if isinstance(value, Section) and value.frozen else value
