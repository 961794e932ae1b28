"""The mel frontend: one integer algorithm, whose features are the same bits in training and on the board."""

from edgewake.config.frontend import FrontendConfig
from edgewake.runtime.frontend.native import NativeFrontend, features, features_batch

FEATURE_SCALE = 0.0390625
"""Real value of one unit of a feature: 10/256, exact in float32."""

__all__ = ["FEATURE_SCALE", "FrontendConfig", "NativeFrontend", "features", "features_batch"]
