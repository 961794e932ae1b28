"""Recordings, what is known of them, and their variation; importing this loads neither torch nor scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewake.lazy import lazy

if TYPE_CHECKING:
    from edgewake.data.augment import Augmenter, RirPool
    from edgewake.data.dataset import WakewordDataset
    from edgewake.data.importing import import_corpora, import_folder
    from edgewake.data.manifest import Entry, Manifest
    from edgewake.data.mixing import NoisePool, active_power, mix_at_snr
    from edgewake.data.reading import read_audio, write_audio
    from edgewake.data.scanning import scan
    from edgewake.data.shards import pack
    from edgewake.data.stream import ShardStream

_LAZY = {
    "Augmenter": "edgewake.data.augment",
    "NoisePool": "edgewake.data.mixing",
    "RirPool": "edgewake.data.augment",
    "ShardStream": "edgewake.data.stream",
    "WakewordDataset": "edgewake.data.dataset",
    "import_corpora": "edgewake.data.importing",
    "import_folder": "edgewake.data.importing",
    "Entry": "edgewake.data.manifest",
    "Manifest": "edgewake.data.manifest",
    "active_power": "edgewake.data.mixing",
    "mix_at_snr": "edgewake.data.mixing",
    "pack": "edgewake.data.shards",
    "read_audio": "edgewake.data.reading",
    "write_audio": "edgewake.data.reading",
    "scan": "edgewake.data.scanning",
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
