"""edgewake: from a wake phrase and some audio to an ESP32-S3 that wakes on it; importing this stays light."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewake.errors import EdgewakeError
from edgewake.lazy import lazy

if TYPE_CHECKING:
    from edgewake.config import WakewordConfig
    from edgewake.runtime.detector import Detection, Detector

__version__ = "0.1.0"
__all__ = ["Detection", "Detector", "EdgewakeError", "WakewordConfig", "__version__"]

_LAZY = {
    "WakewordConfig": "edgewake.config",
    "Detector": "edgewake.runtime.detector",
    "Detection": "edgewake.runtime.detector",
}

__getattr__ = lazy(__name__, _LAZY)
