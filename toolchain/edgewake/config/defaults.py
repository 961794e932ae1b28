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
        data, frontend, model, distillation = self.data, self.frontend, self.model, self.distillation
        name, classes, weights = model.architecture, model.num_classes, self.training.class_weights
        hop, step_ms = frontend.step_samples, frontend.step_ms
        if data.sample_rate != frontend.sample_rate:
            yield f"frontend.sample_rate = {frontend.sample_rate}: audio is read at {data.sample_rate} Hz; set 16000"
        if data.hop_length * 1000 % data.sample_rate:
            yield f"data.hop_length = {data.hop_length}: the frontend steps by whole milliseconds; use a multiple of 16"
        if weights is not None and len(weights) != classes:
            yield f"training.class_weights has {len(weights)} values, model.num_classes is {classes}; give one a class"
        if model.pretrained and name not in ("mobilenetv3", "resnet18"):
            yield f"model.pretrained = True: {name!r} has no such weights, mobilenetv3 and resnet18 do; set false"
        if name != "tiny_conv" and self.qat.enabled:
            yield f"qat.enabled = True with model.architecture = {name!r}: only tiny_conv has it; set it to false"
        if name == "tiny_conv":
            if data.n_mels != frontend.channels:
                yield f"data.n_mels = {data.n_mels}, frontend.channels = {frontend.channels}: make both equal"
            if data.hop_length != hop:
                yield f"data.hop_length = {data.hop_length}, frontend.step_ms = {step_ms}: tiny_conv takes {hop}"
            if classes != 2:
                yield f"model.num_classes = {classes}: tiny_conv has two classes, the phrase and all else; set 2"
            if (inputs := model.frames_per_step * frontend.channels) % 8:
                yield f"model.frames_per_step * frontend.channels = {inputs}: ESP-NN takes multiples of 8; change one"
        if distillation.enabled:
            for key, wanted in (("use_precomputed_features_for_training", False), ("fallback_to_audio", True)):
                if getattr(data, key) != wanted:
                    yield f"data.{key} = {not wanted}: distillation needs raw audio; set it to {str(wanted).lower()}"
            for key in ("alpha", "temperature"):
                schedule, end = (getattr(distillation, f"{key}_{part}") for part in ("schedule", "end"))
                if (schedule != "constant") != (end is not None):
                    yield f"distillation.{key}_schedule = {schedule!r} with {key}_end = {end}; set both or neither"


def _thawed(value: Any) -> Any:
    return value.model_copy() if isinstance(value, Section) and value.frozen else value
