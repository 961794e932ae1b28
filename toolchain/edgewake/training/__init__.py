"""The student learns here: clips, batches, loop, quantization in the loop, mining; it imports lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewake.training.checkpoint_manager import CheckpointManager
    from edgewake.training.run import train_command
    from edgewake.training.trainer import Trainer

_LAZY = {"CheckpointManager": "checkpoint_manager", "Trainer": "trainer", "train_command": "run"}
__all__ = ["CheckpointManager", "Trainer", "train_command"]


def __getattr__(name: str) -> Any:
    """Resolve the public names on first use."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(f"edgewake.training.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'edgewake.training' has no attribute {name!r}")
