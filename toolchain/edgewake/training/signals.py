"""A run's teacher: made, fitted to the run's own clips, kept, and asked once what it says of each of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgewake.cache import cache_folder
from edgewake.config import WakewordConfig
from edgewake.console import console
from edgewake.data.clip_array import Clips
from edgewake.data.reading import to_float
from edgewake.data.store import FeatureStore
from edgewake.errors import EdgewakeError
from edgewake.evaluation.clip_metrics import f1_score
from edgewake.io import read_json, write_json
from edgewake.stages import code_hash
from edgewake.teachers.base import OutputSource, Teacher, TeacherOutputs, device_of, members_of
from edgewake.teachers.ensemble import EnsembleTeacher
from edgewake.teachers.registry import load_teacher, save_teacher, teacher_from_config
from edgewake.training.blocks import exclusive
from edgewake.training.teacher_cache import TeacherCache
from edgewake.training.teacher_fit import fit_teacher

TEACHER, RECORD = "teacher.pt", "teacher.json"
# What decides a fit beside the clips, the network and `teacher.*`.
FITTED_BY = ("training/teacher_fit.py", "teachers/heads.py", "data/sampling.py")
FIT_SETTINGS = {"negatives_per_positive", "hard_negative_mining", "mining_interval", "mining_boost"}


@dataclass(frozen=True)
class Taught:
    """What a run learns from beside labels.

    Attributes:
        source: the teacher's signals of the train store's clips, by number.
        record: architecture, name, source, fingerprint, head_fingerprint; "figures" of its fit, if it was
            fitted here; "train": how far it agrees with the labels of the train store.
    """

    source: OutputSource
    record: dict[str, Any]


class LiveOutputs:
    """Outputs for a store's clips from a teacher that hears them each time they are asked for."""

    def __init__(self, teacher: Teacher, audio: Clips) -> None:
        self.teacher, self.audio = teacher, audio
        self.frame_rate = teacher.frame_rate

    @torch.no_grad()
    def of(self, clips: Tensor) -> TeacherOutputs:
        """Outputs for clips by number, (batch,), on the device of the teacher."""
        heard = torch.from_numpy(to_float(self.audio[clips.cpu().numpy()])).to(device_of(self.teacher))
        return self.teacher.outputs(heard)


def has_teacher(config: WakewordConfig) -> bool:
    """Whether a run listens to a teacher; a student that teaches itself hears no audio."""
    return config.distillation.enabled and config.distillation.teacher_architecture != "self"


def keeps_teacher(out: Path) -> bool:
    """Whether a run's folder has the teacher that it began with."""
    return (out / "teacher" / RECORD).exists()


def teach(
    config: WakewordConfig,
    train: FeatureStore,
    val: FeatureStore,
    out: Path,
    *,
    teacher: Teacher | None = None,
    device: str = "cpu",
    write: bool = True,
) -> Taught:
    """A run's teacher, fitted where its head knows nothing yet, and its signals.

    Fits and embeddings are found again by everything that decides them. `out`/teacher keeps the teacher: a
    run that is resumed goes on with that one, whatever became of the file that it was made from.

    Args:
        train, val: stores with audio.
        out: the run's folder.
        teacher: see `make_teacher`; None for the one that the run in `out` began with.
        device: where the teacher works.
        write: keep the teacher in `out`.

    Raises:
        EdgewakeError: the teacher cannot be had, or on resuming is not the one that the run began with.
    """
    assert train.audio is not None
    settings = config.distillation
    store = cache_folder(config.cache.folder) / "teachers"
    cache = TeacherCache(store, config.cache.limit_gb) if settings.store_outputs else None
    kept = out / "teacher"
    began = teacher is None
    figures: dict[str, Any] = {}
    if teacher is None:
        teacher, figures = began_with(kept)
    teacher.to(device)
    if not teacher.head_trained:
        teacher, figures = fitted(teacher, config, train, val, cache, device)
    teacher.freeze()
    record = describe(teacher) | ({"figures": figures} if figures else {})
    console.print(f"teacher: {teacher.architecture}, {teacher.source}" + shown_figures(figures), soft_wrap=True)
    source: OutputSource
    if cache is None:
        source = LiveOutputs(teacher, train.audio)
    else:
        source = cache.outputs(teacher, train.audio, frames=settings.hint_weight > 0)
        probability = source.logits.softmax(dim=1)[:, 1].numpy()
        record["train"] = f1_score(probability, train.labels)
    if write and not began:
        save_teacher(teacher, kept / TEACHER)
        write_json(kept / RECORD, record)
    return Taught(source, record)


