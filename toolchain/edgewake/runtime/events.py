"""From the model's logits to events: those that the C pipeline raises, at the same steps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.errors import EdgewakeError
from edgewake.runtime.deployed import Quantization

Array = npt.NDArray[Any]

# A step's probability is a uint16 in units of 1/PROBABILITY_ONE (EW_PROBABILITY_ONE of ew_pipeline.h).
PROBABILITY_ONE = 1 << 16
HIGHEST_PROBABILITY = PROBABILITY_ONE - 1


@lru_cache(maxsize=64)
def probability_table(output: Quantization) -> npt.NDArray[np.uint16]:
    """Probability of each int8 logit of a quantization, in units of 1/65536: (256,), indexed by logit + 128.

    round(65536 / (1 + exp(-scale * (q - zero_point)))) in float64, at most 65535; it never falls. Read-only.
    """
    logit = (np.arange(-128, 128) - output.zero_point) * float(output.scale)
    with np.errstate(over="ignore"):
        exact = PROBABILITY_ONE / (1 + np.exp(-logit))
    table: npt.NDArray[np.uint16] = np.minimum(np.rint(exact), HIGHEST_PROBABILITY).astype(np.uint16)
    table.flags.writeable = False
    return table


def refractory_steps(seconds: float, step_s: float) -> int:
    """Inference steps of a refractory time in seconds: rounded up, at least 1. The one place where it is rounded."""
    if not (math.isfinite(seconds) and seconds >= 0):
        raise EdgewakeError(f"refractory_s = {seconds}: it must be finite and at least 0; 1.0 is usual")
    # Both are decimal fractions: 0.27 / 0.03 is 9.000000000000002 in float64 and means 9.
    return max(1, math.ceil(seconds / step_s - 1e-6))


def smooth(logits: npt.NDArray[np.int8], output: Quantization, window: int) -> npt.NDArray[np.int64]:
    """Sum of the last `window` probabilities, see `probability_table`, with zeros before the start.

    (steps,) int8 logits from reset -> (steps,) int64 in 0..65535 * window.
    """
    values = probability_table(output)[np.asarray(logits, np.int64) + 128]
    total = np.cumsum(np.concatenate([np.zeros(window, np.int64), values.astype(np.int64)]))
    sums: npt.NDArray[np.int64] = total[window:] - total[:-window]
    return sums


def as_probability(sums: npt.ArrayLike, window: int) -> npt.NDArray[np.float32]:
    """Smoothed probability of sums over `window` steps, any shape, rounded to float32, which tells all sums apart.

    (Sums are below 2^22, and so differ by more than 2^-22 of themselves; float32 has 24 bits.)
    """
    return (np.asarray(sums, np.float64) / (PROBABILITY_ONE * window)).astype(np.float32)


def probabilities(logits: npt.NDArray[np.int8], output: Quantization, window: int) -> npt.NDArray[np.float32]:
    """Smoothed probability of every step, (steps,) float32, as the detector compares it with the cutoff."""
    return as_probability(smooth(logits, output, window), window)


def find_events(track: Array, cutoff: float, refractory_steps: int) -> npt.NDArray[np.int64]:
    """Steps at which events start.

    An event is a step at or above the cutoff whose distance to the last event is at least `refractory_steps`.
    The comparison is made in the track's type, where a float32 cutoff keeps the order of the integer sums. Every step
    may be an event where `refractory_steps` is 0 or 1.

    (steps,) probabilities, or integer sums with an integer cutoff -> (events,) int64, increasing.
    """
    track = np.asarray(track)
    if track.ndim != 1:
        raise EdgewakeError(f"a track has one dimension, not {track.ndim}: pass one recording at a time")
    above = np.flatnonzero(track >= track.dtype.type(cutoff))
    if refractory_steps <= 1:
        return above.astype(np.int64)
    found = []
    position = 0
    while position < len(above):
        found.append(above[position])
        position = int(np.searchsorted(above, above[position] + refractory_steps))
    return np.asarray(found, np.int64)


def smooth_probabilities(probability: npt.NDArray[np.floating], window: int) -> npt.NDArray[np.float32]:
    """What `smooth` does, for probabilities that were never quantized: the mean of the last `window`, (steps,)."""
    total = np.cumsum(np.concatenate([np.zeros(window), np.asarray(probability, np.float64)]))
    return np.asarray((total[window:] - total[:-window]) / window, np.float32)


class EventCounter:
    """How many events recordings raise together, each from its own reset, at any cutoff.

    `find_events` takes the first step that reaches the cutoff, then the first that does so a refractory time
    later, and so on: as many steps as can be that far apart. The count thus never falls as the cutoff
    falls, and bisection over the values that occur finds the exact cutoff for any count.

    Args:
        tracks: (steps,) smoothed probabilities of each recording.
        refractory_steps: see `find_events`.

    Attributes:
        levels: the different values above 0, rising; only there does the count change.
    """

    def __init__(self, tracks: Iterable[Array], refractory_steps: int) -> None:
        # Recordings one after another, so far apart that the refractory time of one ends before the next.
        gap = np.full(max(refractory_steps, 1), -1, np.float32)
        parts = [part for track in tracks for part in (np.asarray(track, np.float32), gap)]
        self._joined = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        self.levels = np.unique(self._joined[self._joined > 0])
        self._refractory_steps = refractory_steps

    def count(self, cutoff: float) -> int:
        """Events at a cutoff above 0."""
        return len(find_events(self._joined, cutoff, self._refractory_steps))

    def height(self, rank: int) -> float:
        """The highest cutoff that raises at least `rank` events, rank >= 1; 0 where none above 0 does."""
        low = high = len(self.levels)
        while low > 0:
            # Doubling strides from the top: most ranks are reached there, where few steps count.
            low = max(0, high - 2 * max(1, len(self.levels) - high))
            if self.count(self.levels[low]) >= rank:
                break
            high = low
        else:
            return 0.0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.count(self.levels[middle]) >= rank else (low, middle)
        return float(self.levels[low])

    def lowest_cutoff(self, allowed: float) -> float:
        """The lowest cutoff that raises at most `allowed` events: the float32 after the highest that raises more."""
        return float(np.nextafter(np.float32(self.height(math.floor(allowed) + 1)), np.float32(np.inf)))
