"""The teacher of a run: made, fitted to the run's clips, kept in its folder; a resumed run goes on with that one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgewake.config import WakewordConfig
from edgewake.console import console
from edgewake.data.store import FeatureStore
from edgewake.errors import EdgewakeError
from edgewake.evaluation.clips import f1_score
from edgewake.io import read_json, write_json
from edgewake.teachers.base import OutputSource, Teacher, device_of, members_of
from edgewake.teachers.ensemble import EnsembleTeacher
from edgewake.teachers.registry import load_teacher, save_teacher, teacher_from_config
from edgewake.training.checkpoint_manager import kept_rng
from edgewake.training.teacher_fit import fit_teacher
from edgewake.training.teacher_outputs import LiveOutputs, TeacherCache

TEACHER, RECORD = "teacher.pt", "teacher.json"
# Settings of training that a fit takes over.
FIT_SETTINGS = {"negatives_per_positive", "hard_negative_mining", "mining_interval", "mining_boost"}


@dataclass(frozen=True)
class RunTeacher:
    """What a run learns from beside labels.

    Attributes:
        outputs: the teacher's, for the train store's clips by number.
        record: architecture, name, source, fingerprint, head_fingerprint; "figures" of its fit, if it was
            fitted here; "train": how far it agrees with the labels of the train store.
    """

    outputs: OutputSource
    record: dict[str, Any]


def has_teacher(config: WakewordConfig) -> bool:
    """Whether a run has a teacher that takes audio; a student that is its own teacher needs none."""
    return config.distillation.enabled and config.distillation.teacher_architecture != "self"


def keeps_teacher(out: Path) -> bool:
    """Whether a run's folder has the teacher that it began with."""
    return (out / "teacher" / RECORD).exists()


def make_teacher(config: WakewordConfig) -> Teacher:
    """The teacher that `config` names; one that starts from random weights starts from `data.seed`."""
    with kept_rng():
        torch.manual_seed(config.data.seed)
        return teacher_from_config(config)


def prepare_teacher(
    config: WakewordConfig,
    train: FeatureStore,
    val: FeatureStore,
    out: Path,
    *,
    teacher: Teacher | None,
    device: str = "cpu",
    write: bool = True,
) -> RunTeacher:
    """A run's teacher, fitted where its head is untrained, and its outputs.

    Args:
        train, val: stores with audio.
        out: the run's folder, whose teacher/ keeps the teacher (with `write`).
        teacher: see `make_teacher`; None for the one that the run in `out` began with; an error where its weights
            have changed.
    """
    assert train.audio is not None
    kept, write = out / "teacher", write and teacher is not None
    figures: dict[str, Any] = {}
    if teacher is None:
        teacher, figures = _began_with(kept)
    teacher.to(device)
    if not teacher.head_trained:
        teacher, figures = fitted(teacher, config, train, val)
    teacher.freeze()
    record = describe(teacher) | ({"figures": figures} if figures else {})
    shown = f"; F1 {figures['val']['f1']:.3f} on validation clips" if "val" in figures else ""
    console.print(f"teacher: {teacher.architecture}, {teacher.source}{shown}", soft_wrap=True)
    outputs: OutputSource = LiveOutputs(teacher, train.audio)
    if config.distillation.store_outputs:
        stored = TeacherCache(teacher, config.cache.open()).outputs(
            train.audio, frames=config.distillation.hint_weight > 0
        )
        record["train"] = f1_score(stored.logits.softmax(dim=1)[:, 1].numpy(), train.labels)
        outputs = stored
    if write:
        save_teacher(teacher, kept / TEACHER)
        write_json(kept / RECORD, record)
    return RunTeacher(outputs, record)


def fitted(
    teacher: Teacher, config: WakewordConfig, train: FeatureStore, val: FeatureStore
) -> tuple[Teacher, dict[str, Any]]:
    """`teacher` fitted to the clips of a store, or the result of an equal earlier fit, with its figures.

    Of an ensemble, each member that is not fitted yet; ensembles and single teachers share fits. Fits lie in
    the cache; an interrupted one goes on. `training.seed` is in the key only where it draws the recordings
    (`data.positive_fraction`): runs with different seeds have one teacher.
    """
    if isinstance(teacher, EnsembleTeacher):
        found = [
            (member, {}) if member.head_trained else fitted(member, config, train, val) for member in teacher.members
        ]
        figures = {f"{number} {member.architecture}": figures for number, (member, figures) in enumerate(found, 1)}
        return EnsembleTeacher([member for member, _ in found], teacher.weights, teacher.mean), {"members": figures}
    cache, device = config.cache.open(), device_of(teacher)
    drawn = [config.data.positive_fraction, config.training.seed] if config.data.positive_fraction < 1 else []

    def make(folder: Path) -> dict[str, Any]:
        assert train.audio is not None
        assert val.audio is not None
        clips = train.audio, train.labels, train.base_weights
        kept = cache if config.distillation.store_outputs else None
        place = folder / "checkpoints"
        figures = fit_teacher(teacher, *clips, config, cache=kept, val=(val.audio, val.labels), folder=place)
        save_teacher(teacher, folder / TEACHER)
        shutil.rmtree(place)
        return {"figures": figures}

    key = {
        "network": [teacher.architecture, teacher.fingerprint(), teacher.num_classes],
        "clips": [train.folder.name, val.folder.name, *drawn],
        "teacher": config.teacher.model_dump(mode="json"),
        "training": config.training.model_dump(mode="json", include=FIT_SETTINGS),
        "seed": config.data.seed,
    }
    entry = cache.get("teachers", key, make, code=[__name__], resumable=True)
    return load_teacher(entry.folder / TEACHER).freeze().to(device), entry.record["figures"]


def describe(teacher: Teacher) -> dict[str, Any]:
    """What identifies a teacher, as plain data."""
    record: dict[str, Any] = {name: getattr(teacher, name) for name in ("architecture", "name", "source")}
    record |= {"fingerprint": teacher.fingerprint(), "head_fingerprint": teacher.head_fingerprint()}
    members = members_of(teacher)
    return record | ({"members": [describe(member) for member in members]} if members else {})


def _began_with(folder: Path) -> tuple[Teacher, dict[str, Any]]:
    """The teacher that a run began with, and the figures of its fit."""
    record = read_json(folder / RECORD, "record of the teacher")
    teacher = load_teacher(folder / TEACHER)
    for name, value in describe(teacher).items():
        if name.endswith("fingerprint") and value != record[name]:
            raise EdgewakeError(
                f"the teacher in {folder} has {name} {value}, but the run began with {record[name]}: restore "
                f"the weights of {record['source']}, or start another run with another --out"
            )
    return teacher, dict(record.get("figures", {}))
