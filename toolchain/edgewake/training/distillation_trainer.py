"""A trainer whose student learns from labels and from a frozen teacher, by the guide's combined loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

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
from edgewake.training.losses import (
    alpha_and_temperature,
    at_times,
    distillation_loss,
    frame_loss,
    hint_loss,
    step_ends,
)
from edgewake.training.students import teaching_students
from edgewake.training.teacher_fit import fit_on_loader
from edgewake.training.trainer import Trainer

SKIP_MESSAGE = "Distillation skip verified: Teacher NOT called with spectrogram inputs."
REMEDIES = {
    "student": "lower training.learning_rate or optimizer.gradient_clip",
    "teacher": "check its weights with edgewake teacher evaluate, or set optimizer.mixed_precision: false",
}


class DistillationTrainer(Trainer):
    """`Trainer` with the loss (1 - alpha) student + alpha T^2 KL(teacher || student), and more if asked for.

    The teacher's outputs come, in this order, from `source` by the numbers of a batch's clips (see
    `teachers.base.OutputSource`); from the student itself (`teacher_architecture: self`); from the teacher, when
    inputs are raw audio, (batch, samples). Spectrograms skip the teacher: a message says so once a run, and such
    batches are counted.

    A teacher, raw audio to logits, by default the one that `config.distillation` names, is frozen and in eval mode, is
    never part of the model or its checkpoints, and runs under the same mixed precision as the student; an untrained
    head is fitted to the clips of `train_loader`. With `hint_weight` the student's features are projected to the
    teacher's embeddings, by a projection that is trained, kept in checkpoints, and not exported. With `frame_weight`
    the student's logits along time follow the teacher's, `frame_delay_ms` later.

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
        self._seen: dict[str, Tensor] = {}
        distillation = self.config.distillation
        # Whether losses need more than logits of clips.
        self._along_time = distillation.enabled and bool(distillation.hint_weight or distillation.frame_weight)
        if not distillation.enabled:
            return
        if source is None:
            self.teacher = self._init_teacher(teacher)
        if distillation.frame_weight and not hasattr(self.model, "step_logits"):
            raise ConfigError(
                f"distillation.frame_weight = {distillation.frame_weight}: {type(self.model).__name__} gives "
                "no logits along time, only tiny_conv does; set distillation.frame_weight: 0"
            )
        if distillation.hint_weight:
            with kept_rng():  # the run's other random numbers stay
                torch.manual_seed(self.config.training.seed)
                projection = nn.Linear(self._student_size(self.model), self._embedding_size())
            self.extras["hint"] = projection.to(self.device)
            self.optimizer = self._make_optimizer()

    @property
    def self_taught(self) -> bool:
        """Whether the teacher is a student, which gets the inputs that the student gets."""
        return self.source is None and self.config.distillation.teacher_architecture == "self"

    def _init_teacher(self, teacher: nn.Module | None) -> nn.Module | None:
        """The frozen teacher on the device, its head fitted; None for the student's own average."""
        if teacher is None and self.self_taught:
            with kept_rng():
                teacher = teaching_students(self.config, self.model)
            if teacher is None and self._average is None:
                raise ConfigError(
                    "training.ema_decay = 0 with distillation.teacher_architecture = 'self': there is no running "
                    "average to learn from; set training.ema_decay: 0.99, or give distillation.teacher_model_path"
                )
            if teacher is None:
                return None
        teacher = (teacher_from_config(self.config) if teacher is None else teacher).to(self.device)
        if isinstance(teacher, Teacher) and not teacher.head_trained and gives_raw_audio(self.train_loader):
            fitted = teacher
            with kept_rng():
                self.processes.main_only(lambda: fit_on_loader(fitted, self.train_loader, self.config))
            self.processes.share_weights(teacher)
        # A `Teacher` stays in eval mode whatever calls train().
        return teacher.freeze() if isinstance(teacher, Teacher) else teacher.requires_grad_(False).eval()

    @property
    def _other_student(self) -> nn.Module:
        """The student that teaches: an earlier one, or the running average of this one."""
        if self.teacher is not None:
            return self.teacher
        assert self._average is not None
        return self._average.module.eval()

    @torch.no_grad()
    def teacher_outputs(self, inputs: Tensor | None, processed_inputs: Tensor | None) -> TeacherOutputs | None:
        """The teacher's outputs for the present batch, as the loader gave it and as the student saw it.

        None where a teacher that takes audio is given features.
        """
        if self.source is not None:
            if self.clips is None:
                raise EdgewakeError(
                    "outputs of the teacher are stored by clip, but the loader's batches have no numbers of "
                    "clips: give (inputs, targets, is_hard_negative, clips)"
                )
            found = (None if part is None else part.to(self.device) for part in self.source.of(self.clips))
            return TeacherOutputs(*cast(tuple[Tensor], tuple(found)))
        if self.self_taught:
            return None if processed_inputs is None else self._student_outputs(processed_inputs)
        if inputs is None or self.teacher is None:
            return None
        if inputs.dim() != 2:
            if not self.progress.skipped_batches:
                console.print(
                    f"{SKIP_MESSAGE} Give it raw audio: WakewordDataset(return_raw_audio=True), "
                    "data.use_precomputed_features_for_training: false, data.fallback_to_audio: true",
                    soft_wrap=True,
                )
            self.progress.skipped_batches += 1
            return None
        audio = inputs.to(self.device, torch.float32)
        if self._along_time and isinstance(self.teacher, Teacher):
            return self.teacher.outputs(audio)
        return TeacherOutputs(self.teacher(audio))

    def _student_outputs(self, processed_inputs: Tensor) -> TeacherOutputs:
        teacher = self._other_student
        with captured(teacher) as seen:
            logits = teacher(processed_inputs)
        frames, along = seen.get("features"), seen.get("step_logits")
        along = None if along is None else torch.stack([torch.zeros_like(along), along], dim=2)
        return TeacherOutputs(logits, None if frames is None else as_frames(frames), along)

    def forward_student(self, processed: Tensor) -> Tensor:
        """The student's logits; where losses need them, its features and logits along time are kept."""
        if not self._along_time:
            return super().forward_student(processed)
        with captured(self.model) as self._seen:
            return super().forward_student(processed)

    def compute_loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        inputs: Tensor | None = None,
        processed_inputs: Tensor | None = None,
        is_hard_negative: Tensor | None = None,
    ) -> Tensor:
        """(1 - alpha) student_loss + alpha T^2 KL + hint_weight hint + frame_weight frame-wise; a scalar.

        Logs student_loss, distillation_loss (T^2 KL), total_loss and loss_ratio (of the second to the first). An
        error names logits that are not finite, or of different shapes. `inputs` that are features skip the teacher.
        """
        student_loss = super().compute_loss(outputs, targets, inputs, processed_inputs, is_hard_negative)
        distillation = self.config.distillation
        if not distillation.enabled:
            return student_loss
        from_teacher = self.teacher_outputs(inputs, processed_inputs)
        seen, self._seen = self._seen, {}
        if from_teacher is None:
            return student_loss
        for whose, logits in (("student", outputs), ("teacher", from_teacher.logits)):
            if not bool(torch.isfinite(logits).all()):
                place = f"epoch {self.progress.epoch + 1}, batch {self.progress.batch}"
                raise EdgewakeError(f"logits of the {whose} are not finite in {place}: {REMEDIES[whose]}")
        if from_teacher.logits.shape != outputs.shape:
            raise EdgewakeError(
                f"teacher gives logits of shape {tuple(from_teacher.logits.shape)}, student "
                f"{tuple(outputs.shape)} (clips, classes): give both the same clips and the same num_classes"
            )
        batches = max(1, len(self.train_loader))
        done = self.progress.epoch * batches + self.progress.batch
        share = min(1.0, done / max(1, self.config.training.epochs * batches - 1))
        alpha, temperature = alpha_and_temperature(distillation, share)
        total, soft = distillation_loss(
            student_loss, outputs, from_teacher.logits, alpha=alpha, temperature=temperature
        )
        student, teacher = float(student_loss.detach()), float(soft.detach())
        figures = {"student_loss": student, "distillation_loss": teacher, "loss_ratio": teacher / max(student, 1e-12)}
        if self._along_time:
            if processed_inputs is None:
                raise EdgewakeError("compute_loss needs processed_inputs for hints and frame-wise distillation")
            for name, weight, loss in self._losses_along_time(seen, from_teacher, processed_inputs, temperature):
                total = total + weight * loss
                figures[name] = float(loss.detach())
        if distillation.alpha_schedule != "constant":
            figures["alpha"] = alpha
        if distillation.temperature_schedule != "constant":
            figures["temperature"] = temperature
        self.log_metrics(figures | {"total_loss": float(total.detach())})
        return total

    def combine(self, means: dict[str, float]) -> dict[str, float]:
        """loss_ratio is the ratio of mean losses, not the mean of ratios."""
        if "distillation_loss" in means:
            return means | {"loss_ratio": means["distillation_loss"] / max(means["student_loss"], 1e-12)}
        return means

    def report_epoch(self, figures: Mapping[str, float], seconds: float, *, best: bool) -> None:
        """Print an epoch's figures, and the guide's advice where its loss_ratio leaves 0.1 to 10 for the first time."""
        super().report_epoch(figures, seconds, best=best)
        ratio = figures.get("loss_ratio", 1.0)
        before = [epoch.get("loss_ratio", 1.0) for epoch in self.progress.history[:-1]]
        if ratio > 10 >= max(before, default=1.0):
            advice = "> 10: Student and teacher too different (reduce alpha)"
        elif ratio < 0.1 <= min(before, default=1.0):
            advice = "< 0.1: Teacher not contributing (increase alpha)"
        else:
            return
        alpha = self.config.distillation.alpha
        console.print(f"loss_ratio {ratio:.3g} {advice}; distillation.alpha = {alpha}", soft_wrap=True)

    def _student_size(self, student: nn.Module) -> int:
        data = self.config.data
        if not hasattr(student, "features"):
            raise ConfigError(
                f"distillation.hint_weight = {self.config.distillation.hint_weight}: {type(student).__name__} "
                "has no method features(x); add one, or set distillation.hint_weight: 0"
            )
        mels = int(getattr(student, "input_size", data.n_mels))
        frames = int(data.audio_duration * data.sample_rate) // data.hop_length + 1
        with torch.no_grad():
            silence = next(student.parameters()).new_zeros(1, frames, mels)
            return int(student.eval().features(silence).shape[1])  # type: ignore[operator]

    def _embedding_size(self) -> int:
        if self.self_taught:
            return self._student_size(self._other_student)
        frames = self.source.of(torch.zeros(1, dtype=torch.int64)).frames if self.source else None
        size = getattr(self.teacher, "embedding_size", 0) if frames is None else frames.shape[2]
        if not size:
            raise self._lacks("hint_weight", "embeddings", "choose one network as teacher")
        return int(size)

    def _lacks(self, key: str, what: str, remedy: str) -> ConfigError:
        value = getattr(self.config.distillation, key)
        return ConfigError(f"distillation.{key} = {value}: the teacher gives no {what}; {remedy}, or set it to 0")

    def _losses_along_time(
        self, seen: dict[str, Tensor], from_teacher: TeacherOutputs, processed: Tensor, temperature: float
    ) -> Iterator[tuple[str, float, Tensor]]:
        """Name, weight and value of the losses of features and of logits along time."""
        distillation, model = self.config.distillation, cast(Any, self.model)
        if distillation.hint_weight:
            if from_teacher.frames is None:
                raise self._lacks("hint_weight", "embeddings", "choose one network as teacher")
            # Students of others may compute logits without their method `features`.
            features = seen["features"] if "features" in seen else model.features(processed)
            hints = self._aligned(from_teacher.frames, features, processed)
            # Of networks whose embeddings differ in scale by orders of magnitude, a weight means the same.
            hints = F.layer_norm(hints.float(), hints.shape[-1:])
            mine = as_frames(features)[:, -hints.shape[1] :]
            projected = self.extras["hint"](mine.float())
            yield "hint_loss", distillation.hint_weight, hint_loss(projected, hints, distillation.hint_loss)
        if distillation.frame_weight:
            if from_teacher.frame_logits is None:
                raise self._lacks("frame_weight", "logits along time", "set teacher.head: conv")
            steps = seen["step_logits"] if "step_logits" in seen else model.step_logits(processed)
            along = self._aligned(from_teacher.frame_logits, steps.unsqueeze(1), processed)
            loss = frame_loss(steps[:, -along.shape[1] :], along, temperature)
            yield "frame_loss", distillation.frame_weight, loss

    def _aligned(self, frames: Tensor, features: Tensor, processed: Tensor) -> Tensor:
        """The teacher's frames at the times of the student's features: (batch, steps, size).

        Features (batch, size, steps) of a step depend on what comes before its end, the teacher's frames (batch,
        frames, size) on the whole clip: a step is compared with the frame of `frame_delay_ms` before. Students
        teach each other step by step. Features without time, (batch, size), are compared with the mean.
        """
        if features.dim() == 2:
            return frames.float().mean(dim=1, keepdim=True)
        steps = features.shape[2]
        if self.self_taught:
            # Both end with the clip; the one with the longer memory has fewer steps.
            return frames[:, -min(steps, frames.shape[1]) :]
        count = processed.shape[3] if processed.dim() == 4 else processed.shape[1]
        times = self.step_times(steps, count) - self.config.distillation.frame_delay_ms / 1000
        teacher: Any = self.teacher if self.source is None else self.source
        return at_times(frames.float(), teacher.frame_rate, times)

    def step_times(self, steps: int, frames: int) -> Tensor:
        """The time at which each of the last `steps` steps of a clip of `frames` ends, s from the clip's start."""
        if isinstance(self.model, TinyConv):
            return step_ends(steps, frames, self.model.frames_per_step, self.config.frontend)
        duration = frames * self.config.data.hop_length / SAMPLE_RATE
        return torch.arange(1, steps + 1, dtype=torch.float64) / steps * duration

    def train(self) -> dict[str, Any]:
        """As `Trainer.train`; with `skipped_batches`, those that did not reach the teacher."""
        return super().train() | {"skipped_batches": self.progress.skipped_batches}


def as_frames(features: Tensor) -> Tensor:
    """(batch, size) or (batch, size, steps) -> (batch, 1 or steps, size)."""
    return features.unsqueeze(1) if features.dim() == 2 else features.transpose(1, 2)


@contextmanager
def captured(student: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Within, what a student's `features` and `step_logits` return is kept by name: no forward pass is repeated."""
    seen: dict[str, Tensor] = {}
    there = {name: getattr(student, name) for name in ("features", "step_logits") if hasattr(student, name)}

    def watched(name: str) -> Callable[..., Tensor]:
        def call(*args: Any, **options: Any) -> Tensor:
            seen[name] = there[name](*args, **options)
            return seen[name]

        return call

    student.__dict__.update({name: watched(name) for name in there})
    try:
        yield seen
    finally:
        for name in there:
            del student.__dict__[name]


def gives_raw_audio(loader: DataLoader[Any]) -> bool:
    """Whether a loader's inputs are raw audio, (batch, samples); random states stay as they were."""
    with kept_rng():
        dataset: Any = getattr(loader, "dataset", None)
        if dataset is None or isinstance(dataset, IterableDataset):
            return bool(next(iter(loader))[0].dim() == 2)
        return bool(torch.as_tensor(dataset[0][0]).dim() == 1)
