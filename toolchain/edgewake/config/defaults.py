"""Every setting with its type, range, default and description, and the one object that holds them all.

The documentation shows these descriptions. A stage works on a frozen copy that was checked as a whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from edgewake.cache import Cache
from edgewake.config import yaml_text
from edgewake.config.base import Section, replaced, replaced_in, unknown_key
from edgewake.config.frontend import FrontendConfig
from edgewake.errors import ConfigError
from edgewake.io import write_text

HEADER = "# Every setting of one configuration of edgewake; docs/configuration.md describes them.\n"


def _to_text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"must be [low, high] with low <= high; try [{value[1]}, {value[0]}]")
    return value


Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(ge=-120, le=0)]
Hertz = Annotated[float, Field(ge=500, le=8000)]
Ratio = Annotated[float, Field(ge=-30, le=80)]
Factor = Annotated[float, Field(ge=0.5, le=2.0)]
Seconds = Annotated[float, Field(gt=0, le=5)]
Drive = Annotated[float, Field(ge=0, le=40)]
PathText = Annotated[str, BeforeValidator(_to_text)]
Kernel = Annotated[int, Field(ge=2, le=63)]
Weight = Annotated[float, Field(ge=0)]
Codec = Literal["vorbis", "mp3", "opus"]
Architecture = Literal["tiny_conv", "mobilenetv3", "resnet18", "lstm", "gru", "tcn"]

T = TypeVar("T")
# Lists are taken too, but kept as tuples, which cannot be changed without validation.
Range = Annotated[tuple[T, T], Field(strict=False), AfterValidator(_ordered)]
Several = Annotated[tuple[T, ...], Field(strict=False)]
ClassWeights = Annotated[tuple[Weight, ...], Field(min_length=2, strict=False)]


class CacheConfig(Section):
    """Where results that are kept by content are stored: rendered clips, features, teachers' outputs, build stages."""

    folder: PathText = Field("", description="empty: $EDGEWAKE_CACHE, or build/cache below the working folder")
    limit_gb: float = Field(50.0, gt=0, description="above this size the least recently used results are removed, GB")

    def open(self) -> Cache:
        """The cache itself."""
        return Cache(self.folder, self.limit_gb)


class DataConfig(Section):
    """The recordings, and the shape of a clip."""

    phrase: str = Field("computer", min_length=1, description="the wake phrase, as the corpus writes it")
    manifest: PathText = Field("", description="corpus manifest; empty: imported from $EDGEWAKE_CORPORA/manifest.csv")
    strict: bool = Field(False, description="stop at a file that cannot be used, instead of leaving it out")
    max_file_seconds: float = Field(3600.0, gt=0, description="longer files count as too long, s")
    sample_rate: Literal[16000] = Field(16000, description="Hz; files of other rates are resampled when they are read")
    audio_duration: float = Field(1.5, ge=0.2, le=30, description="length of a training clip, s")
    n_mels: int = Field(40, ge=8, le=128, description="mel channels; for tiny_conv the same as frontend.channels")
    hop_length: int = Field(160, ge=80, le=480, description="samples between frames; for tiny_conv the frontend's step")
    feature_type: Literal["mel"] = Field("mel", description="log-mel of the board's frontend (tiny_conv) or torchaudio")
    use_precomputed_features_for_training: bool = Field(False, description="loaders give features, not audio")
    fallback_to_audio: bool = Field(True, description="a trainer's loaders may give raw audio, as distillation needs")
    seed: int = Field(0, ge=0, lt=2**32, description="of rendered clips; training.seed is for all the rest")
    positive_fraction: float = Field(
        1.0, gt=0, le=1, description="share of the phrase's training recordings that are used"
    )
    positive_renders: int = Field(24, ge=1, le=10000, description="training clips from each recording of the phrase")
    validation_renders: int = Field(4, ge=1, le=1000, description="validation clips from each recording of the phrase")
    fragment_renders: int = Field(
        3, ge=0, le=10000, description="training clips of parts of each recording of the phrase, as negatives"
    )
    near_renders: int = Field(
        8, ge=1, le=10000, description="training clips from each recording that nearly holds the phrase (family near_*)"
    )
    negative_renders: int = Field(2, ge=1, le=1000, description="passes over all other training audio")
    negative_hop: float = Field(0.75, gt=0, le=4, description="clips of a long recording start this part of one apart")
    short_negative_renders: int = Field(
        2, ge=1, le=1000, description="factor on negative_renders for shorter recordings"
    )
    negative_crop: float = Field(
        1.0, ge=1, le=4, description="clips of long negatives are stored this many times as long; epochs crop at random"
    )
    splice_share: Share = Field(0.0, description="share of negative clips that are joined from several recordings")
    feature_negatives: Several[PathText] = Field(
        (), description="folders of features without the phrase, as microWakeWord keeps them, for training (no teacher)"
    )
    feature_negative_weight: float = Field(
        1.0, gt=0, le=1000, description="how often one of their clips is drawn, relative to a rendered negative"
    )


