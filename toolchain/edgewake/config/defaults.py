"""The guide's import path for the configuration classes; they live in `sections` and `wakeword`."""

from __future__ import annotations

from edgewake.config.frontend import FrontendConfig
from edgewake.config.sections import (
    AugmentationConfig,
    CacheConfig,
    DataConfig,
    DistillationConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    QATConfig,
    TargetConfig,
    TeacherConfig,
    TrainingConfig,
)
from edgewake.config.wakeword import WakewordConfig

__all__ = [
    "AugmentationConfig",
    "CacheConfig",
    "DataConfig",
    "DistillationConfig",
    "EvaluationConfig",
    "FrontendConfig",
    "ModelConfig",
    "OptimizerConfig",
    "QATConfig",
    "TargetConfig",
    "TeacherConfig",
    "TrainingConfig",
    "WakewordConfig",
]
