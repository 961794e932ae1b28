"""`edgewake compare TEACHER STUDENT`: both on the same clips and the same whole recordings, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgewake.config import WakewordConfig
from edgewake.console import console, table
from edgewake.conversion.clip_export import load_clip_student
from edgewake.data.manifest import Split
from edgewake.data.scanning import usable_corpus
from edgewake.data.store import FeatureStore, build_store
from edgewake.errors import EdgewakeError
from edgewake.evaluation.checkpoints import CheckpointEvaluator
from edgewake.evaluation.clips import f1_score
from edgewake.evaluation.trained_scorers import clip_model
from edgewake.experiments.teachers import figure_rows, teacher_figures
from edgewake.io import write_json
from edgewake.models.tiny_conv import TinyConv
from edgewake.runtime.deployed import DeployedModel, clip_record
from edgewake.teachers.base import Teacher
from edgewake.training.distributed import device_for
from edgewake.training.students import student_of_checkpoint, takes_audio

# "Goal: Student should be close to teacher (within 5% F1)": the guide.
CLOSE = 0.05
BATCH = 256
# The noise in recordings does not change with a run's own seed.
NOISE_SEED = 0
Probabilities = npt.NDArray[np.float32]


def load_student(place: Path) -> tuple[nn.Module, WakewordConfig]:
    """A student in eval mode, quantized where its last phase has that, and the settings of its run.

    `place` is a run's folder (its best checkpoint is taken), a model folder, or a checkpoint of a run.
    """
    folder = place.parent.parent if place.suffix == ".pt" else place
    of_run = place.suffix == ".pt" or (place / "checkpoints").is_dir()
    if not (folder / "config.yaml").exists() or not (of_run or (place / "model.json").exists()):
        raise EdgewakeError(
            f"{place} holds no student: give a run's folder, a model folder with model.json and config.yaml, "
            "or a run's checkpoints/best.pt; edgewake runs lists runs"
        )
    config = WakewordConfig.load(folder / "config.yaml").freeze()
    if of_run:
        return student_of_checkpoint(place), config
    if clip_record(place) is not None:
        return load_clip_student(place), config
    return TinyConv.from_deployed(DeployedModel.load(place)), config


def evaluate_run(folder: Path, splits: Sequence[Split]) -> dict[str, dict[str, float]]:
    """Recalls of a run's best student at fixed rates of false accepts, by split; see `recording_figures`."""
    if not splits:
        return {}
    student, config = load_student(folder)
    student, manifest = student.to(device_for(config)), usable_corpus(config, folder)
    return {
        split: CheckpointEvaluator(manifest, config, split, seed=NOISE_SEED).student_figures(student)
        for split in splits
    }


def compare(
    teacher: Teacher, student: Path, *, split: Split, assignments: Sequence[str], out: Path | None
) -> dict[str, Any]:
    """Evaluate teacher and student on the same clips and the same recordings, with the student's settings.

    Clips are rendered as training renders its validation clips; the decision is at probability 0.5. On whole
    recordings a window slides for a teacher, and tiny_conv is stepped as on a board; recalls are at the same
    rates of false accepts.

    `student` is as in `load_student`, `assignments` are key=value for its settings. comparison-<split>.json goes to
    `out`, or the student's run, or build/comparison/<its name>, since a released model's folder is not written to.

    Returned is what that file holds: split, clips (how many), teacher and student (architecture, source, clips,
    recordings each), agreement (see `agreement`), f1_behind (teacher's less the student's), close (at most 0.05).
    """
    network, config = load_student(student)
    config = config.override(list(assignments)).freeze()
    device = device_for(config)
    network, teacher = network.to(device), teacher.freeze().to(device)
    manifest = usable_corpus(config)
    store = build_store(manifest, split, config, audio=True)
    evaluator = CheckpointEvaluator(manifest, config, split, seed=NOISE_SEED)
    by_teacher, of_teacher = teacher_figures(teacher, config, store, evaluator)
    by_student = student_probabilities(network, config, store, device)
    of_student = {"clips": f1_score(by_student, store.labels), "recordings": evaluator.student_figures(network)}
    behind = of_teacher["clips"]["f1"] - of_student["clips"]["f1"]
    result: dict[str, Any] = {
        "split": split,
        "clips": len(store),
        "teacher": {"architecture": teacher.architecture, "source": teacher.source, **of_teacher},
        "student": {"architecture": config.model.architecture, "source": str(student), **of_student},
        "agreement": agreement(by_teacher, by_student, store.labels),
        "f1_behind": behind,
        "close": behind <= CLOSE,
    }
    run = student.parent.parent if student.suffix == ".pt" else student
    usual = run if (run / "checkpoints").is_dir() else Path("build/comparison") / student.resolve().name
    write_json((out or usual) / f"comparison-{split}.json", result)
    return result


