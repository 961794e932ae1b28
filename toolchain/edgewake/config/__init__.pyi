"""The public names of edgewake.config, for `lazy_loader` and for type checkers."""

from .defaults import WakewordConfig as WakewordConfig
from .frontend import FrontendConfig as FrontendConfig
from .presets import get_esp32_no_psram_preset as get_esp32_no_psram_preset
from .presets import get_preset as get_preset
from .presets import list_presets as list_presets
from .sections import AugmentationConfig as AugmentationConfig
from .sections import CacheConfig as CacheConfig
from .sections import DataConfig as DataConfig
from .sections import DistillationConfig as DistillationConfig
from .sections import EvaluationConfig as EvaluationConfig
from .sections import ModelConfig as ModelConfig
from .sections import OptimizerConfig as OptimizerConfig
from .sections import QATConfig as QATConfig
from .sections import TargetConfig as TargetConfig
from .sections import TeacherConfig as TeacherConfig
from .sections import TrainingConfig as TrainingConfig
