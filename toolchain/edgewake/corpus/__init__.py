"""Recordings, what is known of them, and their variation; importing this loads neither torch nor scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewake.corpus.augment import Augmenter, RirPool
    from edgewake.corpus.dataset import WakewordDataset
    from edgewake.corpus.importing import import_corpora, import_folder
    from edgewake.corpus.manifest import Entry, Manifest
    from edgewake.corpus.mixing import NoisePool, active_power, mix_at_snr
    from edgewake.corpus.reading import read_audio, write_audio
    from edgewake.corpus.scanning import scan

_LAZY = {
    "Augmenter": "augment",
    "NoisePool": "mixing",
    "RirPool": "augment",
    "WakewordDataset": "dataset",
    "import_corpora": "importing",
    "import_folder": "importing",
    "Entry": "manifest",
    "Manifest": "manifest",
    "active_power": "mixing",
    "mix_at_snr": "mixing",
    "read_audio": "reading",
    "write_audio": "reading",
    "scan": "scanning",
}
__all__ = [
    "Augmenter",
    "Entry",
    "Manifest",
    "NoisePool",
    "RirPool",
    "WakewordDataset",
    "active_power",
    "import_corpora",
    "import_folder",
    "mix_at_snr",
    "read_audio",
    "scan",
    "write_audio",
]


def __getattr__(name: str) -> Any:
    """Resolve the public names on first use."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(f"edgewake.corpus.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'edgewake.corpus' has no attribute {name!r}")