class ModelConfig(Section):
    """The student."""

    architecture: Architecture = Field("tiny_conv", description="tiny_conv is the one that streams on the board")
    num_classes: int = Field(2, ge=2, le=1000, description="classes; the phrase is class 1")
    pretrained: bool = Field(False, description="start from weights trained on images (mobilenetv3, resnet18)")
    dropout: float = Field(0.2, ge=0, lt=1, description="chance of dropping a channel in training")
    width: int = Field(112, ge=16, le=256, multiple_of=16, description="tiny_conv: channels of every block")
    kernel_sizes: Several[Kernel] = Field(
        (21, 23), min_length=1, max_length=16, description="tiny_conv: steps that each depthwise spans"
    )
    pool: int = Field(0, ge=0, le=63, description="tiny_conv: steps of average pooling before the head; 0: none")
    frames_per_step: int = Field(3, ge=1, le=8, description="tiny_conv: frames of features that one inference takes")
    trunk: PathText = Field("", description="tiny_conv: folder of a trunk to start from, or released; empty: none")
    hidden: int = Field(0, ge=0, le=4096, description="lstm, gru: units of each layer (0: 128); tcn: channels (0: 64)")
    layers: int = Field(0, ge=0, le=16, description="lstm, gru: layers (0: 2); tcn: residual blocks (0: 5)")
    bidirectional: bool = Field(False, description="lstm, gru: run over the clip backwards as well")
    kernel_size: int = Field(3, ge=2, le=15, description="tcn: frames that each convolution spans")

    def options(self) -> dict[str, Any]:
        """Keyword arguments of `create_model` beside architecture, num_classes and input_size."""
        names = {
            "tiny_conv": ("width", "kernel_sizes", "frames_per_step", "pool"),
            "tcn": ("kernel_size", "hidden", "layers"),
            "lstm": ("bidirectional", "hidden", "layers"),
            "gru": ("bidirectional", "hidden", "layers"),
        }.get(self.architecture, ("pretrained",))
        chosen = {name: getattr(self, name) for name in names}
        # 0 stands for the architecture's own default.
        return {"dropout": self.dropout} | {
            name: value for name, value in chosen.items() if value or name not in ("hidden", "layers", "pool")
        }


