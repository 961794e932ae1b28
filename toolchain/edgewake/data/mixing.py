"""Backgrounds at a ratio to the active part of speech; without scipy, so that evaluation can use it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.data.manifest import CorpusManifest, Kind, Split
from edgewake.data.reading import SAMPLE_RATE, Samples, to_float

Audio = npt.NDArray[np.float32]

FRAME = SAMPLE_RATE // 50
ACTIVE_BELOW_DB = 20.0
_CLICK_FRAMES = 10


def active_power(audio: Audio) -> float:
    """Mean square of the active frames; 0 for silence and for no samples.

    A simplification of the active speech level of ITU-T P.56: of frames of 20 ms, those within 20 dB of the
    loudest, where the top 5 % (200 ms at most) count as clicks.
    """
    if len(audio) < FRAME:
        return float(np.mean(np.square(audio))) if len(audio) else 0.0
    powers = frame_powers(audio)
    rank = min(_CLICK_FRAMES, math.ceil(0.05 * len(powers)))
    top = float(np.partition(powers, -rank)[-rank]) or float(powers.max())
    active = powers[powers >= top * 10 ** (-ACTIVE_BELOW_DB / 10)]
    return float(active.mean()) if top > 0 else 0.0


def active_region(audio: Audio | Samples, frame: int = FRAME, below_db: float = ACTIVE_BELOW_DB) -> tuple[int, int]:
    """First sample, and the one after the last, of the frames near the loudest; (0, len) if none is."""
    powers = frame_powers(audio, frame)
    if len(powers) == 0 or powers.max() <= 0:
        return 0, len(audio)
    active = np.flatnonzero(powers >= powers.max() * 10 ** (-below_db / 10))
    return int(active[0]) * frame, min(len(audio), int(active[-1] + 1) * frame)


def mix_at_snr(speech: Audio, noise: Audio, snr_db: float) -> Audio:
    """Add `noise` so that `active_power(speech)` over its mean power is `snr_db`; both (samples,), floats.

    The result may pass 1.0. When either is silent there is no ratio to set: `speech` comes back unchanged.
    """
    signal, background = active_power(speech), float(np.mean(np.square(noise, dtype=np.float64)))
    if signal <= 0 or background <= 0:
        return speech.copy()
    gain = math.sqrt(signal / background * 10 ** (-snr_db / 10))
    return np.asarray(speech + np.float32(gain) * noise, np.float32)


def frame_powers(audio: Audio | Samples, frame: int = FRAME) -> npt.NDArray[np.floating]:
    """Mean square of each whole frame: (samples // frame,); in float64 for int16, which float32 does not hold."""
    wide = audio.astype(np.float64) if audio.dtype == np.int16 else audio
    frames = wide[: len(wide) // frame * frame].reshape(-1, frame)
    return np.asarray(np.einsum("ij,ij->i", frames, frames) / frames.dtype.type(frame))


def find_peak(audio: Audio) -> float:
    """Largest magnitude; 0 for no samples."""
    return float(np.abs(audio).max()) if len(audio) else 0.0


class NoisePool:
    """Backgrounds to draw stretches from; a recording comes up in proportion to its length."""

    def __init__(self, recordings: Sequence[Samples]) -> None:
        self.recordings = [samples for samples in recordings if samples.any()]
        self._edges = np.cumsum([float(len(samples)) for samples in self.recordings])

    @classmethod
    def from_manifest(
        cls, manifest: CorpusManifest, split: Split, kinds: Iterable[Kind] = ("noise", "music")
    ) -> NoisePool:
        """The recordings of `kinds` in one split; errors as in `CorpusManifest.read`."""
        return cls([manifest.read(entry) for entry in manifest.select(split=split, kind=kinds)])

    def __len__(self) -> int:
        return len(self.recordings)

    def draw(self, length: int, rng: np.random.Generator) -> Audio:
        """A stretch of `length` samples, full scale 1.0; a shorter recording is repeated. The pool is not empty."""
        position = rng.random() * self._edges[-1]
        samples = self.recordings[int(np.searchsorted(self._edges, position, side="right"))]
        return stretch(samples, length, rng)


def stretch(samples: npt.NDArray[Any], length: int, rng: np.random.Generator) -> Audio:
    """A random stretch of `length` samples, int16 as full scale 1.0; what is too short is repeated."""
    start = int(rng.integers(len(samples) if len(samples) < length else len(samples) - length + 1))
    chosen = samples[start : start + length]
    if len(samples) < length:
        chosen = np.take(samples, np.arange(start, start + length), mode="wrap")
    return to_float(chosen) if chosen.dtype == np.int16 else chosen.astype(np.float32)
