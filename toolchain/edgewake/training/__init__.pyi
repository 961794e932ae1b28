"""The public names of edgewake.training, for `lazy_loader` and for type checkers."""

from .checkpoint_manager import CheckpointManager as CheckpointManager
from .distillation_trainer import DistillationTrainer as DistillationTrainer
from .run import train_command as train_command
from .trainer import Trainer as Trainer

__all__ = ["CheckpointManager", "DistillationTrainer", "Trainer", "train_command"]
