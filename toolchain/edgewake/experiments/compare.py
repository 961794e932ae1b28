"""`edgewake compare TEACHER STUDENT`: both on the same clips and the same whole recordings, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgewake.console import console, table
from edgewake.data.manifest import Split
from edgewake.data.scanning import usable_corpus
from edgewake.data.store import FeatureStore, build_store
from edgewake.evaluation.checkpoints import RATES, CheckpointEvaluator
from edgewake.evaluation.clips import clip_probabilities, f1_score
from edgewake.evaluation.trained_scorers import CLIP_BATCH, ClipScorer
from edgewake.experiments.teachers import clip_score
from edgewake.experiments.trained import NOISE_SEED, TrainedStudent, device_for, load_student
from edgewake.io import write_json
from edgewake.models.featurizer import make_featurizer
from edgewake.teachers.base import Teacher
from edgewake.training.students import takes_audio

# "Goal: Student should be close to teacher (within 5% F1)": the guide.
CLOSE = 0.05
BATCH = 256
Probabilities = npt.NDArray[np.float32]


def default_folder(student: Path) -> Path:
    """A run keeps its comparisons; a released model's folder is not written to."""
    run = student.parent.parent if student.suffix == ".pt" else student
    return run if (run / "checkpoints").is_dir() else Path("build/comparison") / student.resolve().name


def compare(
    teacher: Teacher,
    student: Path,
    *,
    split: Split = "val",
    assignments: Sequence[str] = (),
    out: Path | None = None,
) -> dict[str, Any]:
    """Evaluate teacher and student on the same clips and the same recordings, with the student's settings.

    Clips are rendered as training renders its validation clips; the decision is at probability 0.5. On whole
    recordings a window slides for a teacher, and tiny_conv is stepped as on a board; recalls are at the same
    rates of false accepts.

    Args:
        teacher: fitted.
        student: a run's folder, a model folder, or a checkpoint of a run.
        split: whose clips and recordings.
        assignments: key=value for the settings, such as data.manifest.
        out: where comparison-<split>.json goes; None: see `default_folder`.

    Returns:
        What that file holds: split, clips (how many), teacher and student (architecture, source, clips,
        recordings each), agreement (see `agreement`), f1_behind (teacher's less the student's), close (it is
        at most 0.05).

    Raises:
        EdgewakeError: the student is not there.
    """
    trained = load_student(student)
    config = trained.config.override(list(assignments)).freeze()
    device = device_for(config)
    teacher = teacher.freeze().to(device)
    folder = out or default_folder(student)
    manifest = usable_corpus(config)
    store = build_store(manifest, split, config, audio=True)
    assert store.audio is not None
    score = clip_score(teacher, config)
    evaluator = CheckpointEvaluator(manifest, config, split, seed=NOISE_SEED)
    by_teacher = score(np.asarray(store.audio[:]))
    by_student = student_probabilities(trained, store, device)
    result: dict[str, Any] = {
        "split": split,
        "clips": len(store),
        "teacher": {
            "architecture": teacher.architecture,
            "source": teacher.source,
            "clips": f1_score(by_teacher, store.labels),
            "recordings": evaluator.figures(ClipScorer(score, config)),
        },
        "student": {
            "architecture": config.model.architecture,
            "source": str(student),
            "clips": f1_score(by_student, store.labels),
            "recordings": evaluator.student_figures(trained.student.to(device)),
        },
        "agreement": agreement(by_teacher, by_student, store.labels),
    }
    behind = result["teacher"]["clips"]["f1"] - result["student"]["clips"]["f1"]
    result |= {"f1_behind": behind, "close": behind <= CLOSE}
    write_json(folder / f"comparison-{split}.json", result)
    return result


@torch.no_grad()
def student_probabilities(trained: TrainedStudent, store: FeatureStore, device: str = "cpu") -> Probabilities:
    """A student's probability of the phrase for all clips of a store: (clips,)."""
    student, found = trained.student.to(device).eval(), []
    if not takes_audio(trained.config):
        for batch in store.batches(np.arange(len(store)), BATCH):
            found.append(student(batch.to(device)).softmax(dim=1)[:, 1].cpu().numpy())
        return np.concatenate(found)

    assert store.audio is not None
    featurizer = make_featurizer(trained.config, device)
    return clip_probabilities(lambda audio: student(featurizer(audio)), store.audio, device, batch=CLIP_BATCH)


def agreement(teacher: Probabilities, student: Probabilities, labels: npt.NDArray[np.int64]) -> dict[str, float]:
    """Agreement of two models' decisions at probability 0.5, all three (clips,).

    Returns:
        share: of clips with the same decision; kappa: Cohen's (1960), corrected for agreement by chance (1 where
        they cannot differ); and clips by which of the two is right:
        both_right, only_teacher, only_student, both_wrong.
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
    rows = [
        (f"clips: {name}", *(f"{one['clips'][name]:.3f}" for one in both))
        for name in ("f1", "accuracy", "precision", "recall")
    ]
    for rate in RATES:
        for kind in ("clean", "noisy"):
            name = f"recall_{kind}_at_{rate:g}"
            recalls = (f"{one['recordings'][name]:.1%}" for one in both)
            rows.append((f"recordings: {kind} recall at {rate:g} FA/h", *recalls))
    rows.append(("recordings: mean recall", *(f"{one['recordings']['recall_mean']:.1%}" for one in both)))
    on = both[0]["recordings"]
    recordings = f"{on['recordings']:g} recording{'' if on['recordings'] == 1 else 's'}"
    title = f"{result['split']}: {result['clips']} clips, {recordings} of the phrase, {on['hours']:.2f} h without it"
    table(title, ("figure", *(f">{one['architecture']}" for one in both)), rows)
    it = result["agreement"]
    console.print(
        f"they agree on {it['share']:.1%} of clips (kappa {it['kappa']:.2f}); right are both on "
        f"{it['both_right']}, only the teacher on {it['only_teacher']}, only the student on "
        f"{it['only_student']}, neither on {it['both_wrong']}",
        soft_wrap=True,
    )
    behind = result["f1_behind"]
    if behind <= 0:
        text = f"the student's F1 is {-behind:.3f} above the teacher's"
    elif result["close"]:
        text = f"the student is close to the teacher: its F1 is {behind:.3f} behind, within {CLOSE}"
    else:
        text = (
            f"the student is not close to the teacher: its F1 is {behind:.3f} behind, more than {CLOSE}; "
            "train longer, or try a higher distillation.alpha"
        )
    console.print(text, soft_wrap=True)
