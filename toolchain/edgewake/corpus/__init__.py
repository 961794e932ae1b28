"""Recordings, what is known of them, and their variation; importing this loads neither torch nor scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewake.lazy import lazy

if TYPE_CHECKING:
    from edgewake.corpus.augment import Augmenter, RirPool
    from edgewake.corpus.dataset import WakewordDataset
    from edgewake.corpus.importing import import_corpora, import_folder
    from edgewake.corpus.manifest import Entry, Manifest
    from edgewake.corpus.mixing import NoisePool, active_power, mix_at_snr
    from edgewake.corpus.reading import read_audio, write_audio
    from edgewake.corpus.scanning import scan
    from edgewake.corpus.shards import pack
    from edgewake.corpus.stream import ShardStream

_LAZY = {
    "Augmenter": "edgewake.corpus.augment",
    "NoisePool": "edgewake.corpus.mixing",
    "RirPool": "edgewake.corpus.augment",
    "ShardStream": "edgewake.corpus.stream",
    "WakewordDataset": "edgewake.corpus.dataset",
    "import_corpora": "edgewake.corpus.importing",
    "import_folder": "edgewake.corpus.importing",
    "Entry": "edgewake.corpus.manifest",
    "Manifest": "edgewake.corpus.manifest",
    "active_power": "edgewake.corpus.mixing",
    "mix_at_snr": "edgewake.corpus.mixing",
    "pack": "edgewake.corpus.shards",
    "read_audio": "edgewake.corpus.reading",
    "write_audio": "edgewake.corpus.reading",
    "scan": "edgewake.corpus.scanning",
}
__all__ = [
    "Augmenter",
    "Entry",
    "Manifest",
    "NoisePool",
    "RirPool",
    "ShardStream",
    "WakewordDataset",
    "active_power",
    "import_corpora",
    "import_folder",
    "mix_at_snr",
    "pack",
    "read_audio",
    "scan",
    "write_audio",
]

__getattr__ = lazy(__name__, _LAZY)
