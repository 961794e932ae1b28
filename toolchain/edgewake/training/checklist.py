"""The guide's summary checklist: each item is checked before the first batch, and has a verdict."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from edgewake.config import WakewordConfig
from edgewake.console import console, steps, table
from edgewake.data.dataset import WakewordDataset
from edgewake.data.importing import open_corpus
from edgewake.data.manifest import CorpusManifest, Entry
from edgewake.errors import EdgewakeError
from edgewake.teachers.base import Teacher, parameters_of
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.distillation_trainer import DistillationTrainer
from edgewake.training.students import build_student, teaching_students
from edgewake.training.teacher_fit import has_teacher, make_teacher
from edgewake.training.teacher_outputs import StoredOutputs
from edgewake.training.trainer import Trainer

T = TypeVar("T")

RANGES = {"temperature": (2.0, 4.0), "alpha": (0.3, 0.7)}
CLIPS_OF_A_CLASS = 4
STEPS = 15
VRAM_GB = 8
FIGURES = {"student_loss", "distillation_loss", "total_loss", "loss_ratio"}
NOT_CHECKED = "not checked"
RAW_AUDIO = "return_raw_audio = True in dataset"
LOADED, FROZEN = "Teacher model loaded correctly", "Teacher parameters frozen"
SMALLER = "Student model smaller than teacher"


def check_command(config: WakewordConfig) -> dict[str, Any]:
    """Check every item of the guide's summary checklist for what `edgewake train` would do.

    It reads a few recordings, builds teacher and student, and trains them for a few steps on one batch; nothing of
    it is kept. Items that cannot be checked, since an earlier one failed, fail too. Without distillation, the items
    of a teacher are left out.

    Returns:
        config, distillation, ok (whether no item failed), points: the items, each with section (heading in the
        guide), point (as the guide has it), value (what was found), verdict (ok; warn: training works, but less
        well or slower; fail: it cannot, or teaches nothing), and remedy ("" where nothing need be done).
    """
    found = _Checklist(config)
    found.settings()
    with steps(("reading recordings", "building the student", "loading the teacher", "training one batch")) as done:
        for work in (found.recordings, found.build_student, found.load_teacher):
            work()
            done()
        found.hardware()
        found.behaviour()
        done()
    good = all(item["verdict"] != "fail" for item in found.items)
    distils = config.distillation.enabled
    return {"config": config.config_name, "distillation": distils, "ok": good, "points": found.items}


def print_checklist(record: dict[str, Any]) -> None:
    """Print what `check_command` returned, a table for each heading of the guide's list."""
    what = "distillation" if record["distillation"] else "training without distillation"
    console.print(f"before {what}: {record['config']}")
    for section, items in groupby(record["points"], key=lambda item: item["section"]):
        rows = [(item["point"], item["value"], item["verdict"], item["remedy"]) for item in items]
        table(section, ("point", "value", "verdict", "remedy"), rows)


