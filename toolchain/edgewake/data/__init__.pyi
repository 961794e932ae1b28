"""The public names of edgewake.data, for `lazy_loader` and for type checkers."""

from .augment import Augmenter as Augmenter
from .augment import RirPool as RirPool
from .dataset import WakewordDataset as WakewordDataset
from .importing import import_corpora as import_corpora
from .importing import import_folder as import_folder
from .manifest import CorpusManifest as CorpusManifest
from .manifest import Entry as Entry
from .mixing import NoisePool as NoisePool
from .mixing import active_power as active_power
from .mixing import mix_at_snr as mix_at_snr
from .reading import read_audio as read_audio
from .reading import write_audio as write_audio
from .scanning import scan as scan
from .shards import pack as pack

__all__ = [
    "Augmenter",
    "CorpusManifest",
    "Entry",
    "NoisePool",
    "RirPool",
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
