"""Features that others computed, mapped from disk: those of the default frontend, bit for bit, or an error."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.config.frontend import FrontendConfig
from edgewake.errors import ConfigError, MissingDependencyError
from edgewake.runtime.frontend import FEATURE_SCALE

KEY = "data.feature_negatives"
# In units of FEATURE_SCALE: tones at full scale after silence reach 674, and faint noise over 200.
LARGEST, SMALLEST_PEAK = 700, 64
# A recording of several times this many clips' frames is several sections.
SECTION_CLIPS = 2
_SAMPLED = 64
_REMEDY = f"take the store out of {KEY}, or make it anew with the frontend of microWakeWord or edgewake"


class RaggedFeatures:
    """Sections of the recordings in a `RaggedMmap` of mmap_ninja, in the place of an array of `ClipArray`.

    A recording is a section, or, where it is long, several that do not overlap. Section i has `lengths[i]` frames of
    `channels` features; `block[i, first:last]` gives frames of it, uint16, with zeros before a section that is shorter
    than a clip. Only what is drawn is read. Stored are uint16 in units of `FEATURE_SCALE`, or floats in model units
    (microWakeWord's are both). What no frontend of ours gives is a ConfigError that names the value, when the store is
    opened, for frames all over it, and when a clip is drawn.
    """

    dtype = np.dtype(np.uint16)

    def __init__(self, folder: Path, frames: int, channels: int) -> None:
        self.folder, self.frames = folder, frames
        flat, starts, shapes = _open(folder)
        if shapes.shape[1:] != (2,) or (shapes[:, 1] != channels).any():
            listed = shapes.reshape(len(shapes), -1).tolist()
            wrong = next((shape for shape in listed if len(shape) != 2 or shape[1] != channels), "none")
            raise ConfigError(f"{folder} has an item of shape {wrong}: features are (frames, {channels}); {_REMEDY}")
        if flat.dtype != np.uint16 and flat.dtype.kind != "f":
            raise ConfigError(f"{folder} holds {flat.dtype}: features are uint16 or floats; {_REMEDY}")
        self.rows = flat[: len(flat) // channels * channels].reshape(-1, channels)
        frames_of = shapes[:, 0]
        first = starts // channels
        counts = np.where(frames_of > 0, np.maximum(1, frames_of // (SECTION_CLIPS * frames)), 0)
        item = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(item)) - np.repeat(np.cumsum(counts) - counts, counts)
        begin, end = (frames_of[item] * (number + more) // counts[item] for more in (0, 1))
        self.begin, self.lengths = first[item] + begin, end - begin
        self.shape = (len(item), int(max(self.lengths.max(initial=0), frames)), channels)
        if not len(item) or int((first + frames_of).max()) > len(self.rows):
            raise ConfigError(f"{folder} holds {len(self.rows)} frames, fewer than its index has: fetch it again")
        self.key = hashlib.sha256(f"{flat.dtype} {flat.shape}".encode() + starts.tobytes()).hexdigest()[:32]
        self._check()

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, place: tuple[Any, slice]) -> npt.NDArray[np.uint16]:
        section, wanted = int(place[0]), place[1]
        begin = int(self.begin[section])
        end = begin + int(self.lengths[section])
        found = self._units(self.rows[begin + wanted.start : min(begin + wanted.stop, end)])
        return np.pad(found, ((wanted.stop - wanted.start - len(found), 0), (0, 0)))

    @property
    def hours(self) -> float:
        """Of audio that the features were computed of, without overlap of windows, at 10 ms a frame."""
        return float(self.lengths.sum()) * FrontendConfig().step_ms / 3.6e6

    def _check(self) -> None:
        sections = np.unique(np.linspace(0, len(self) - 1, _SAMPLED).astype(np.int64))
        peak = max(int(self[section, slice(0, self.frames)].max()) for section in sections)
        if peak < SMALLEST_PEAK:
            what = f"reaches {peak} units in {len(sections)} stretches all over it, faint noise {SMALLEST_PEAK}"
            scale = f"it has another scale than {FEATURE_SCALE}, or is silent"
            raise ConfigError(f"{self.folder} {what}: {scale}; {_REMEDY}")

    def _units(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
        """Stored features in units of FEATURE_SCALE, which is exact in float32, so that floats divide exactly."""
        units = values if values.dtype == np.uint16 else values.astype(np.float64) / FEATURE_SCALE
        whole = np.rint(units)
        wrong = ~((units == whole) & (whole >= 0) & (whole <= LARGEST))
        if wrong.any():
            value, of = (float(each[wrong][0]) for each in (values, units))
            limit = f"features are whole numbers of them, 0 to {LARGEST}"
            what = f"{self.folder} holds {value:g}, which is {of:g} units of {FEATURE_SCALE}; {limit}"
            raise ConfigError(f"{what}: it has another scale, or another frontend computed it; {_REMEDY}")
        return np.asarray(whole, np.uint16)


def _open(folder: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The values of a store, (values,), mapped; where each item begins; shapes of items, (items, dimensions)."""
    if find_spec("mmap_ninja") is None:
        raise MissingDependencyError(f"{KEY} takes mmap_ninja, not installed: pip install 'edgewake[corpora]'")
    from mmap_ninja.ragged import RaggedMmap

    try:
        store = RaggedMmap(folder)
        # Items of two dimensions: their shapes are a store themselves.
        shapes = store.shapes if store.shapes_are_flat else _rows(store.shapes)
        return store.memmap, np.asarray(store.starts, np.int64), np.asarray(shapes, np.int64)
    except (OSError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise ConfigError(f"{KEY}: {folder} is no whole RaggedMmap ({error}): fetch or write it again") from error


def _rows(shapes: Any) -> npt.NDArray[np.int64]:
    """Shapes of items, read at once: all have as many dimensions, or there is an error."""
    lengths = set(np.asarray(shapes.ends - shapes.starts).tolist())
    if len(lengths) != 1:
        raise ValueError(f"its items have {', '.join(map(str, sorted(lengths)))} dimensions")
    return np.asarray(shapes.memmap, np.int64).reshape(-1, lengths.pop())


def store_folders(folder: Path) -> list[Path]:
    """The stores in a folder: itself; those below its `training`, as microWakeWord lays them out; or all below it."""
    if not folder.is_dir():
        raise ConfigError(f"{KEY}: {folder} is no folder: check the path")
    if _is_store(folder):
        return [folder]
    below = folder / "training" if (folder / "training").is_dir() else folder
    found = sorted(path.parent for path in below.rglob("shapes_are_flat.ninja") if _is_store(path.parent))
    if not found:
        raise ConfigError(f"{KEY}: {folder} holds no RaggedMmap (a folder with data.ninja and starts): check the path")
    return found


def _is_store(folder: Path) -> bool:
    # The shapes of a store's items are a store themselves.
    inner = folder.name == "shapes" and (folder.parent / "starts").is_dir()
    return (folder / "data.ninja").is_file() and (folder / "starts").is_dir() and not inner


def feature_negatives(folders: Sequence[str], frontend: FrontendConfig, frames: int) -> list[RaggedFeatures]:
    """The stores of `data.feature_negatives`, for clips of `frames` frames; errors as in `RaggedFeatures`."""
    if folders and frontend.hash() != (usual := FrontendConfig()).hash():
        name = next(key for key, value in usual if getattr(frontend, key) != value)
        what = f"are features of frontend.{name} {getattr(usual, name)}, this is {getattr(frontend, name)}"
        raise ConfigError(f"{KEY} {what}: restore it, or leave {KEY} empty")
    stores = [store for folder in folders for store in store_folders(Path(folder).expanduser())]
    return [RaggedFeatures(store, frames, frontend.channels) for store in dict.fromkeys(stores)]
