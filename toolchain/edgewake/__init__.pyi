"""The public names of edgewake, for `lazy_loader` and for type checkers."""

from .config import WakewordConfig as WakewordConfig
from .errors import EdgewakeError as EdgewakeError
from .runtime.detector import Detection as Detection
from .runtime.detector import Detector as Detector

__version__: str

__all__ = [
    "Detection",
    "Detector",
    "EdgewakeError",
    "WakewordConfig",
]
