"""Figures of trained runs on whole recordings, on the same renderings for every run that is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from edgewake.config import WakewordConfig
from edgewake.conversion.clip_export import load_clip_student
from edgewake.data.manifest import Split
from edgewake.data.scanning import usable_corpus
from edgewake.errors import EdgewakeError
from edgewake.evaluation.checkpoints import CheckpointEvaluator
from edgewake.models.tiny_conv import TinyConv
from edgewake.runtime.deployed import DeployedModel, clip_record
from edgewake.training.checkpoint_manager import CheckpointManager
from edgewake.training.students import build_student

if TYPE_CHECKING:
    from torch import nn

# The backgrounds of noisy recordings do not change with a run's own seed.
NOISE_SEED = 0


@dataclass(frozen=True)
class Trained:
    """The best student of a run, as it was validated: with quantization, where its last phase has it."""

    config: WakewordConfig
    student: nn.Module


def load_trained(folder: Path, checkpoint: Path | None = None) -> Trained:
    """The student of a run's best checkpoint, in eval mode.

    Args:
        folder: of the run, with config.yaml.
        checkpoint: another checkpoint than its best.

    Raises:
        EdgewakeError: there is no run, or its checkpoint cannot be read.
    """
    path = folder / "config.yaml"
    if not path.exists():
        raise EdgewakeError(f"{folder} holds no run: there is no config.yaml; edgewake runs lists them")
    config = WakewordConfig.load(path).freeze()
    checkpoint = checkpoint or folder / "checkpoints" / "best.pt"
    if not checkpoint.exists():
        raise EdgewakeError(f"{folder} has no {checkpoint.name} yet; train it first")
    state = CheckpointManager(checkpoint.parent).load(checkpoint)
    student = build_student(config)
    if isinstance(student, TinyConv) and state["phase"] == "qat":
        student.fold_batch_norm()
        student.quantize = True
    student.load_state_dict(state["model"])
    return Trained(config, student.eval())


def load_student(place: Path) -> Trained:
    """A student by its run's folder, its model folder, or a checkpoint of its run.

    Raises:
        EdgewakeError: there is no student.
    """
    if place.suffix == ".pt":
        return load_trained(place.parent.parent, place)
    if (place / "checkpoints").is_dir():
        return load_trained(place)
    if not (place / "model.json").exists() or not (place / "config.yaml").exists():
        raise EdgewakeError(
            f"{place} holds no student: give a run's folder, a model folder with model.json and config.yaml, "
            "or a run's checkpoints/best.pt"
        )

    config = WakewordConfig.load(place / "config.yaml").freeze()
    if clip_record(place) is not None:
        return Trained(config, load_clip_student(place))
    return Trained(config, TinyConv.from_deployed(DeployedModel.load(place)))


def judge_run(folder: Path, splits: Sequence[Split]) -> dict[str, dict[str, float]]:
    """Recalls of a run's best student at fixed rates of false accepts, by split; see `recording_figures`.

    All runs of one corpus are evaluated on the same recordings in the same noise, whatever their seed.
    """
    if not splits:
        return {}
    trained = load_trained(folder)
    threads = trained.config.training.threads
    if threads:
        torch.set_num_threads(threads)
    manifest = usable_corpus(trained.config, folder)
    return {
        split: CheckpointEvaluator(manifest, trained.config, split, seed=NOISE_SEED).student_figures(trained.student)
        for split in splits
    }
