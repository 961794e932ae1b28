"""edgewake: from a wake phrase and some audio to an ESP32-S3 that wakes on it; importing this stays light."""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
