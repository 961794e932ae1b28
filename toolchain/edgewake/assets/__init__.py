"""Pretrained weights by name: fetched from where they can be had, verified, and never needed to start."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
