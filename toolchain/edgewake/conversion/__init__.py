"""From the deploy form to what the board runs; each stage writes a file and a record of how it was made."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
