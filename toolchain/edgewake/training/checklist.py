"""The guide's summary checklist: each point is looked at before the first batch, and has a verdict."""

from __future__ import annotations

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
from edgewake.training.run_teacher import make_teacher
from edgewake.training.students import build_student, student_of_checkpoint
from edgewake.training.trainer import Trainer

Verdict = Literal["ok", "warn", "fail"]
T = TypeVar("T")

TEMPERATURES, ALPHAS = (2.0, 4.0), (0.3, 0.7)
CLIPS_OF_A_CLASS = 4
# Fewer than the trainer waits for before it gives advice, which would be about one batch.
STEPS = 15
VRAM_GB = 8
NOT_LOOKED_AT = "not looked at"
FIGURES = ("student_loss", "distillation_loss", "total_loss", "loss_ratio")


@dataclass(frozen=True)
class Point:
    """One point of the list.

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


class OneBatch:
    """Outputs for the clips of one batch, as a run's stored signals give them."""

    def __init__(self, signals: TeacherOutputs, frame_rate: float) -> None:
        self.signals, self.frame_rate = signals, frame_rate

    def of(self, clips: Tensor) -> TeacherOutputs:
        """All of them: the batch is always the same."""
        return self.signals


def look(config: WakewordConfig) -> list[Point]:
    """Every point of the guide's summary checklist, checked for what `edgewake train` would do.

    It reads a few recordings, builds teacher and student, and trains copies of them for a few steps on one
    batch; nothing of it is kept. Points that cannot be looked at, since an earlier one failed, fail too.
    Without distillation, the points of a teacher are left out.
    """
    points = [*_settings(config), *_data_settings(config)]
    with steps(("reading recordings", "building the student", "loading the teacher", "training one batch")) as done:
        batch, point = _batch(config)
        points.append(point)
        done()
        student, point = _student(config)
        models = [point]
        done()
        teacher: nn.Module | None = None
        signals: OneBatch | None = None
        seconds = 0.0
        if config.distillation.enabled:
            teacher, found = _teacher(config, student)
            models += found
            if isinstance(teacher, Teacher) and batch is not None:
                started = time.perf_counter()
                signals, failure = _tried(lambda: _signals(teacher, batch[0]))
                seconds = (time.perf_counter() - started) / len(batch[0])
                if signals is None:
                    models.append(Point("Models", "Teacher hears the clips", "no", "fail", failure))
        done()
        points += [*models, *_machine(config, seconds)]
        points += _behaviour(config, student, teacher, signals, batch)
        done()
    return points


def check_command(config: WakewordConfig) -> dict[str, Any]:
    """`look`, as plain data: `points`, and `ok`, whether none of them failed."""
    points = look(config)
    return {
        "config": config.config_name,
        "distillation": config.distillation.enabled,
        "ok": all(point.verdict != "fail" for point in points),
        "points": [asdict(point) for point in points],
    }


def print_checklist(record: dict[str, Any]) -> None:
    """Show what `check_command` gave, a table for each heading of the guide's list."""
    what = "distillation" if record["distillation"] else "training without distillation"
    console.print(f"before {what}: {record['config']}")
    for section, points in groupby(record["points"], key=lambda point: point["section"]):
        rows = [(point["point"], point["value"], point["verdict"], point["remedy"]) for point in points]
        table(section, ("point", "value", "verdict", "remedy"), rows)


# ---- settings ------------------------------------------------------------------------------------


