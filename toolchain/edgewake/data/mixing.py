"""Backgrounds at a ratio that is measured on what is heard; needs no scipy, so that evaluation can use it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.data.manifest import CorpusManifest, Kind, Split
from edgewake.data.reading import SAMPLE_RATE, Samples, read_audio, to_float

Audio = npt.NDArray[np.float32]

FRAME = SAMPLE_RATE // 50
ACTIVE_BELOW_DB = 20.0
_CLICK_FRAMES = 10


def active_power(audio: Audio) -> float:
    """Mean square of the frames in which something is heard; 0 for silence and for no samples.

    Frames are 20 ms; heard are those within 20 dB of the loudest, leaving out the top 5 % (200 ms at most)
    as clicks. A simplification of the active speech level of ITU-T P.56: pauses around a word do not count.
    """
    if len(audio) < FRAME:
        return float(np.mean(np.square(audio))) if len(audio) else 0.0
    powers = frame_powers(audio)
    rank = min(_CLICK_FRAMES, math.ceil(0.05 * len(powers)))
    top = float(np.partition(powers, -rank)[-rank]) or float(powers.max())
    heard = powers[powers >= top * 10 ** (-ACTIVE_BELOW_DB / 10)]
    return float(heard.mean()) if top > 0 else 0.0


def mix_at_snr(speech: Audio, noise: Audio, snr_db: float) -> Audio:
    """Add `noise` so that `active_power(speech)` over its mean power is `snr_db`; both (samples,), floats.

    The result may pass 1.0. When either is silent there is no ratio to set: `speech` comes back unchanged.
    """
    signal, background = active_power(speech), float(np.mean(np.square(noise, dtype=np.float64)))
    if signal <= 0 or background <= 0:
        return speech.copy()
    gain = math.sqrt(signal / background * 10 ** (-snr_db / 10))
    return np.asarray(speech + np.float32(gain) * noise, np.float32)


def frame_powers(audio: Audio) -> npt.NDArray[np.float32]:
    """Mean square of each whole 20 ms frame: (samples // 320,)."""
    count = len(audio) // FRAME
    frames = audio[: count * FRAME].reshape(count, FRAME)
    return np.asarray(np.einsum("ij,ij->i", frames, frames) / np.float32(FRAME), np.float32)


def find_peak(audio: Audio) -> float:
    """Largest magnitude; 0 for no samples."""
    return float(np.abs(audio).max()) if len(audio) else 0.0


class NoisePool:
    """Backgrounds to draw stretches from; a recording comes up in proportion to its length."""

    def __init__(self, recordings: Sequence[Samples]) -> None:
        self.recordings = [samples for samples in recordings if samples.any()]
        lengths = np.array([len(samples) for samples in self.recordings], np.float64)
        self._edges = np.cumsum(lengths)

    @classmethod
    def from_manifest(
        cls, manifest: CorpusManifest, split: Split, kinds: Iterable[Kind] = ("noise", "music")
    ) -> NoisePool:
        """Read the recordings of `kinds` in one split; errors as in `read_audio`."""
        chosen = manifest.select(split=split, kind=tuple(kinds))
        return cls([read_audio(manifest.path_of(entry)) for entry in chosen])

    def __len__(self) -> int:
        return len(self.recordings)

    def draw(self, length: int, rng: np.random.Generator) -> Audio:
        """A stretch of `length` samples, full scale 1.0; a shorter recording is repeated.

        Raises:
            IndexError: the pool is empty.
        """
        position = rng.random() * self._edges[-1]
        samples = self.recordings[int(np.searchsorted(self._edges, position, side="right"))]
        return stretch(samples, length, rng)


def stretch(samples: npt.NDArray[Any], length: int, rng: np.random.Generator) -> Audio:
    """A random stretch of `length` samples, int16 as full scale 1.0; what is too short is repeated."""
    if len(samples) < length:
        start = int(rng.integers(len(samples)))
        chosen = np.take(samples, np.arange(start, start + length), mode="wrap")
    else:
        start = int(rng.integers(len(samples) - length + 1))
        chosen = samples[start : start + length]
    return to_float(chosen) if chosen.dtype == np.int16 else chosen.astype(np.float32)