class _Checklist:
    """The items, and what they are about: None where it cannot be had."""

    def __init__(self, config: WakewordConfig) -> None:
        self.config, self.distillation = config, config.distillation
        self.section = ""
        self.items: list[dict[str, str]] = []
        self.batch: tuple[Tensor, Tensor] | None = None
        self.student: nn.Module | None = None
        self.teacher: nn.Module | None = None
        self.outputs: StoredOutputs | None = None
        self.seconds_a_clip = 0.0

    def add(
        self, point: str, value: object, good: bool = True, remedy: str = "", bad: Literal["warn", "fail"] = "fail"
    ) -> None:
        """An item that is ok where it is `good`, and else as bad as `bad`, with a remedy."""
        verdict, remedy = ("ok", "") if good else (bad, remedy)
        item = {"section": self.section, "point": point, "value": str(value), "verdict": verdict, "remedy": remedy}
        self.items.append(item)

    def attempt(self, point: str, value: str, work: Callable[[], T]) -> T | None:
        """What `work` gives; where it fails, None, and an item with the error's message."""
        try:
            return work()
        except EdgewakeError as error:
            self.add(point, value, False, " ".join(str(error).split()))
            return None

    def settings(self) -> None:
        """What the configuration says."""
        self.section, distillation, point = "Configuration", self.distillation, "distillation.enabled = True"
        self.attempt("settings fit together", "no", self.config.check)
        if distillation.enabled:
            self.add(point, True)
            for name, (low, high) in RANGES.items():
                values = [getattr(distillation, name)]
                if getattr(distillation, f"{name}_schedule") != "constant":
                    values.append(getattr(distillation, f"{name}_end"))
                usual = all(value is not None and low <= value <= high for value in values)
                shown, remedy = " to ".join(map(str, values)), f"set distillation.{name} between {low} and {high}"
                self.add(f"{name} in range {low}-{high}", shown, usual, remedy, "warn")
        else:
            self.add(point, "False: a baseline, the student learns from labels alone")
            self.items[-1]["remedy"] = "set distillation.enabled: true to learn from a teacher"
        self.section = "Data pipeline"
        for name, wanted in (("use_precomputed_features_for_training", False), ("fallback_to_audio", True)):
            value = getattr(self.config.data, name)
            # Without a teacher these decide nothing.
            good = value == wanted or not distillation.enabled
            self.add(f"{name} = {wanted}", value, good, f"set data.{name}: {str(wanted).lower()}")

    def recordings(self) -> None:
        """A batch of a few clips of either class, raw audio, from the training recordings."""
        self.batch = self.attempt(RAW_AUDIO, "no batch", lambda: _batch(self.config))
        if self.batch is not None:
            audio, labels = self.batch
            raw = audio.dim() == 2 and bool(audio.abs().sum() > 0)
            shown = f"batch {tuple(audio.shape)}, {int(labels.sum())} of the phrase"
            self.add(RAW_AUDIO, shown, raw, "check the recordings")

    def build_student(self) -> None:
        """The student, untrained."""
        self.section, point, name = "Models", "Student can be built and shipped", self.config.model.architecture
        self.student = self.attempt(point, name, lambda: build_student(self.config))
        if self.student is not None:
            self.add(point, f"{name}, {parameters_of(self.student):,} parameters")

    def load_teacher(self) -> None:
        """The teacher, and its outputs for the batch."""
        config, student = self.config, self.student
        path = ", ".join(self.distillation.teachers) or self.distillation.teacher_model_path
        if not self.distillation.enabled:
            return
        if not (has_teacher(config) or path):
            average = config.training.ema_decay
            value = f"the student's running average, training.ema_decay = {average}"
            self.add(LOADED, value, bool(average), "set training.ema_decay: 0.99")
            self.add(FROZEN, "no gradient reaches an average")
            self.add(SMALLER, "as large: the student teaches itself")
            return

        def load() -> nn.Module | None:
            return make_teacher(config) if has_teacher(config) else teaching_students(config, student)

        teacher = self.teacher = self.attempt(LOADED, self.distillation.teacher_architecture, load)
        if teacher is None:
            for point in (FROZEN, SMALLER):
                self.add(point, NOT_CHECKED, False, "load a teacher first")
            return
        value = f"an earlier student, {path}"
        if isinstance(teacher, Teacher):
            fitted = "its head is fitted" if teacher.head_trained else "training starts with fitting its head"
            value = f"{teacher.architecture}, {teacher.source}; {fitted}"
        self.add(LOADED, value)
        count, mode = parameters_of(teacher), "training" if teacher.training else "eval"
        moving = sum(value.numel() for value in teacher.parameters() if value.requires_grad)
        value = f"{count:,} parameters, {moving:,} trainable, {mode} mode"
        self.add(FROZEN, value, not moving and mode == "eval", "call its freeze()")
        if student is None:
            self.add(SMALLER, NOT_CHECKED, False, "choose a student that can be built")
        else:
            own = parameters_of(student)
            good, remedy = own < count or not has_teacher(config), "choose a smaller student, or a larger teacher"
            self.add(SMALLER, f"{own:,} against {count:,}", good, remedy, "warn")
        if isinstance(teacher, Teacher) and self.batch is not None:
            started, audio, asked = time.perf_counter(), self.batch[0], teacher
            self.outputs = self.attempt("Teacher takes the clips", "no", lambda: _outputs(asked, audio))
            self.seconds_a_clip = (time.perf_counter() - started) / len(audio)

    def hardware(self) -> None:
        """Where training would run."""
        self.section, half, cuda = "Hardware", self.config.optimizer.mixed_precision, torch.cuda.is_available()
        name, memory, size, advice, less = "none", "none", 0.0, "training runs on the CPU", "the CPU's memory is used"
        if cuda:
            properties = torch.cuda.get_device_properties(torch.cuda.current_device())
            name, size = properties.name, properties.total_memory / 1e9
            memory, less = f"{size:.1f} GB", "lower training.batch_size if memory runs out"
        elif has_teacher(self.config):
            name += f": the teacher takes {self.seconds_a_clip:.3f} s a clip" if self.seconds_a_clip else ""
            advice = "set distillation.store_outputs: true, so that the teacher is run once for each clip"
            if self.distillation.store_outputs:
                advice = "the teacher is run once for each clip, and its outputs stay in the cache"
        self.add("GPU available", name, cuda, advice, "warn")
        self.add(f"Sufficient VRAM ({VRAM_GB} GB or more)", memory, size >= VRAM_GB, less, "warn")
        shown = f"{half}" if cuda else f"{half}, no effect on a CPU"
        self.add("Mixed precision enabled", shown, half or not cuda, "set optimizer.mixed_precision: true", "warn")

    def behaviour(self) -> None:
        """Train a few steps on one batch: what is logged, whether it is finite, whether it falls."""
        self.section, distils = "Expected behavior", self.distillation.enabled
        logs = "Logs show student and distillation loss" if distils else "Logs show the loss"
        finite, improves = "Loss values are not NaN", "Accuracy improves (on one batch, before validation can tell)"
        needed: dict[str, Any] = {"recordings": self.batch, "a student": self.student}
        if has_teacher(self.config):
            needed["a teacher"] = self.outputs
        lacking, result = [name for name, value in needed.items() if value is None], None
        if lacking:
            self.add(logs, NOT_CHECKED, False, f"needs {' and '.join(lacking)} first")
        else:
            result = self.attempt(logs, NOT_CHECKED, self._train)
        if result is None:
            for point in (finite, improves):
                self.add(point, NOT_CHECKED, False, self.items[-1]["remedy"])
            return
        figures, losses = result
        shown = "  ".join(f"{name} {figures[name]:.3g}" for name in figures) or f"loss {losses[0]:.3g}"
        self.add(logs, shown, not distils or figures.keys() >= FIGURES, "give raw audio")
        self.add(finite, "finite")
        shown = f"loss {losses[0]:.3g} to {losses[-1]:.3g} in {STEPS} steps"
        lower = "lower distillation.alpha or training.learning_rate, or check the labels"
        self.add(improves, shown, losses[-1] < losses[0], lower, "warn")

    def _train(self) -> tuple[dict[str, float], list[float]]:
        """Figures of the first step, and the loss of every step, on one batch that is never varied."""
        assert self.batch is not None
        config, (audio, labels) = self.config.model_copy(), self.batch
        config.augmentation.enabled, config.optimizer.scheduler = False, "constant"
        with tempfile.TemporaryDirectory() as folder:
            arguments: Any = (self.student, [self.batch], None, config, CheckpointManager(Path(folder)))
            if self.distillation.enabled:
                own = None if isinstance(self.teacher, Teacher) else self.teacher
                trainer: Trainer = DistillationTrainer(*arguments, teacher=own, source=self.outputs)
            else:
                trainer = Trainer(*arguments)
            trainer.model.train()
            batch = (audio, labels, torch.zeros(len(labels)), torch.arange(len(labels)))
            losses, figures = [trainer.train_step(batch)], trainer.loss_figures
            return figures, losses + [trainer.train_step(batch) for _ in range(STEPS - 1)]