def _settings(config: WakewordConfig) -> list[Point]:
    section, distillation = "Configuration", config.distillation
    points = []
    try:
        config.check()
    except EdgewakeError as error:
        points.append(Point(section, "settings fit together", "no", "fail", str(error)))
    if not distillation.enabled:
        return [
            *points,
            Point(
                section,
                "distillation.enabled = True",
                "False: a baseline, the student learns from labels alone",
                "ok",
                "set distillation.enabled: true to learn from a teacher",
            ),
        ]
    points.append(Point(section, "distillation.enabled = True", "True", "ok"))
    for name, (low, high) in (("temperature", TEMPERATURES), ("alpha", ALPHAS)):
        values = [getattr(distillation, name)]
        if getattr(distillation, f"{name}_schedule") != "constant":
            values.append(getattr(distillation, f"{name}_end"))
        usual = all(value is not None and low <= value <= high for value in values)
        points.append(
            Point(
                section,
                f"{name} in range {low}-{high}",
                " to ".join(f"{value}" for value in values),
                "ok" if usual else "warn",
                "" if usual else f"set distillation.{name} between {low} and {high}",
            )
        )
    return points


def _data_settings(config: WakewordConfig) -> list[Point]:
    points = []
    for name, wanted in (("use_precomputed_features_for_training", False), ("fallback_to_audio", True)):
        value = getattr(config.data, name)
        # Without a teacher these decide nothing.
        good = value == wanted or not config.distillation.enabled
        points.append(
            Point(
                "Data pipeline",
                f"{name} = {wanted}",
                str(value),
                "ok" if good else "fail",
                "" if good else f"set data.{name}: {str(wanted).lower()}",
            )
        )
    return points


# ---- data ----------------------------------------------------------------------------------------


def _batch(config: WakewordConfig) -> tuple[tuple[Tensor, Tensor] | None, Point]:
    """A few clips of either class from the training recordings, as raw audio, and their labels."""

    def read() -> tuple[Tensor, Tensor]:

        manifest = open_corpus(config.data.manifest, config.data.phrase)
        entries = [*_some(manifest, 1), *_some(manifest, 0)]
        dataset = WakewordDataset(
            manifest.with_entries(entries), audio_duration=config.data.audio_duration, return_raw_audio=True
        )
        audio, labels = next(iter(DataLoader(dataset, batch_size=2 * CLIPS_OF_A_CLASS)))
        return audio, labels

    section, point = "Data pipeline", "return_raw_audio = True in dataset"
    batch, failure = _tried(read)
    if batch is None:
        return None, Point(section, point, "no batch", "fail", failure)
    labels = batch[1]
    shown = f"batch {tuple(batch[0].shape)}, {int(labels.sum())} of the phrase"
    raw = batch[0].dim() == 2 and bool(batch[0].abs().sum() > 0)
    return batch, Point(section, point, shown, "ok" if raw else "fail", "" if raw else "check the recordings")


def _some(manifest: CorpusManifest, label: int) -> Sequence[Entry]:
    """The shortest training recordings of a class: a check should not read hours."""
    found = sorted(manifest.select(split="train", label=label), key=lambda entry: entry.seconds)
    if not found:
        what = "a recording of the phrase" if label else "one without the phrase"
        raise EdgewakeError(f"split 'train' of the manifest lacks {what}; add one")
    usual = [entry for entry in found if entry.seconds >= 0.3]
    return (usual or found)[:CLIPS_OF_A_CLASS]


# ---- models --------------------------------------------------------------------------------------


def _student(config: WakewordConfig) -> tuple[nn.Module | None, Point]:

    student, failure = _tried(lambda: build_student(config))
    point = "Student can be built and shipped"
    if student is None:
        return None, Point("Models", point, config.model.architecture, "fail", failure)
    shown = f"{config.model.architecture}, {parameters_of(student):,} parameters"
    return student, Point("Models", point, shown, "ok")