class TrainingConfig(Section):
    """The training loop."""

    seed: int = Field(0, ge=0, lt=2**32, description="of weights, batches and masks")
    batch_size: int = Field(32, ge=2, le=65536, description="clips a batch")
    epochs: int = Field(80, ge=1, le=1_000_000, description="at most this many, over both phases")
    batches_per_epoch: int = Field(0, ge=0, description="batches an epoch; 0: as many as take every positive clip once")
    learning_rate: float = Field(0.001, gt=0, le=10, description="peak of the schedule")
    early_stopping_patience: int = Field(15, ge=0, description="epochs without better score that end a phase; 0: never")
    negatives_per_positive: float = Field(3.0, gt=0, le=1000, description="class balance of a batch")
    near_share: Share = Field(0.2, description="of a batch: what nearly holds the phrase, where there is such")
    fragment_share: Share = Field(0.1, description="of a batch: parts of the phrase; the other negatives fill up")
    hard_share: Share = Field(
        0.0, description="of a batch: the hardest of hard_candidates negatives by the model of that step; 0: none"
    )
    hard_candidates: int = Field(128, ge=1, le=65536, description="negatives that hard_share is chosen from")
    class_weights: ClassWeights | None = Field(None, description="factor on the loss of each class; null: all 1")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="of the weights' average, validated and exported; 0: none")
    averaged_runs: int = Field(
        1,
        ge=1,
        le=64,
        description="float phases from the same start, of which the mean weights go on",
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="mass moved from a label to all classes")
    focal_gamma: float = Field(0.0, ge=0, le=10, description="a clip's loss is multiplied by (1 - p of label)^gamma")
    hard_negative_mining: bool = Field(True, description="draw negatives with a high probability more often")
    hard_negative_weight: float = Field(2.0, ge=1, le=100, description="factor on a hard negative's loss")
    mining_interval: int = Field(2, ge=1, description="epochs between two minings")
    workers: int = Field(0, ge=0, description="processes that load data; 0: none beside the main one")
    mining_boost: float = Field(10.0, ge=0, le=1000, description="a negative is drawn 1 + boost * p times as often")
    mining_cutoff: float = Field(0.5, gt=0, lt=1, description="probability from which a negative counts as hard")
    threads: int = Field(0, ge=0, le=1024, description="torch's threads on a CPU; 0: torch's choice")
    log_every: int = Field(20, ge=1, description="steps between two lines of metrics")
    checkpoint_steps: int = Field(1000, ge=0, description="steps between checkpoints in an epoch; 0: only at its end")

    @property
    def positive_share(self) -> float:
        """Share of positives in a batch: 1 / (1 + negatives_per_positive)."""
        return 1 / (1 + self.negatives_per_positive)

    @property
    def hardest(self) -> int:
        """Clips of a batch that are the hardest of `hard_candidates`."""
        return round(self.batch_size * self.hard_share)

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of a batch: the phrase, what nearly holds it, parts of it."""
        return self.positive_share, self.near_share, self.fragment_share


class AugmentationConfig(Section):
    """Variation of training clips. Ranges are [low, high]; a probability applies to each clip anew."""

    enabled: bool = Field(True, description="False: clips are used as they are")
    background_noise_prob: Share = Field(0.5, description="chance of a background")
    snr_db: Range[Ratio] = Field((0.0, 25.0), description="active speech over the background's mean power, dB")
    synthetic_noise_share: Share = Field(0.15, description="share of backgrounds that are generated")
    impulse_share: Share = Field(
        0.3, description="share of generated backgrounds that are trains of clicks and knocks, not noise or hum"
    )
    talker_prob: Share = Field(0.0, description="chance of a second talker")
    talker_db: Range[Ratio] = Field((5.0, 20.0), description="active speech over the second talker's mean power, dB")
    rir_prob: Share = Field(0.3, description="chance of a room")
    synthetic_rir_share: Share = Field(0.7, description="share of rooms that are generated")
    simulated_rooms: int = Field(
        0, ge=0, le=100_000, description="so many generated rooms are simulated (pyroomacoustics); 0: decaying noise"
    )
    rt60_s: Range[Seconds] = Field((0.1, 0.9), description="reverberation time of generated rooms, s")
    heavy_share: Share = Field(0.0, description="share of clips with the three heavy_* values instead of the usual")
    heavy_background_prob: Share = Field(0.95, description="background_noise_prob of heavy clips")
    heavy_snr_db: Range[Ratio] = Field((-3.0, 15.0), description="snr_db of heavy clips, dB")
    heavy_rir_prob: Share = Field(0.8, description="rir_prob of heavy clips")
    gain_prob: Share = Field(0.9, description="chance of a new level")
    peak_dbfs: Range[Level] = Field((-40.0, 0.0), description="the clip's new peak, dB of full scale")
    time_shift_ms: float = Field(100.0, ge=0, le=5000, description="a clip moves by up to this much either way, ms")
    speed_prob: Share = Field(0.5, description="chance of another speed, pitch with it")
    speed: Range[Factor] = Field((0.85, 1.18), description="speed factor; above 1 is faster")
    voice_prob: Share = Field(
        0.0, description="chance of another speaker by pitch, formants and duration (praat-parselmouth), slow"
    )
    negative_voice_prob: Share = Field(0.0, description="voice_prob of clips that hold nothing of the phrase")
    lowpass_prob: Share = Field(0.3, description="chance of a narrower band")
    lowpass_hz: Range[Hertz] = Field((3400.0, 8000.0), description="edge of the band, Hz")
    equalizer_prob: Share = Field(0.3, description="chance of another microphone's response")
    equalizer_db: float = Field(6.0, ge=0, le=24, description="gain of each octave, up to, dB")
    requantize_prob: Share = Field(0.1, description="chance of 8 bits, linear or mu-law")
    codec_prob: Share = Field(0.05, description="chance of coding and decoding")
    codecs: Several[Codec] = Field(("vorbis", "mp3"), description="codecs to draw from: vorbis, mp3, opus (slow)")
    clip_prob: Share = Field(0.05, description="chance of an overdriven microphone")
    clip_db: Range[Drive] = Field((1.0, 12.0), description="how far the peak is driven over the limit, dB")
    noise_floor_prob: Share = Field(0.9, description="chance of a faint noise under everything")
    noise_floor_dbfs: Range[Level] = Field((-90.0, -60.0), description="its level, dBFS, at most 40 dB below the peak")
    spec_augment: bool = Field(True, description="mask bands of time and mel in the features")
    spec_augment_prob: Share = Field(0.5, description="chance that a clip is masked")
    time_masks: int = Field(1, ge=0, le=20, description="masks over time")
    time_mask_frames: int = Field(15, ge=0, le=500, description="greatest width of one, frames")
    mel_masks: int = Field(1, ge=0, le=20, description="masks over mel")
    mel_mask_channels: int = Field(6, ge=0, le=128, description="greatest width of one, channels")
    mel_warp_channels: float = Field(1.5, ge=0, le=20, description="most stretch of the mel axis at its top, channels")
    tempo_warp: float = Field(0.0, ge=0, le=1, description="frames are stretched in time by up to this share")


class OptimizerConfig(Section):
    """The optimizer and its schedule."""

    optimizer: Literal["adamw", "adam", "sgd"] = Field("adamw", description="the rule")
    weight_decay: float = Field(0.01, ge=0, le=10, description="on weights, not on biases and norms")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd only")
    scheduler: Literal["cosine", "constant"] = Field("cosine", description="cosine: warm-up, then to 1 % in each phase")
    warmup_steps: int = Field(200, ge=0, description="at most; never more than a tenth of a phase")
    gradient_clip: float = Field(1.0, ge=0, description="greatest norm of all gradients; 0: no limit")
    mixed_precision: bool = Field(True, description="float16 where it helps (CUDA); elsewhere no effect")


TeacherArchitecture = Literal[
    "wav2vec2", "hubert", "wavlm", "data2vec-audio", "whisper", "speech_embedding", "word_embedding", "ensemble", "self"
]
Schedule = Literal["constant", "linear", "cosine"]


class DistillationConfig(Section):
    """Distillation: loss = (1 - alpha) student + alpha temperature^2 KL(student || teacher)."""

    enabled: bool = Field(False, description="train on a teacher's outputs as well as on labels")
    teacher_model_path: PathText = Field(
        "", description="teacher.pt, state_dict or Hugging Face folder; empty: teacher_name"
    )
    teacher_architecture: TeacherArchitecture = Field(
        "wav2vec2", description="ensemble: `teachers`; self: the student's average, or a student at teacher_model_path"
    )
    teacher_name: str = Field("", description="pretrained weights, or a checkpoint's network; empty: the usual")
    teachers: Several[str] = Field(
        (), description="ensemble: its members, ARCHITECTURE or ARCHITECTURE:PATH; self: students' runs, for their mean"
    )
    teacher_weights: Several[Weight] = Field((), description="ensemble: one weight a member; empty: all alike")
    ensemble_mean: Literal["probabilities", "logits"] = Field("probabilities", description="ensemble: what is averaged")
    temperature: float = Field(2.0, ge=1, le=10, description="softens both distributions; 2 to 4 is usual")
    temperature_end: float | None = Field(None, ge=1, le=10, description="at the end, with temperature_schedule")
    temperature_schedule: Schedule = Field("constant", description="how temperature goes to temperature_end")
    alpha: Share = Field(0.5, description="weight of the teacher against the labels; 0.3 to 0.7 is usual")
    alpha_end: Share | None = Field(None, description="alpha at the end of training, with alpha_schedule")
    alpha_schedule: Schedule = Field("constant", description="how alpha goes to alpha_end over all epochs")
    hint_weight: float = Field(0.0, ge=0, le=1000, description="of the distance of projected features to embeddings")
    hint_loss: Literal["mse", "cosine"] = Field("mse", description="distance of the projected features")
    frame_weight: float = Field(0.0, ge=0, le=1000, description="of frame-wise distillation, from logits along time")
    frame_delay_ms: float = Field(
        200.0,
        ge=0,
        le=2000,
        description="delay of the teacher's logits for a causal student; teacher.context_ms / 2, ms",
    )
    gradient_checkpointing: bool = Field(False, description="recompute activations of trained layers to save memory")
    store_outputs: bool = Field(True, description="keep a teacher's outputs in the cache; false: run it in each step")


class TeacherConfig(Section):
    """How `edgewake teacher train` fits a teacher to the phrase."""

    head: Literal["linear", "conv"] = Field(
        "conv", description="linear: on the mean of the frames; conv: a logit along time, of which the smoothed maximum"
    )
    hidden: int = Field(64, ge=1, le=4096, description="conv: channels between embeddings and logit")
    context_ms: int = Field(400, ge=20, le=4000, description="conv: time that one logit depends on, ms")
    dropout: float = Field(0.1, ge=0, lt=1, description="of embeddings' channels, in training")
    epochs: int = Field(10, ge=1, le=100_000, description="passes of the head's training")
    batch_size: int = Field(128, ge=2, le=65536, description="clips a batch")
    learning_rate: float = Field(0.002, gt=0, le=10, description="of the head")
    weight_decay: float = Field(0.01, ge=0, le=10, description="on weights")
    unfreeze_layers: int = Field(0, ge=0, le=1000, description="last layers that are trained too, on audio")
    backbone_learning_rate: float | None = Field(None, gt=0, le=1, description="null: 0.00003, or 0.001 from scratch")
    from_scratch: bool = Field(False, description="train a small network of the architecture; nothing is fetched")
    layers: int = Field(4, ge=1, le=48, description="from_scratch: transformer layers")
    width: int = Field(128, ge=16, le=4096, multiple_of=8, description="from_scratch: their width")


class QATConfig(Section):
    """Quantization-aware training, the last phase."""

    enabled: bool = Field(False, description="train with int8 weights and activations at the end")
    backend: Literal["qnnpack"] = Field("qnnpack", description="the int8 format that QNNPACK, TFLM and ESP-NN share")
    fraction: float = Field(0.3, gt=0, lt=1, description="share of the epochs that this phase takes")
    learning_rate_factor: float = Field(0.1, gt=0, le=1, description="peak rate, relative to training.learning_rate")
    observe_batches: int = Field(20, ge=1, le=10000, description="batches that set the ranges before BatchNorm folding")


class EvaluationConfig(Section):
    """How a model is evaluated, and how it detects."""

    window: int = Field(4, ge=1, le=64, description="steps whose probabilities are averaged, in training and on board")
    refractory_s: float = Field(1.0, ge=0, le=60, description="no second event within this time, s")
    target_fa_per_hour: float = Field(0.1, gt=0, le=1000, description="allowed false accepts an hour on validation")
    lowest_recall: float = Field(0.5, ge=0, le=1, description="a cutoff with less recall on validation is an error")
    snr_db: float = Field(10.0, ge=-30, le=80, description="of the noisy recall that picks checkpoints; reports use 10")


# What the chip offers. A project may ask for less, never for more.
MODEL_BYTES = 64 * 1024
ARENA_BYTES = 40 * 1024
RAM_BYTES = 64 * 1024
CPU_SHARE = 0.25


class TargetConfig(Section):
    """What the board offers; limits can be lowered, not raised."""

    name: Literal["esp32s3-nopsram"] = Field("esp32s3-nopsram", description="the chip")
    model_bytes: int = Field(MODEL_BYTES, gt=0, le=MODEL_BYTES, description="flash for the model, B")
    arena_bytes: int = Field(ARENA_BYTES, gt=0, le=ARENA_BYTES, description="arena with the accelerator's scratch, B")
    ram_bytes: int = Field(RAM_BYTES, gt=0, le=RAM_BYTES, description="static RAM of the whole pipeline, B")
    cpu_share: float = Field(CPU_SHARE, gt=0, le=CPU_SHARE, description="of one core at 240 MHz")


class WakewordConfig(Section):
    """All settings. Each assigned value is checked at once, the whole by `check`, `load`, `save` and `freeze`."""

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
        """Take sections as copies that can be changed: they may be those of a frozen configuration."""
        self.__dict__.update({name: value.model_copy() for name, value in self if isinstance(value, Section)})

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value.model_copy() if isinstance(value, Section) else value)

    # ---- files -----------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: Path | str, *, check: bool = True) -> WakewordConfig:
        """Read YAML; keys that are not given keep their defaults. Without `check` they may contradict one another."""
        try:
            return cls.from_mapping(yaml_text.load_mapping(Path(path)), check=check)
        except ConfigError as error:
            raise error if str(path) in str(error) else ConfigError(f"{path}: {error}") from None

    @classmethod
    def from_mapping(cls, values: dict[str, Any], *, check: bool = True) -> WakewordConfig:
        """From plain data, as `model_dump` gives it; `check` and errors as in `load`."""
        values = replaced_in(values)
        # `training:` with nothing below it, all of it commented out, means its defaults.
        sections = {key for key, field in cls.model_fields.items() if field.default_factory}
        config = cls(**{key: {} if value is None and key in sections else value for key, value in values.items()})
        if check:
            config.check()
        return config

    def to_yaml(self) -> str:
        """Every setting, but for `distillation.teacher_architecture` where nobody set it.

        A named teacher is never replaced by another one (`teacher_from_config`), and the default is not named.
        """
        values = self.model_dump()
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

    @property
    def qat_epochs(self) -> int:
        """Epochs of phase `qat`; 0 without it."""
        return max(1, round(self.training.epochs * self.qat.fraction)) if self.qat.enabled else 0

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
        if (given := sum(self.training.shares) + self.training.hard_share) >= 1:
            yield (
                "training.negatives_per_positive, near_share, fragment_share and hard_share leave "
                f"{1 - given:.2f} of a batch to other negatives: raise the first or lower the others"
            )
        if (hardest := self.training.hardest) > self.training.hard_candidates:
            yield (
                f"training.hard_candidates = {self.training.hard_candidates}: training.hard_share takes {hardest} of "
                "them; raise the first or lower the second"
            )
        runs, epochs = self.training.averaged_runs, self.training.epochs - self.qat_epochs
        if runs > 1 and (epochs < runs or epochs % runs):
            yield (
                f"training.averaged_runs = {runs}: the float phase has {epochs} of the epochs, which is no multiple; "
                "change training.epochs or qat.fraction"
            )
        if data.negative_crop > 1 and (name != "tiny_conv" or distillation.enabled):
            yield f"data.negative_crop = {data.negative_crop}: only tiny_conv without a teacher takes crops; set 1"
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
