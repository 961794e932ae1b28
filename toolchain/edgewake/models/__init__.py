"""Students by name, and the guide's teacher; importing this package does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewake.lazy import lazy

if TYPE_CHECKING:
    from edgewake.models.factory import ARCHITECTURES, create_model
    from edgewake.models.featurizer import make_featurizer
    from edgewake.models.huggingface import Wav2VecWakeword

_LAZY = {
    "ARCHITECTURES": "edgewake.models.factory",
    "Wav2VecWakeword": "edgewake.models.huggingface",
    "create_model": "edgewake.models.factory",
    "make_featurizer": "edgewake.models.featurizer",
}
__all__ = ["ARCHITECTURES", "Wav2VecWakeword", "create_model", "make_featurizer"]

__getattr__ = lazy(__name__, _LAZY)