def _teacher(config: WakewordConfig, student: nn.Module | None) -> tuple[nn.Module | None, list[Point]]:
    section = "Models"
    names = (
        "Teacher model loaded correctly",
        "Teacher parameters frozen",
        "Student model smaller than teacher",
    )
    distillation = config.distillation
    by_itself = distillation.teacher_architecture == "self"
    if by_itself and not distillation.teacher_model_path:
        average = config.training.ema_decay
        return None, [
            Point(
                section,
                names[0],
                f"the student's running average, training.ema_decay = {average}",
                "ok" if average else "fail",
                "" if average else "set training.ema_decay: 0.99",
            ),
            Point(section, names[1], "no gradient reaches an average", "ok"),
            Point(section, names[2], "as large: the student teaches itself", "ok"),
        ]

    def make() -> nn.Module:
        if by_itself:
            if student is None:
                raise EdgewakeError("the student cannot be built")
            return student_of_checkpoint(distillation.teacher_model_path, student)

        return make_teacher(config)

    teacher, failure = _tried(make)
    if teacher is None:
        missing = [Point(section, name, NOT_LOOKED_AT, "fail", "load a teacher first") for name in names[1:]]
        return None, [
            Point(section, names[0], distillation.teacher_architecture, "fail", failure),
            *missing,
        ]
    return teacher, [
        _loaded(teacher, config),
        _frozen(teacher),
        _smaller(student, teacher, by_itself=by_itself),
    ]


def _loaded(teacher: nn.Module, config: WakewordConfig) -> Point:
    name = "Teacher model loaded correctly"
    if not isinstance(teacher, Teacher):
        return Point("Models", name, f"an earlier student, {config.distillation.teacher_model_path}", "ok")
    fitted = "its head is fitted" if teacher.head_trained else "training starts with fitting its head"
    return Point("Models", name, f"{teacher.architecture}, {teacher.source}; {fitted}", "ok")


def _frozen(teacher: nn.Module) -> Point:
    count = parameters_of(teacher)
    moving = sum(value.numel() for value in teacher.parameters() if value.requires_grad)
    good = not moving and not teacher.training
    return Point(
        "Models",
        "Teacher parameters frozen",
        f"{count:,} parameters, {moving:,} trainable, {'training' if teacher.training else 'eval'} mode",
        "ok" if good else "fail",
        "" if good else "call its freeze()",
    )


def _smaller(student: nn.Module | None, teacher: nn.Module, *, by_itself: bool) -> Point:
    name = "Student model smaller than teacher"
    if student is None:
        return Point("Models", name, NOT_LOOKED_AT, "fail", "choose a student that can be built")
    own, others = parameters_of(student), parameters_of(teacher)
    good = own < others or by_itself
    return Point(
        "Models",
        name,
        f"{own:,} against {others:,}",
        "ok" if good else "warn",
        "" if good else "choose a smaller model.architecture, or a larger teacher",
    )


# ---- the machine ---------------------------------------------------------------------------------


def _machine(config: WakewordConfig, seconds: float) -> list[Point]:
    section, distils = "Hardware", config.distillation.enabled
    names = ("GPU available", f"Sufficient VRAM ({VRAM_GB} GB or more)", "Mixed precision enabled")
    half = config.optimizer.mixed_precision
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        size = properties.total_memory / 1e9
        enough = size >= VRAM_GB
        return [
            Point(section, names[0], str(properties.name), "ok"),
            Point(
                section,
                names[1],
                f"{size:.1f} GB",
                "ok" if enough else "warn",
                "" if enough else "lower training.batch_size if memory runs out",
            ),
            Point(
                section,
                names[2],
                str(half),
                "ok" if half else "warn",
                "" if half else "set optimizer.mixed_precision: true",
            ),
        ]
    cost = f": the teacher takes {seconds:.3f} s a clip" if seconds else ""
    remedy = ""
    if distils and config.distillation.teacher_architecture != "self":
        remedy = (
            "the teacher hears each clip once, and its signals stay in the cache"
            if config.distillation.store_outputs
            else "set distillation.store_outputs: true, so that the teacher hears each clip once"
        )
    return [
        Point(section, names[0], f"none{cost}", "warn", remedy or "training runs on the CPU"),
        Point(section, names[1], "none", "warn", "the CPU's memory is used"),
        Point(section, names[2], f"{half}, no effect on a CPU", "ok"),
    ]


# ---- behaviour -----------------------------------------------------------------------------------


