"""All settings of a project, validated; parts load on first use, so that sections can import `base`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
