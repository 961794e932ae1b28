"""The guide's summary checklist: each item is checked before the first batch, and has a verdict."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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
from edgewake.teachers.base import Teacher, TeacherOutputs, parameters_of
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.distillation_trainer import DistillationTrainer
from edgewake.training.run_teacher import has_teacher, make_teacher
from edgewake.training.students import build_student, student_of_checkpoint
from edgewake.training.trainer import Trainer

Verdict = Literal["ok", "warn", "fail"]
T = TypeVar("T")

TEMPERATURES, ALPHAS = (2.0, 4.0), (0.3, 0.7)
CLIPS_OF_A_CLASS = 4
# Fewer than the trainer waits for before it gives advice, which would be about one batch.
STEPS = 15
VRAM_GB = 8
FIGURES = ("student_loss", "distillation_loss", "total_loss", "loss_ratio")


@dataclass(frozen=True)
class ChecklistItem:
    """One item of the list.

    Attributes:
        section: heading in the guide.
        point: as the guide has it.
        value: what was found.
        verdict: ok; warn: training works, but less well or slower; fail: it cannot, or teaches nothing.
        remedy: what to do; "" where nothing need be done.
    """

    section: str
    point: str
    value: str
    verdict: Verdict
    remedy: str = ""


class _OneBatch:
    """A teacher's outputs for the clips of one batch, as a run has them stored."""

    def __init__(self, outputs: TeacherOutputs, frame_rate: float) -> None:
        self.outputs, self.frame_rate = outputs, frame_rate

    def of(self, clips: Tensor) -> TeacherOutputs:
        """All of them: the batch is always the same."""
        return self.outputs


class _Checklist:
    """Collects items; what an error prevents is an item that failed with the error's message."""

    def __init__(self) -> None:
        self.items: list[ChecklistItem] = []

    def add(self, section: str, point: str, value: object, good: bool, remedy: str, bad: Verdict = "fail") -> None:
        """An item that is ok where it is `good`, and else as bad as `bad`, with a remedy."""
        self.items.append(ChecklistItem(section, point, str(value), "ok" if good else bad, "" if good else remedy))

    def attempt(self, section: str, point: str, value: str, work: Callable[[], T]) -> T | None:
        """What `work` gives; where it fails, an item and None."""
        try:
            return work()
        except EdgewakeError as error:
            self.add(section, point, value, False, " ".join(str(error).split()))
            return None


def check_command(config: WakewordConfig) -> dict[str, Any]:
    """Check every item of the guide's summary checklist for what `edgewake train` would do.

    It reads a few recordings, builds teacher and student, and trains copies of them for a few steps on one
    batch; nothing of it is kept. Items that cannot be checked, since an earlier one failed, fail too.
    Without distillation, the items of a teacher are left out.

    Returns:
        config, distillation, ok (whether no item failed), points (the items).
    """
    found = _Checklist()
    _settings(found, config)
    with steps(("reading recordings", "building the student", "loading the teacher", "training one batch")) as done:
        batch = found.attempt(
            "Data pipeline", "return_raw_audio = True in dataset", "no batch", lambda: _batch(found, config)
        )
        done()
        student = _student(found, config)
        done()
        teacher = _teacher(found, config, student) if config.distillation.enabled else None
        outputs, seconds = None, 0.0
        if isinstance(teacher, Teacher) and batch is not None:
            started, audio, asked = time.perf_counter(), batch[0], teacher
            outputs = found.attempt("Models", "Teacher takes the clips", "no", lambda: _outputs(asked, audio))
            seconds = (time.perf_counter() - started) / len(audio)
        done()
        _hardware(found, config, seconds)
        _behaviour(found, config, student, teacher, outputs, batch)
        done()
    return {
        "config": config.config_name,
        "distillation": config.distillation.enabled,
        "ok": all(item.verdict != "fail" for item in found.items),
        "points": [asdict(item) for item in found.items],
    }


def print_checklist(record: dict[str, Any]) -> None:
    """Print what `check_command` returned, a table for each heading of the guide's list."""
    what = "distillation" if record["distillation"] else "training without distillation"
    console.print(f"before {what}: {record['config']}")
    for section, items in groupby(record["points"], key=lambda item: item["section"]):
        rows = [(item["point"], item["value"], item["verdict"], item["remedy"]) for item in items]
        table(section, ("point", "value", "verdict", "remedy"), rows)


