"""Trained students, and their figures on whole recordings, which are the same for all runs that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from edgewake.config import WakewordConfig
from edgewake.conversion.clip_export import load_clip_student
from edgewake.data.manifest import Split
from edgewake.data.scanning import usable_corpus
from edgewake.errors import EdgewakeError
from edgewake.evaluation.checkpoints import CheckpointEvaluator
from edgewake.models.tiny_conv import TinyConv
from edgewake.runtime.deployed import DeployedModel, clip_record
from edgewake.training.students import student_of_checkpoint

# The noise in recordings does not change with a run's own seed.
NOISE_SEED = 0


@dataclass(frozen=True)
class TrainedStudent:
    """A student in eval mode, with quantization where its last phase has it, and the settings of its run."""

    config: WakewordConfig
    student: nn.Module


def load_student(place: Path) -> TrainedStudent:
    """A student by its run's folder (its best checkpoint), its model folder, or a checkpoint of its run.

    Raises:
        EdgewakeError: there is no student, or it cannot be read.
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
        return TrainedStudent(config, student_of_checkpoint(place))
    if clip_record(place) is not None:
        return TrainedStudent(config, load_clip_student(place))
    return TrainedStudent(config, TinyConv.from_deployed(DeployedModel.load(place)))


def evaluate_run(folder: Path, splits: Sequence[Split]) -> dict[str, dict[str, float]]:
    """Recalls of a run's best student at fixed rates of false accepts, by split; see `recording_figures`."""
    if not splits:
        return {}
    trained = load_student(folder)
    config, student = trained.config, trained.student.to(device_for(trained.config))
    manifest = usable_corpus(config, folder)
    return {
        split: CheckpointEvaluator(manifest, config, split, seed=NOISE_SEED).student_figures(student)
        for split in splits
    }


def device_for(config: WakewordConfig) -> str:
    """The device to work on; sets torch's threads."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and config.training.threads:
        torch.set_num_threads(config.training.threads)
    return device