def make_teacher(config: WakewordConfig) -> Teacher:
    """The teacher that `config` names; one that starts from random weights starts from `data.seed`."""

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.data.seed)
        return teacher_from_config(config)


def began_with(folder: Path) -> tuple[Teacher, dict[str, Any]]:
    """The teacher that a run began with, and the figures of its fit.

    Raises:
        EdgewakeError: its weights are not to be had any more, or have changed.
    """

    record = read_json(folder / RECORD, "record of the teacher")
    teacher = load_teacher(folder / TEACHER)
    for name, value in describe(teacher).items():
        if name.endswith("fingerprint") and value != record[name]:
            raise EdgewakeError(
                f"the teacher in {folder} has {name} {value}, but the run began with {record[name]}: restore "
                f"the weights of {record['source']}, or start another run with another --out"
            )
    return teacher, dict(record.get("figures", {}))


def describe(teacher: Teacher) -> dict[str, Any]:
    """What tells a teacher from others, as plain data."""
    record: dict[str, Any] = {
        "architecture": teacher.architecture,
        "name": teacher.name,
        "source": teacher.source,
        "fingerprint": teacher.fingerprint(),
        "head_fingerprint": teacher.head_fingerprint(),
    }
    members = members_of(teacher)
    return record | ({"members": [describe(member) for member in members]} if members else {})


def shown_figures(figures: dict[str, Any]) -> str:
    """The F1 of a fit on validation clips, for a line; of an ensemble, of each member."""
    if "val" in figures:
        return f"; F1 {figures['val']['f1']:.3f} on validation clips"
    parts = [f"{name} {each['val']['f1']:.3f}" for name, each in figures.get("members", {}).items() if each]
    return f"; F1 on validation clips: {', '.join(parts)}" if parts else ""


# ---- fitting -------------------------------------------------------------------------------------


def fitted(
    teacher: Teacher,
    config: WakewordConfig,
    train: FeatureStore,
    val: FeatureStore,
    cache: TeacherCache | None,
    device: str,
) -> tuple[Teacher, dict[str, Any]]:
    """`teacher` fitted to the clips of a store, or the result of an equal earlier fit, with its figures.

    Of an ensemble, each member that is not fitted yet; ensembles and single teachers share fits.
    """
    if members := members_of(teacher):
        assert isinstance(teacher, EnsembleTeacher)
        found = [
            (member, {}) if member.head_trained else fitted(member, config, train, val, cache, device)
            for member in members
        ]
        figures = {f"{number} {member.architecture}": figures for number, (member, figures) in enumerate(found, 1)}
        together = EnsembleTeacher([member for member, _ in found], teacher.weights, teacher.mean)
        return together.to(device), {"members": figures}
    root = cache_folder(config.cache.folder) / "fitted"
    folder = root / fit_key(teacher, config, train, val)
    with exclusive(root / "locks" / folder.name, wait=True):
        if not (folder / RECORD).exists():
            _fit(teacher, config, train, val, cache, folder)

    figures = read_json(folder / RECORD, "record of a fitted teacher")["figures"]
    return load_teacher(folder / TEACHER).freeze().to(device), figures


def fit_key(teacher: Teacher, config: WakewordConfig, train: FeatureStore, val: FeatureStore) -> str:
    """Names a fit by all that decides it: network, clips, and how it is done.

    `training.seed` counts only where it draws the recordings (`data.positive_fraction`): runs with different
    seeds learn from one teacher.
    """
    clips = [train.folder.name, val.folder.name]
    drawn = [config.data.positive_fraction, config.training.seed] if config.data.positive_fraction < 1 else []
    seen = {
        "network": [teacher.architecture, teacher.fingerprint(), teacher.num_classes],
        "clips": [*clips, *drawn],
        "teacher": config.teacher.model_dump(mode="json"),
        "training": config.training.model_dump(mode="json", include=FIT_SETTINGS),
        "seed": config.data.seed,
        "code": code_hash(FITTED_BY, ("torch",)),
    }
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:16]


def _fit(
    teacher: Teacher,
    config: WakewordConfig,
    train: FeatureStore,
    val: FeatureStore,
    cache: TeacherCache | None,
    folder: Path,
) -> None:

    assert train.audio is not None
    assert val.audio is not None
    checkpoint = folder / "fitting.pt"
    figures = fit_teacher(
        teacher,
        train.audio,
        train.labels,
        train.base_weights,
        config,
        cache=cache,
        val=(val.audio, np.asarray(val.labels)),
        checkpoint=checkpoint,
    )
    save_teacher(teacher, folder / TEACHER)
    write_json(folder / RECORD, describe(teacher) | {"figures": figures})
    checkpoint.unlink(missing_ok=True)