def _settings(found: _Checklist, config: WakewordConfig) -> None:
    section, distillation = "Configuration", config.distillation
    found.attempt(section, "settings fit together", "no", config.check)
    if distillation.enabled:
        found.add(section, "distillation.enabled = True", True, True, "")
        for name, (low, high) in (("temperature", TEMPERATURES), ("alpha", ALPHAS)):
            values = [getattr(distillation, name)]
            if getattr(distillation, f"{name}_schedule") != "constant":
                values.append(getattr(distillation, f"{name}_end"))
            usual = all(value is not None and low <= value <= high for value in values)
            shown, remedy = " to ".join(map(str, values)), f"set distillation.{name} between {low} and {high}"
            found.add(section, f"{name} in range {low}-{high}", shown, usual, remedy, "warn")
    else:
        value = "False: a baseline, the student learns from labels alone"
        remedy = "set distillation.enabled: true to learn from a teacher"
        found.items.append(ChecklistItem(section, "distillation.enabled = True", value, "ok", remedy))
    for name, wanted in (("use_precomputed_features_for_training", False), ("fallback_to_audio", True)):
        value = getattr(config.data, name)
        # Without a teacher these decide nothing.
        good = value == wanted or not distillation.enabled
        found.add("Data pipeline", f"{name} = {wanted}", value, good, f"set data.{name}: {str(wanted).lower()}")


def _batch(found: _Checklist, config: WakewordConfig) -> tuple[Tensor, Tensor]:
    """A few clips of either class from the training recordings, as raw audio, and their labels."""
    manifest = open_corpus(config.data.manifest, config.data.phrase)
    entries = [*_some(manifest, 1), *_some(manifest, 0)]
    dataset = WakewordDataset(
        manifest.with_entries(entries), audio_duration=config.data.audio_duration, return_raw_audio=True
    )
    audio, labels = next(iter(DataLoader(dataset, batch_size=2 * CLIPS_OF_A_CLASS)))
    shown = f"batch {tuple(audio.shape)}, {int(labels.sum())} of the phrase"
    raw = audio.dim() == 2 and bool(audio.abs().sum() > 0)
    found.add("Data pipeline", "return_raw_audio = True in dataset", shown, raw, "check the recordings")
    return audio, labels


def _some(manifest: CorpusManifest, label: int) -> Sequence[Entry]:
    """The shortest training recordings of a class: a check should not read hours."""
    found = sorted(manifest.select(split="train", label=label), key=lambda entry: entry.seconds)
    if not found:
        what = "a recording of the phrase" if label else "one without the phrase"
        raise EdgewakeError(f"split 'train' of the manifest lacks {what}; add one")
    usual = [entry for entry in found if entry.seconds >= 0.3]
    return (usual or found)[:CLIPS_OF_A_CLASS]


def _student(found: _Checklist, config: WakewordConfig) -> nn.Module | None:
    point, name = "Student can be built and shipped", config.model.architecture
    student = found.attempt("Models", point, name, lambda: build_student(config))
    if student is not None:
        found.add("Models", point, f"{name}, {parameters_of(student):,} parameters", True, "")
    return student


def _teacher(found: _Checklist, config: WakewordConfig, student: nn.Module | None) -> nn.Module | None:
    loaded, frozen, smaller = (
        "Teacher model loaded correctly",
        "Teacher parameters frozen",
        "Student model smaller than teacher",
    )
    settings, average = config.distillation, config.training.ema_decay
    path = settings.teacher_model_path
    if not (has_teacher(config) or path):
        value = f"the student's running average, training.ema_decay = {average}"
        found.add("Models", loaded, value, bool(average), "set training.ema_decay: 0.99")
        found.add("Models", frozen, "no gradient reaches an average", True, "")
        found.add("Models", smaller, "as large: the student teaches itself", True, "")
        return None
    teacher: nn.Module | None = found.attempt(
        "Models",
        loaded,
        settings.teacher_architecture,
        lambda: make_teacher(config) if has_teacher(config) else student_of_checkpoint(path, student),
    )
    if teacher is None:
        for point in (frozen, smaller):
            found.add("Models", point, "not checked", False, "load a teacher first")
        return None
    value = f"an earlier student, {path}"
    if isinstance(teacher, Teacher):
        fitted = "its head is fitted" if teacher.head_trained else "training starts with fitting its head"
        value = f"{teacher.architecture}, {teacher.source}; {fitted}"
    found.add("Models", loaded, value, True, "")
    count = parameters_of(teacher)
    moving = sum(value.numel() for value in teacher.parameters() if value.requires_grad)
    mode = "training" if teacher.training else "eval"
    value = f"{count:,} parameters, {moving:,} trainable, {mode} mode"
    found.add("Models", frozen, value, not moving and mode == "eval", "call its freeze()")
    if student is None:
        found.add("Models", smaller, "not checked", False, "choose a student that can be built")
    else:
        own = parameters_of(student)
        good, remedy = own < count or not has_teacher(config), "choose a smaller student, or a larger teacher"
        found.add("Models", smaller, f"{own:,} against {count:,}", good, remedy, "warn")
    return teacher