@torch.no_grad()
def student_probabilities(
    student: nn.Module, config: WakewordConfig, store: FeatureStore, device: torch.device
) -> Probabilities:
    """A student's probability of the phrase for all clips of a store with audio: (clips,)."""
    if takes_audio(config):
        assert store.audio is not None
        return clip_model(student, config)(np.asarray(store.audio[:]))
    batches = store.batches(np.arange(len(store)), BATCH)
    return np.concatenate([student(batch.to(device)).softmax(dim=1)[:, 1].cpu().numpy() for batch in batches])


def agreement(teacher: Probabilities, student: Probabilities, labels: npt.NDArray[np.int64]) -> dict[str, float]:
    """Agreement of two models' decisions at probability 0.5, all three (clips,).

    The share of clips with the same decision; kappa, Cohen's (1960), corrected for agreement by chance (1 where they
    cannot differ); and clips by which of the two is right.
    """
    ours, theirs, truth = student >= 0.5, teacher >= 0.5, labels == 1
    share = float((ours == theirs).mean())
    by_chance = float(ours.mean() * theirs.mean() + (1 - ours.mean()) * (1 - theirs.mean()))
    right, teacher_right = ours == truth, theirs == truth
    return {
        "share": share,
        "kappa": (share - by_chance) / (1 - by_chance) if by_chance < 1 else 1.0,
        "both_right": int((right & teacher_right).sum()),
        "only_teacher": int((~right & teacher_right).sum()),
        "only_student": int((right & ~teacher_right).sum()),
        "both_wrong": int((~right & ~teacher_right).sum()),
    }


def print_comparison(result: dict[str, Any]) -> None:
    """Teacher and student as a table, their agreement, and whether the student is close."""
    both = [result["teacher"], result["student"]]
    on, it, behind = both[0]["recordings"], result["agreement"], result["f1_behind"]
    recordings = f"{on['recordings']:g} recording{'' if on['recordings'] == 1 else 's'}"
    title = f"{result['split']}: {result['clips']} clips, {recordings} of the phrase, {on['hours']:.2f} h without it"
    table(title, ("figure", *(f">{one['architecture']}" for one in both)), figure_rows(*both))
    if behind <= 0:
        verdict = f"the student's F1 is {-behind:.3f} above the teacher's"
    elif result["close"]:
        verdict = f"the student is close to the teacher: its F1 is {behind:.3f} behind, within {CLOSE}"
    else:
        verdict = (
            f"the student is not close to the teacher: its F1 is {behind:.3f} behind, more than {CLOSE}; "
            "train longer, or try a higher distillation.alpha"
        )
    console.print(
        f"they agree on {it['share']:.1%} of clips (kappa {it['kappa']:.2f}); right are both on "
        f"{it['both_right']}, only the teacher on {it['only_teacher']}, only the student on "
        f"{it['only_student']}, neither on {it['both_wrong']}\n{verdict}",
        soft_wrap=True,
    )