def _behaviour(
    config: WakewordConfig,
    student: nn.Module | None,
    teacher: nn.Module | None,
    signals: OneBatch | None,
    batch: tuple[Tensor, Tensor] | None,
) -> list[Point]:
    """Train a few steps on one batch: what is logged, whether it is finite, whether it falls."""
    section, distils = "Expected behavior", config.distillation.enabled
    names = (
        "Logs show student and distillation loss" if distils else "Logs show the loss",
        "Loss values are not NaN",
        "Accuracy improves (on one batch, before validation can tell)",
    )
    own = config.distillation.teacher_architecture == "self"
    lacking = [
        what
        for what, missing in (
            ("recordings", batch is None),
            ("a student", student is None),
            ("a teacher", distils and signals is None and not own),
        )
        if missing
    ]
    if lacking:
        remedy = f"needs {' and '.join(lacking)} first"
        return [Point(section, name, NOT_LOOKED_AT, "fail", remedy) for name in names]
    assert student is not None
    assert batch is not None
    result, failure = _tried(lambda: _train(config, student, teacher, signals, batch))
    if result is None:
        return [
            Point(section, names[0], NOT_LOOKED_AT, "fail", failure),
            Point(section, names[1], "training stopped", "fail", failure),
            Point(section, names[2], NOT_LOOKED_AT, "fail", failure),
        ]
    figures, losses = result
    wanted = FIGURES if distils else ()
    shown = "  ".join(f"{name} {figures[name]:.3g}" for name in figures) or f"loss {losses[0]:.3g}"
    complete = all(name in figures for name in wanted)
    finite = all(map(_is_finite, [*losses, *figures.values()]))
    fell = finite and losses[-1] < losses[0]
    return [
        Point(section, names[0], shown, "ok" if complete else "fail", "" if complete else "give raw audio"),
        Point(
            section,
            names[1],
            "finite" if finite else "not finite",
            "ok" if finite else "fail",
            "" if finite else "lower distillation.temperature or training.learning_rate",
        ),
        Point(
            section,
            names[2],
            f"loss {losses[0]:.3g} to {losses[-1]:.3g} in {STEPS} steps",
            "ok" if fell else "warn",
            "" if fell else "lower distillation.alpha or training.learning_rate, or look at the labels",
        ),
    ]


@torch.no_grad()
def _signals(teacher: Teacher, audio: Tensor) -> OneBatch:
    return OneBatch(teacher.outputs(audio), float(getattr(teacher, "frame_rate", 0.0)))


def _train(
    config: WakewordConfig,
    student: nn.Module,
    teacher: nn.Module | None,
    signals: OneBatch | None,
    batch: tuple[Tensor, Tensor],
) -> tuple[dict[str, float], list[float]]:
    """Figures of the first step, and the loss of every step, on one batch that is never varied."""
    audio, labels = batch
    loader: Any = [(audio, labels)]
    with tempfile.TemporaryDirectory() as folder:
        arguments: Any = (student, loader, loader, config, CheckpointManager(Path(folder)), "cpu")
        trainer: Trainer
        if config.distillation.enabled:
            given = None if isinstance(teacher, Teacher) else teacher
            trainer = DistillationTrainer(*arguments, teacher=given, source=signals)
        else:
            trainer = Trainer(*arguments)
        trainer.model.train()
        trainer.clips = torch.arange(len(labels))
        rate = config.training.learning_rate
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate
        processed = trainer.process_inputs(audio, train=False)
        losses: list[float] = []
        figures: dict[str, float] = {}
        for _ in range(STEPS):
            outputs = trainer.forward_student(processed)
            loss = trainer.compute_loss(outputs, labels, audio, processed)
            figures = figures or dict(trainer.loss_figures)
            losses.append(float(loss.detach()))
            trainer.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            trainer.optimizer.step()
        return figures, losses


def _is_finite(value: float) -> bool:
    return bool(torch.isfinite(torch.tensor(value)))


def _tried(work: Callable[[], T]) -> tuple[T | None, str]:
    """What `work` gives, or None and why not."""
    try:
        return work(), ""
    except EdgewakeError as error:
        return None, " ".join(str(error).split())
