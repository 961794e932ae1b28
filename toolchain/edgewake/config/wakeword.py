"""One object holds all settings of a project; a stage works on a frozen copy that was checked as a whole."""

from __future__ import annotations

import hashlib
import json
import weakref
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

HEADER = "# Every setting of one configuration of edgewake; docs/configuration.md says what each means.\n"


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
        """The whole is no section: its keys have no prefix."""
        return ""

    def model_post_init(self, context: Any, /) -> None:
        """Take sections of a frozen configuration as copies that can be changed."""
        for name, value in self.__dict__.items():
            if isinstance(value, Section) and value.frozen:
                self.__dict__[name] = value.model_copy()
        self._link()

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Section) and value.frozen:
            value = value.model_copy()
        super().__setattr__(name, value)
        self._link()

    def _thaw(self) -> None:
        super()._thaw()
        self._link()

    def _link(self) -> None:
        for value in self.__dict__.values():
            if isinstance(value, Section):
                value._whole = weakref.ref(self)

    # ---- files -----------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: Path | str, *, check: bool = True) -> WakewordConfig:
        """Read YAML; keys that are not given keep their defaults.

        Args:
            check: the whole too; False for one that something else is to find fault with.

        Raises:
            ConfigError: the file cannot be read, a key or value is wrong, or the whole does not fit together.
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
            if not isinstance(key, str):
                raise ConfigError(f"key {key!r} must be text; known keys: {', '.join(cls.model_fields)}")
            field = cls.model_fields.get(key)
            # `training:` with nothing below it, all of it commented out, means its defaults.
            if value is None and field is not None and _is_section(field.annotation):
                values = values | {key: {}}
            if isinstance(value, dict) and any(not isinstance(name, str) for name in value):
                wrong = next(name for name in value if not isinstance(name, str))
                raise ConfigError(f"key {key}.{wrong!r} must be text")
        config = cls(**values)
        if check:
            config.check()
        return config

    def to_mapping(self) -> dict[str, Any]:
        """All settings as plain data, in order."""
        return self.model_dump(mode="python")

    def save(self, path: Path | str) -> None:
        """Write the settings as YAML, atomically; `load` gives an equal configuration.

        Raises:
            ConfigError: the whole does not fit together, so that it could not be loaded again.
        """
        self.check()
        write_text(Path(path), HEADER + self.to_yaml())

    def to_yaml(self) -> str:
        """Every setting, but for `distillation.teacher_architecture` where nobody set it.

        A teacher that is named is never replaced by another one (see `teacher_from_config`): to write the default
        would name it.
        """
        values = self.to_mapping()
        if "teacher_architecture" not in self.distillation.model_fields_set:
            del values["distillation"]["teacher_architecture"]
        return yaml_text.dump(values)

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
        """A checked deep copy that refuses every assignment: what every stage works on.

        Raises:
            ConfigError: the whole does not fit together.
        """
        self.check()
        return super().freeze()

    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of all settings but name, description and the place of the cache."""
        values = self.model_dump(mode="json", exclude={"config_name", "description", "cache"})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def features_frontend(self) -> FrontendConfig:
        """The frontend that gives `data.n_mels` channels every `data.hop_length` samples.

        For tiny_conv it is `frontend` itself; other students, which stay on the host, may take other shapes.
        """
        step_ms = self.data.hop_length * 1000 // self.data.sample_rate
        return self.frontend.model_copy(update={"channels": self.data.n_mels, "step_ms": step_ms})

    def check(self) -> None:
        """Check what concerns several keys.

        Raises:
            ConfigError: naming both keys and the remedy.
        """
        self._check_frontend()
        self._check_distillation()
        model = self.model
        if model.architecture == "tiny_conv":
            self._check_tiny_conv()
        elif self.qat.enabled:
            raise ConfigError(
                f"qat.enabled = True with model.architecture = {model.architecture!r}: only tiny_conv has "
                "quantization in its loop; set qat.enabled: false or model.architecture: tiny_conv"
            )
        if model.pretrained and model.architecture not in ("mobilenetv3", "resnet18"):
            raise ConfigError(
                f"model.pretrained = True with model.architecture = {model.architecture!r}: there are "
                "pretrained weights for mobilenetv3 and resnet18; set model.pretrained: false"
            )
        weights = self.training.class_weights
        if weights is not None and len(weights) != model.num_classes:
            raise ConfigError(
                f"training.class_weights has {len(weights)} values, model.num_classes is "
                f"{model.num_classes}; give one weight a class"
            )

    def _check_frontend(self) -> None:
        if self.data.sample_rate != self.frontend.sample_rate:
            raise ConfigError(
                f"data.sample_rate = {self.data.sample_rate}, frontend.sample_rate = "
                f"{self.frontend.sample_rate}; set both to 16000"
            )
        if self.data.hop_length * 1000 % self.data.sample_rate:
            raise ConfigError(
                f"data.hop_length = {self.data.hop_length}: the frontend steps by whole milliseconds; "
                "use a multiple of 16"
            )
        if self.model.architecture != "tiny_conv":
            self.features_frontend()

    def _check_tiny_conv(self) -> None:
        data, frontend, model = self.data, self.frontend, self.model
        if data.n_mels != frontend.channels:
            raise ConfigError(
                f"data.n_mels = {data.n_mels}, frontend.channels = {frontend.channels}: tiny_conv gets what "
                f"the board's frontend computes; set data.n_mels: {frontend.channels}"
            )
        if data.hop_length != frontend.step_samples:
            raise ConfigError(
                f"data.hop_length = {data.hop_length}, frontend.step_ms = {frontend.step_ms}: tiny_conv gets "
                f"what the board's frontend computes; set data.hop_length: {frontend.step_samples}"
            )
        if model.num_classes != 2:
            raise ConfigError(
                f"model.num_classes = {model.num_classes}: tiny_conv tells the phrase from all else; set 2"
            )
        inputs = model.frames_per_step * frontend.channels
        if inputs % 8:
            raise ConfigError(
                f"model.frames_per_step * frontend.channels = {inputs}: ESP-NN's 1x1 convolution takes "
                "multiples of 8; change model.frames_per_step"
            )

    def _check_distillation(self) -> None:
        if not self.distillation.enabled:
            return
        if self.data.use_precomputed_features_for_training:
            raise ConfigError(
                "data.use_precomputed_features_for_training = True with distillation.enabled = True: the "
                "teacher needs raw audio; set data.use_precomputed_features_for_training: false"
            )
        if not self.data.fallback_to_audio:
            raise ConfigError(
                "data.fallback_to_audio = False with distillation.enabled = True: the teacher needs raw "
                "audio; set data.fallback_to_audio: true"
            )
        distillation = self.distillation
        members = distillation.teachers
        if distillation.teacher_architecture == "ensemble":
            if len(members) < 2:
                raise ConfigError(
                    f"distillation.teachers = {list(members)}: an ensemble has two members or more, such as "
                    "[whisper, word_embedding]"
                )
            if distillation.teacher_weights and len(distillation.teacher_weights) != len(members):
                raise ConfigError(
                    f"distillation.teacher_weights has {len(distillation.teacher_weights)} values, "
                    f"distillation.teachers {len(members)}; give one weight a member, or none"
                )
        for name in ("alpha", "temperature"):
            schedule, end = (getattr(distillation, f"{name}_{part}") for part in ("schedule", "end"))
            if (schedule != "constant") != (end is not None):
                raise ConfigError(
                    f"distillation.{name}_schedule = {schedule!r} with distillation.{name}_end = {end}: a "
                    "schedule needs an end, and an end a schedule; set both or neither"
                )


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)
