"""A trainer whose student learns from labels and from a frozen teacher, by the guide's combined loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from edgewake.config import WakewordConfig
from edgewake.console import console
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.models.tiny_conv import TinyConv
from edgewake.teachers.base import SAMPLE_RATE, OutputSource, Teacher, TeacherOutputs
from edgewake.teachers.registry import teacher_from_config
from edgewake.training.checkpoint_manager import CheckpointManager, kept_rng
from edgewake.training.losses import alpha_and_temperature, at_times, distillation_loss, frame_loss, hint_loss
from edgewake.training.students import student_of_checkpoint
from edgewake.training.teacher_fit import fit_on_loader
from edgewake.training.trainer import Trainer

SKIP_MESSAGE = "Distillation skip verified: Teacher NOT called with spectrogram inputs."
# A running mean of fewer losses is too noisy for advice.
ADVICE_AFTER = 20
# Share of the newest step in the running means.
NEWEST = 0.05


class DistillationTrainer(Trainer):
    """`Trainer` with the loss (1 - alpha) student + alpha T^2 KL(teacher || student), and more if asked for.

    The teacher's outputs come, in this order, from `source` by the numbers of a batch's clips; from the
    student itself (`teacher_architecture: self`); from the teacher, when inputs are raw audio, (batch,
    samples). Spectrograms skip the teacher: a message says so once a run, and such batches are counted.

    A teacher is frozen and in eval mode, is never part of the model or its checkpoints, and runs under the
    same mixed precision as the student. With `hint_weight` the student's features are projected to the
    teacher's embeddings, by a projection that is trained, kept in checkpoints, and not exported. With
    `frame_weight` the student's logits along time follow the teacher's, `frame_delay_ms` later.

    Args:
        teacher: raw audio to logits; None for the one that `config.distillation` names. One whose head is
            untrained is fitted to the clips of `train_loader`.
        source: outputs for clips by number, in place of a teacher; see `teachers.base.OutputSource`.
        rest: as for `Trainer`.

    Attributes:
        teacher: the frozen teacher; None where outputs come from a source or from the student's own average.
        skipped_batches: how many batches did not reach a teacher.

    Raises:
        ConfigError: what is asked for cannot be had of this student or teacher.
    """

    def __init__(
        self,
        model: nn.Module,
        train_loader: DataLoader[Any],
        val_loader: DataLoader[Any],
        config: WakewordConfig,
        checkpoint_manager: CheckpointManager,
        device: str = "cpu",
        *,
        teacher: nn.Module | None = None,
        source: OutputSource | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(model, train_loader, val_loader, config, checkpoint_manager, device, **rest)
        self.source = source
        self.teacher: nn.Module | None = None
        self.skipped_batches = 0
        self._seen: dict[str, Tensor] = {}
        self._means: list[float] = []
        self._measured = 0
        self._advised: list[str] = []
        distillation = self.config.distillation
        if not distillation.enabled:
            return
        if source is None:
            self.teacher = self._init_teacher(teacher)
        elif teacher is not None:
            self.teacher = freeze(teacher)
        if distillation.frame_weight and not hasattr(self.model, "step_logits"):
            raise ConfigError(
                f"distillation.frame_weight = {distillation.frame_weight}: {type(self.model).__name__} gives "
                "no logits along time, only tiny_conv does; set distillation.frame_weight: 0"
            )
        if distillation.hint_weight:
            self._add_projection()

    # ---- the teacher ---------------------------------------------------------------------------

    @property
    def self_taught(self) -> bool:
        """Whether the teacher is a student, which gets the inputs that the student gets."""
        return self.source is None and self.config.distillation.teacher_architecture == "self"

    def _init_teacher(self, teacher: nn.Module | None) -> nn.Module | None:
        """The frozen teacher on the device, its head fitted; None for the student's own average."""
        if self.self_taught:
            return self._init_self(teacher)
        if teacher is None:
            teacher = teacher_from_config(self.config)
        teacher = teacher.to(self.device)
        if isinstance(teacher, Teacher) and not teacher.head_trained and gives_raw_audio(self.train_loader):
            self._fit(teacher)
        return freeze(teacher)

    def _fit(self, teacher: Teacher) -> None:
        """Fit a teacher to the clips of the training loader, once for all processes."""
        with kept_rng():
            self.processes.main_only(lambda: fit_on_loader(teacher, self.train_loader, self.config))
        self.processes.share_weights(teacher)

    def _init_self(self, teacher: nn.Module | None) -> nn.Module | None:
        path = self.config.distillation.teacher_model_path
        if teacher is None and path:
            with kept_rng():
                teacher = student_of_checkpoint(path, self.model)
        if teacher is not None:
            return freeze(teacher.to(self.device))
        if self._average is None:
            raise ConfigError(
                "training.ema_decay = 0 with distillation.teacher_architecture = 'self': there is no running "
                "average to learn from; set training.ema_decay: 0.99, or give distillation.teacher_model_path"
            )
        return None

    @property
    def _other_student(self) -> nn.Module:
        """The student that teaches: an earlier one, or the running average of this one."""
        if self.teacher is not None:
            return self.teacher
        assert self._average is not None
        return self._average.module.eval()

    @torch.no_grad()
    def teacher_outputs(self, inputs: Tensor | None, processed_inputs: Tensor | None) -> TeacherOutputs | None:
        """The teacher's outputs for the present batch; None where it is not audio.

        Args:
            inputs: as the loader gave them.
            processed_inputs: as the student saw them.

        Raises:
            EdgewakeError: outputs are stored by clip and the loader gives no numbers of clips.
        """
        if self.source is not None:
            if self.clips is None:
                raise EdgewakeError(
                    "outputs of the teacher are stored by clip, but the loader's batches have no numbers of "
                    "clips: give (inputs, targets, is_hard_negative, clips)"
                )
            return TeacherOutputs(
                *(None if part is None else part.to(self.device) for part in self.source.of(self.clips))  # type: ignore[arg-type]
            )
        if self.self_taught:
            return None if processed_inputs is None else self._student_outputs(processed_inputs)
        if inputs is None or self.teacher is None:
            return None
        if inputs.dim() != 2:
            self._skip()
            return None
        audio = inputs.to(self.device, torch.float32)
        distillation = self.config.distillation
        if distillation.hint_weight or distillation.frame_weight:
            assert isinstance(self.teacher, Teacher)
            return self.teacher.outputs(audio)
        return TeacherOutputs(self.teacher(audio))

    def _student_outputs(self, processed_inputs: Tensor) -> TeacherOutputs:
        teacher = self._other_student
        with captured(teacher, "features", "step_logits") as seen:
            logits = teacher(processed_inputs)
        frames, along = seen.get("features"), seen.get("step_logits")
        return TeacherOutputs(
            logits,
            None if frames is None else as_frames(frames),
            None if along is None else torch.stack([torch.zeros_like(along), along], dim=2),
        )

    def _skip(self) -> None:
        self.skipped_batches += 1
        if self.skipped_batches == 1:
            console.print(
                f"{SKIP_MESSAGE} Give it raw audio: WakewordDataset(return_raw_audio=True), "
                "data.use_precomputed_features_for_training: false, data.fallback_to_audio: true",
                soft_wrap=True,
            )

    # ---- the loss ------------------------------------------------------------------------------

    def forward_student(self, processed: Tensor) -> Tensor:
        """The student's logits; where losses need them, its features and logits along time are kept."""
        distillation = self.config.distillation
        if not distillation.enabled or not (distillation.hint_weight or distillation.frame_weight):
            return super().forward_student(processed)
        with captured(self.model, "features", "step_logits") as self._seen:
            return super().forward_student(processed)

    def training_share(self) -> float:
        """How much of all epochs is done: 0 in the first step, 1 in the last."""
        batches = max(1, self.batches_per_epoch)
        done = self.progress.epoch * batches + self.progress.batch
        return min(1.0, done / max(1, self.config.training.epochs * batches - 1))

    def compute_loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        inputs: Tensor | None = None,
        processed_inputs: Tensor | None = None,
        is_hard_negative: Tensor | None = None,
    ) -> Tensor:
        """(1 - alpha) student_loss + alpha T^2 KL + hint_weight hint + frame_weight frame-wise; a scalar.

        Logs student_loss, distillation_loss (T^2 KL), total_loss and loss_ratio (of the second to the first).

        Args:
            outputs: the student's logits, (batch, classes).
            targets: class indices, (batch,).
            inputs: raw audio, (batch, samples), or features, which skip the teacher.
            processed_inputs: what the student saw.
            is_hard_negative: bool, (batch,).

        Raises:
            EdgewakeError: logits of the student or of the teacher are not finite, or their shapes differ.
        """
        student_loss = super().compute_loss(outputs, targets, inputs, processed_inputs, is_hard_negative)
        distillation = self.config.distillation
        if not distillation.enabled:
            return student_loss
        self._check_finite(outputs, "student")
        taught = self.teacher_outputs(inputs, processed_inputs)
        seen, self._seen = self._seen, {}
        if taught is None:
            return student_loss
        self._check_finite(taught.logits, "teacher")
        if taught.logits.shape != outputs.shape:
            raise EdgewakeError(
                f"teacher gives logits of shape {tuple(taught.logits.shape)}, student "
                f"{tuple(outputs.shape)} (clips, classes): give both the same clips and the same num_classes"
            )
        alpha, temperature = alpha_and_temperature(distillation, self.training_share())
        total, soft = distillation_loss(student_loss, outputs, taught.logits, alpha=alpha, temperature=temperature)
        figures = {}
        if distillation.hint_weight or distillation.frame_weight:
            if processed_inputs is None:
                raise EdgewakeError("compute_loss needs processed_inputs for hints and frame-wise distillation")
            for name, weight, loss in self._losses_along_time(seen, taught, inputs, processed_inputs, temperature):
                total = total + weight * loss
                figures[name] = float(loss.detach())
        if distillation.alpha_schedule != "constant":
            figures["alpha"] = alpha
        if distillation.temperature_schedule != "constant":
            figures["temperature"] = temperature
        student, teacher = float(student_loss.detach()), float(soft.detach())
        self.log_metrics(
            {
                "student_loss": student,
                "distillation_loss": teacher,
                "total_loss": float(total.detach()),
                "loss_ratio": teacher / max(student, 1e-12),
                **figures,
            }
        )
        self._advise(student, teacher)
        return total

    def combine(self, means: dict[str, float]) -> dict[str, float]:
        """loss_ratio is the ratio of mean losses, not the mean of ratios."""
        if "distillation_loss" in means:
            return means | {"loss_ratio": means["distillation_loss"] / max(means["student_loss"], 1e-12)}
        return means

    def _check_finite(self, logits: Tensor, whose: str) -> None:
        if bool(torch.isfinite(logits).all()):
            return
        remedy = (
            "lower training.learning_rate or optimizer.gradient_clip"
            if whose == "student"
            else "check its weights with edgewake teacher evaluate, or set optimizer.mixed_precision: false"
        )
        raise EdgewakeError(
            f"logits of the {whose} are not finite in epoch {self.progress.epoch + 1}, batch "
            f"{self.progress.batch}: {remedy}"
        )

    def _advise(self, student: float, teacher: float) -> None:
        """The guide's advice, once each way, when the ratio of the running means leaves 0.1 to 10."""
        if not (math.isfinite(student) and math.isfinite(teacher)):
            return
        self._means = [
            old + NEWEST * (new - old)
            for old, new in zip(self._means or [student, teacher], (student, teacher), strict=True)
        ]
        self._measured += 1
        ratio = self._means[1] / max(self._means[0], 1e-12)
        high = ratio > 10
        side = "high" if high else "low"
        if self._measured < ADVICE_AFTER or 0.1 <= ratio <= 10 or side in self._advised:
            return
        self._advised.append(side)
        advice = (
            "> 10: Student and teacher too different (reduce alpha)"
            if high
            else "< 0.1: Teacher not contributing (increase alpha)"
        )
        console.print(
            f"loss_ratio {ratio:.3g} {advice}; distillation.alpha = {self.config.distillation.alpha}",
            soft_wrap=True,
        )

    # ---- hints and frames ----------------------------------------------------------------------

    def _add_projection(self) -> None:
        """A linear map from the student's features to embeddings; the run's other random numbers stay."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.training.seed)
            projection = nn.Linear(self._student_size(self.model), self._embedding_size())
        self.extras["hint"] = projection.to(self.device)
        self.optimizer = self._make_optimizer()

    def _student_size(self, student: nn.Module) -> int:
        distillation, data = self.config.distillation, self.config.data
        if not hasattr(student, "features"):
            raise ConfigError(
                f"distillation.hint_weight = {distillation.hint_weight}: {type(student).__name__} "
                "has no method features(x); add one, or set distillation.hint_weight: 0"
            )
        mels = int(getattr(student, "input_size", data.n_mels))
        frames = int(data.audio_duration * data.sample_rate) // data.hop_length + 1
        was_training = student.training
        with torch.no_grad():
            silence = next(student.parameters()).new_zeros(1, frames, mels)
            size = int(student.eval().features(silence).shape[1])  # type: ignore[operator]
        student.train(was_training)
        return size

    def _embedding_size(self) -> int:
        if self.self_taught:
            return self._student_size(self._other_student)
        if self.source is not None:
            frames = self.source.of(torch.zeros(1, dtype=torch.int64)).frames
            size = None if frames is None else frames.shape[2]
        else:
            size = self.teacher.embedding_size if isinstance(self.teacher, Teacher) else None
        if not size:
            raise self._lacks("hint_weight", "embeddings", "choose one network as teacher")
        return size

    def _lacks(self, key: str, what: str, remedy: str) -> ConfigError:
        value = getattr(self.config.distillation, key)
        return ConfigError(f"distillation.{key} = {value}: the teacher gives no {what}; {remedy}, or set it to 0")

    def _losses_along_time(
        self,
        seen: dict[str, Tensor],
        taught: TeacherOutputs,
        inputs: Tensor | None,
        processed: Tensor,
        temperature: float,
    ) -> Iterator[tuple[str, float, Tensor]]:
        """Name, weight and value of the losses of features and of logits along time."""
        distillation = self.config.distillation
        model: Any = self.model
        if distillation.hint_weight:
            if taught.frames is None:
                raise self._lacks("hint_weight", "embeddings", "choose one network as teacher")
            # Students of others may compute logits without their method `features`.
            features = seen["features"] if "features" in seen else model.features(processed)
            hints = self._aligned(taught.frames, features, inputs, processed)
            # Of networks whose embeddings differ in scale by orders of magnitude, a weight means the same.
            hints = F.layer_norm(hints.float(), hints.shape[-1:])
            mine = as_frames(features)[:, -hints.shape[1] :]
            projected = self.extras["hint"](mine.float())
            yield "hint_loss", distillation.hint_weight, hint_loss(projected, hints, distillation.hint_loss)
        if distillation.frame_weight:
            if taught.frame_logits is None:
                raise self._lacks("frame_weight", "logits along time", "set teacher.head: conv")
            steps = seen["step_logits"] if "step_logits" in seen else model.step_logits(processed)
            along = self._aligned(taught.frame_logits, steps.unsqueeze(1), inputs, processed)
            loss = frame_loss(steps[:, -along.shape[1] :], along, temperature)
            yield "frame_loss", distillation.frame_weight, loss

    def _aligned(self, frames: Tensor, features: Tensor, inputs: Tensor | None, processed: Tensor) -> Tensor:
        """The teacher's frames at the times of the student's features: (batch, steps, size).

        A step's features depend on what comes before its end, the teacher's frames on the whole clip: a step is
        compared with the frame of `frame_delay_ms` before. Students teach each other step by step. Features
        without time are compared with the mean.

        Args:
            frames: of the teacher, (batch, frames, size).
            features: (batch, size, steps) or (batch, size).
        """
        if features.dim() == 2:
            return frames.float().mean(dim=1, keepdim=True)
        steps = features.shape[2]
        if self.self_taught:
            # Both end with the clip; the one with the longer memory has fewer steps.
            return frames[:, -min(steps, frames.shape[1]) :]
        frontend, data = self.config.frontend, self.config.data
        count = processed.shape[3] if processed.dim() == 4 else processed.shape[1]
        if inputs is not None and inputs.dim() == 2:
            duration = inputs.shape[1] / SAMPLE_RATE
        elif isinstance(self.model, TinyConv):
            duration = ((count - 1) * frontend.step_samples + frontend.window_samples) / SAMPLE_RATE
        else:
            duration = count * data.hop_length / SAMPLE_RATE
        times = self.step_times(steps, count) - self.config.distillation.frame_delay_ms / 1000
        rate = getattr(self.source if self.teacher is None else self.teacher, "frame_rate", 0.0)
        return at_times(frames.float(), float(rate) or frames.shape[1] / duration, times)

    def step_times(self, steps: int, frames: int) -> Tensor:
        """The time at which each of the last `steps` steps of a clip ends, s from the clip's start.

        Args:
            steps: that the student's features have.
            frames: of the clip.
        """
        if isinstance(self.model, TinyConv):
            frontend, per_step = self.config.frontend, self.model.frames_per_step
            last = frames // per_step
            ends = torch.arange(last - steps + 1, last + 1, dtype=torch.float64) * per_step - 1
            return (ends * frontend.step_samples + frontend.window_samples) / SAMPLE_RATE
        duration = frames * self.config.data.hop_length / SAMPLE_RATE
        return torch.arange(1, steps + 1, dtype=torch.float64) / steps * duration

    # ---- the run -------------------------------------------------------------------------------

    def train(self) -> dict[str, Any]:
        """As `Trainer.train`; with `skipped_batches`, those that did not reach the teacher."""
        return super().train() | {"skipped_batches": self.skipped_batches}

    def state(self) -> dict[str, Any]:
        """As `Trainer.state`, with counts, and the advice that was given."""
        counted = {
            "skipped_batches": self.skipped_batches,
            "means": self._means,
            "measured": self._measured,
            "advised": self._advised,
        }
        return super().state() | {"distillation": counted}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        super().load_state(state)
        if counted := state.get("distillation"):
            self.skipped_batches, self._means = counted["skipped_batches"], counted["means"]
            self._measured, self._advised = counted["measured"], counted["advised"]


def freeze(teacher: nn.Module) -> nn.Module:
    """No gradients and eval mode, for good where it is a `Teacher`."""
    if isinstance(teacher, Teacher):
        return teacher.freeze()
    return teacher.requires_grad_(False).eval()


def as_frames(features: Tensor) -> Tensor:
    """(batch, size) or (batch, size, steps) -> (batch, 1 or steps, size)."""
    return features.unsqueeze(1) if features.dim() == 2 else features.transpose(1, 2)


@contextmanager
def captured(module: nn.Module, *methods: str) -> Iterator[dict[str, Tensor]]:
    """Within, what these methods of `module` return is kept by name: no forward pass need be repeated."""
    seen: dict[str, Tensor] = {}

    def watch(name: str) -> None:
        method = getattr(module, name)

        def watched(*args: Any, **options: Any) -> Tensor:
            seen[name] = method(*args, **options)
            return seen[name]

        module.__dict__[name] = watched

    watched = [name for name in methods if hasattr(module, name)]
    for name in watched:
        watch(name)
    try:
        yield seen
    finally:
        for name in watched:
            del module.__dict__[name]


def gives_raw_audio(loader: DataLoader[Any]) -> bool:
    """Whether a loader's inputs are raw audio, (batch, samples); random states stay as they were."""
    with kept_rng():
        dataset: Any = getattr(loader, "dataset", None)
        if dataset is None or isinstance(dataset, IterableDataset):
            return bool(next(iter(loader))[0].dim() == 2)
        return bool(torch.as_tensor(dataset[0][0]).dim() == 1)
