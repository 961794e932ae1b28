"""A recording's probability track with what is known of it; copies of one recording weigh as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewake.runtime.events import find_events

WIDE_BAND_FAMILIES = (
    "commands",
    "custom_phrases",
    "prompts",
    "game_voices",
    "strategy_voices",
    "picovoice_wake_words",
)


@dataclass(frozen=True)
class Track:
    """What a model made of one recording, from reset to its end.

    Attributes:
        path: names the recording.
        kind: positive, negative (speech), noise or music.
        probabilities: (steps,) float32, smoothed.
        seconds: duration of the audio, which is what false accepts are counted over.
        family: source of the recording.
        language: spoken language, or "".
        suspect: the corpus doubts that the recording holds the phrase.
        duplicate_group: name shared by copies of one recording, or "".
    """

    path: str
    kind: str
    probabilities: npt.NDArray[np.float32]
    seconds: float
    family: str = ""
    language: str = ""
    suspect: bool = False
    duplicate_group: str = ""

    @property
    def peak(self) -> float:
        """The highest probability; -1 when the recording is too short for a step."""
        return float(self.probabilities.max()) if len(self.probabilities) else -1.0


def weights(tracks: Sequence[Track]) -> npt.NDArray[np.float64]:
    """(tracks,) weights: a group of n copies weighs 1 in all, so each copy 1/n."""
    sizes = Counter(track.duplicate_group for track in tracks if track.duplicate_group)
    return np.array([1 / sizes.get(track.duplicate_group, 1) for track in tracks], np.float64)


def found(tracks: Sequence[Track], cutoff: float) -> npt.NDArray[np.bool_]:
    """(tracks,) whether a recording raises at least one event."""
    return np.array([np.float32(track.peak) >= np.float32(cutoff) for track in tracks], np.bool_)


def count_events(tracks: Sequence[Track], cutoff: float, refractory_steps: int) -> int:
    """Events of all recordings together, each from its own reset."""
    return sum(len(find_events(track.probabilities, cutoff, refractory_steps)) for track in tracks)


def hours(tracks: Sequence[Track]) -> float:
    """Hours of audio."""
    return sum(track.seconds for track in tracks) / 3600


def is_wide_band(track: Track) -> bool:
    """Speech whose source reaches 8 kHz, which bandwidth alone does not tell from the positives."""
    return track.kind == "negative" and track.family.startswith(WIDE_BAND_FAMILIES)


def total_weight(tracks: Sequence[Track]) -> float:
    """Distinct recordings: copies of one count once."""
    return float(weights(tracks).sum()) if tracks else 0.0
