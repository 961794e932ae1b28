"""Evaluation of models on whole recordings: scorers, rates with intervals, the cutoff, DET curves, model cards."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