def _batch(config: WakewordConfig) -> tuple[Tensor, Tensor]:
    """Audio (clips, samples) and labels of a few training recordings of either class."""
    manifest, duration = open_corpus(config.data.manifest, config.data.phrase), config.data.audio_duration
    entries = [*_some(manifest, 1), *_some(manifest, 0)]
    dataset = WakewordDataset(manifest.with_entries(entries), audio_duration=duration, return_raw_audio=True)
    audio, labels = next(iter(DataLoader(dataset, batch_size=len(entries))))
    return audio, labels


def _some(manifest: CorpusManifest, label: int) -> Sequence[Entry]:
    """The shortest training recordings of a class: a check should not read hours."""
    found = sorted(manifest.select(split="train", label=label), key=lambda entry: entry.seconds)
    if not found:
        what = "a recording of the phrase" if label else "one without the phrase"
        raise EdgewakeError(f"split 'train' of the manifest lacks {what}; add one")
    return ([entry for entry in found if entry.seconds >= 0.3] or found)[:CLIPS_OF_A_CLASS]


@torch.no_grad()
def _outputs(teacher: Teacher, audio: Tensor) -> StoredOutputs:
    logits, frames, along = teacher.outputs(audio)
    return StoredOutputs(logits, along, None if frames is None else frames.numpy(), teacher.frame_rate)
