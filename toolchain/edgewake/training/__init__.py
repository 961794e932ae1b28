"""The student learns here: clips, batches, loop, quantization in the loop, mining; it imports lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewake.lazy import lazy

if TYPE_CHECKING:
    from edgewake.training.checkpoint_manager import CheckpointManager
    from edgewake.training.distillation_trainer import DistillationTrainer
    from edgewake.training.run import train_command
    from edgewake.training.trainer import Trainer

_LAZY = {
    "CheckpointManager": "edgewake.training.checkpoint_manager",
    "DistillationTrainer": "edgewake.training.distillation_trainer",
    "Trainer": "edgewake.training.trainer",
    "train_command": "edgewake.training.run",
}
__all__ = ["CheckpointManager", "DistillationTrainer", "Trainer", "train_command"]

__getattr__ = lazy(__name__, _LAZY)
