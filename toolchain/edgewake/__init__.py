"""edgewake: from a wake phrase and some audio to an ESP32-S3 that wakes on it; importing this stays light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgewake.errors import EdgewakeError

if TYPE_CHECKING:
    from edgewake.config import WakewordConfig
    from edgewake.evaluation.detector import Detection, Detector

__version__ = "0.1.0"
__all__ = ["Detection", "Detector", "EdgewakeError", "WakewordConfig", "__version__"]

_LAZY = {
    "WakewordConfig": "edgewake.config",
    "Detector": "edgewake.evaluation.detector",
    "Detection": "edgewake.evaluation.detector",
}


def __getattr__(name: str) -> Any:
    """Resolve the public names on first use, so that `import edgewake` does not load the interpreter."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'edgewake' has no attribute {name!r}")
