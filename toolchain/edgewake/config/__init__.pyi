"""The public names of edgewake.config, for `lazy_loader` and for type checkers."""

from .defaults import AugmentationConfig as AugmentationConfig
from .defaults import CacheConfig as CacheConfig
from .defaults import DataConfig as DataConfig
from .defaults import DistillationConfig as DistillationConfig
from .defaults import EvaluationConfig as EvaluationConfig
from .defaults import ModelConfig as ModelConfig
from .defaults import OptimizerConfig as OptimizerConfig
from .defaults import QATConfig as QATConfig
from .defaults import TargetConfig as TargetConfig
from .defaults import TeacherConfig as TeacherConfig
from .defaults import TrainingConfig as TrainingConfig
from .defaults import WakewordConfig as WakewordConfig
from .frontend import FrontendConfig as FrontendConfig
from .presets import get_esp32_no_psram_preset as get_esp32_no_psram_preset
from .presets import get_preset as get_preset
from .presets import list_presets as list_presets
