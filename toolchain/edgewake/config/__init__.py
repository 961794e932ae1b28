"""All settings of a project, validated; parts load on first use, so that sections can import `base`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewake.lazy import lazy

if TYPE_CHECKING:
    from edgewake.config.frontend import FrontendConfig
    from edgewake.config.presets import get_esp32_no_psram_preset, get_preset, list_presets
    from edgewake.config.sections import (
        AugmentationConfig,
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

_LAZY = {
    "AugmentationConfig": "edgewake.config.sections",
    "DataConfig": "edgewake.config.sections",
    "DistillationConfig": "edgewake.config.sections",
    "EvaluationConfig": "edgewake.config.sections",
    "FrontendConfig": "edgewake.config.frontend",
    "ModelConfig": "edgewake.config.sections",
    "OptimizerConfig": "edgewake.config.sections",
    "QATConfig": "edgewake.config.sections",
    "TargetConfig": "edgewake.config.sections",
    "TeacherConfig": "edgewake.config.sections",
    "TrainingConfig": "edgewake.config.sections",
    "WakewordConfig": "edgewake.config.wakeword",
    "get_esp32_no_psram_preset": "edgewake.config.presets",
    "get_preset": "edgewake.config.presets",
    "list_presets": "edgewake.config.presets",
}
__all__ = [
    "AugmentationConfig",
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
    "get_esp32_no_psram_preset",
    "get_preset",
    "list_presets",
]

__getattr__ = lazy(__name__, _LAZY)
