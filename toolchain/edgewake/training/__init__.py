"""Training: the loop of students and teachers, quantization-aware training, checkpoints, runs; names import lazily."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