def _hardware(found: _Checklist, config: WakewordConfig, seconds: float) -> None:
    section, gpu, memory = "Hardware", "GPU available", f"Sufficient VRAM ({VRAM_GB} GB or more)"
    half, remedy = config.optimizer.mixed_precision, "set optimizer.mixed_precision: true"
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        size = properties.total_memory / 1e9
        found.add(section, gpu, properties.name, True, "")
        less = "lower training.batch_size if memory runs out"
        found.add(section, memory, f"{size:.1f} GB", size >= VRAM_GB, less, "warn")
        found.add(section, "Mixed precision enabled", half, half, remedy, "warn")
        return
    cost, advice = "", "training runs on the CPU"
    if has_teacher(config):
        cost = f": the teacher takes {seconds:.3f} s a clip" if seconds else ""
        advice = "set distillation.store_outputs: true, so that the teacher is run once for each clip"
        if config.distillation.store_outputs:
            advice = "the teacher is run once for each clip, and its outputs stay in the cache"
    found.add(section, gpu, f"none{cost}", False, advice, "warn")
    found.add(section, memory, "none", False, "the CPU's memory is used", "warn")
    found.add(section, "Mixed precision enabled", f"{half}, no effect on a CPU", True, "")


def _behaviour(
    found: _Checklist,
    config: WakewordConfig,
    student: nn.Module | None,
    teacher: nn.Module | None,
    outputs: _OneBatch | None,
    batch: tuple[Tensor, Tensor] | None,
) -> None:
    """Train a few steps on one batch: what is logged, whether it is finite, whether it falls."""
    section, distils = "Expected behavior", config.distillation.enabled
    logs = "Logs show student and distillation loss" if distils else "Logs show the loss"
    finite, improves = "Loss values are not NaN", "Accuracy improves (on one batch, before validation can tell)"
    needed: dict[str, Any] = {"recordings": batch, "a student": student}
    if has_teacher(config):
        needed["a teacher"] = outputs
    remedy = f"needs {' and '.join(name for name, value in needed.items() if value is None)} first"
    result = None
    if student is not None and batch is not None and None not in needed.values():
        clips = batch
        result = found.attempt(section, logs, "not checked", lambda: _train(config, student, teacher, outputs, clips))
        remedy = "training stopped"
    else:
        found.add(section, logs, "not checked", False, remedy)
    if result is None:
        for point in (finite, improves):
            found.add(section, point, "not checked", False, remedy)
        return
    figures, losses = result
    shown = "  ".join(f"{name} {figures[name]:.3g}" for name in figures) or f"loss {losses[0]:.3g}"
    found.add(section, logs, shown, not distils or set(FIGURES) <= set(figures), "give raw audio")
    good = all(map(math.isfinite, [*losses, *figures.values()]))
    lower = "lower distillation.temperature or training.learning_rate"
    found.add(section, finite, "finite" if good else "not finite", good, lower)
    found.add(
        section,
        improves,
        f"loss {losses[0]:.3g} to {losses[-1]:.3g} in {STEPS} steps",
        good and losses[-1] < losses[0],
        "lower distillation.alpha or training.learning_rate, or check the labels",
        "warn",
    )


@torch.no_grad()
def _outputs(teacher: Teacher, audio: Tensor) -> _OneBatch:
    return _OneBatch(teacher.outputs(audio), float(getattr(teacher, "frame_rate", 0.0)))


def _train(
    config: WakewordConfig,
    student: nn.Module,
    teacher: nn.Module | None,
    outputs: _OneBatch | None,
    batch: tuple[Tensor, Tensor],
) -> tuple[dict[str, float], list[float]]:
    """Figures of the first step, and the loss of every step, on one batch that is never varied."""
    audio, labels = batch
    loader: Any = [(audio, labels)]
    with tempfile.TemporaryDirectory() as folder:
        arguments: Any = (student, loader, loader, config, CheckpointManager(Path(folder)), "cpu")
        if config.distillation.enabled:
            own = None if isinstance(teacher, Teacher) else teacher
            trainer: Trainer = DistillationTrainer(*arguments, teacher=own, source=outputs)
        else:
            trainer = Trainer(*arguments)
        trainer.model.train()
        trainer.clips = torch.arange(len(labels))
        processed = trainer.process_inputs(audio, train=False)
        losses: list[float] = []
        figures: dict[str, float] = {}
        for _ in range(STEPS):
            loss = trainer.compute_loss(trainer.forward_student(processed), labels, audio, processed)
            figures = figures or dict(trainer.loss_figures)
            losses.append(float(loss.detach()))
            trainer.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            trainer.optimizer.step()
        return figures, losses
