"""Judging a model on the host: events, rates with intervals, the cutoff, DET curves and reports."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
