"""What engines return, and what is done to any speech: its silence found, resampling to 16 kHz, level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]
Split = Literal["train", "val", "test"]
SAMPLE_RATE = 16_000
_FRAME_S = 0.01
# Of a clip's loudest 10 ms: below it there is silence, or the noise of a vocoder.
_SILENCE_DB = -42.0


@dataclass(frozen=True)
class Speech:
    """Mono audio of full scale 1.0, (samples,), and its rate.

    Attributes:
        bounds: (symbols + 1,) seconds: symbol i of the phonemes lasts from bounds[i] to bounds[i + 1]; None where the
            engine does not give it.
    """

    audio: Audio
    rate: int
    bounds: npt.NDArray[np.float64] | None = None

    @property
    def seconds(self) -> float:
        """The duration."""
        return len(self.audio) / self.rate


def voiced_span(speech: Speech, start: float = 0.0, end: float | None = None) -> tuple[float, float] | None:
    """Where sound begins and ends between two times, in seconds; None where all of it is silence."""
    frame = round(_FRAME_S * speech.rate)
    count = len(speech.audio) // frame
    if not count:
        return None
    power = np.square(speech.audio[: count * frame].reshape(count, frame), dtype=np.float64).mean(1)
    loud = power > max(power.max() * 10 ** (_SILENCE_DB / 10), 1e-9)
    first, last = round(start / _FRAME_S), count if end is None else round(end / _FRAME_S)
    found = np.flatnonzero(loud[first:last])
    if not len(found):
        return None
    return (first + int(found[0])) * _FRAME_S, (first + int(found[-1]) + 1) * _FRAME_S
