"""One clip from its settings: engine, changed speaker, whisper, cut around the phrase, level; int16 at 16 kHz."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from edgewake.synthesis.engines import speak
from edgewake.synthesis.speakers import Change, changed
from edgewake.synthesis.speech import SAMPLE_RATE, Speech, voiced_span

# What is left of silence at the ends, and how softly a cut through speech ends.
EDGE_S, FADE_S = 0.05, 0.01
SHORTEST_S = 0.15


@dataclass(frozen=True)
class Clip:
    """All that decides a clip's samples.

    Attributes:
        text: what is said, with what is before and after the phrase.
        phonemes: of all of it, in Kokoro's alphabet.
        phrase: first symbol of the phrase in `phonemes`, and the one after its last; (0, 0) where the engine reads
            text, which is then the phrase alone.
        voice: `engine:name`.
        around: seconds kept before and after the phrase, where there is other speech.
        level: of the loudest sample, in dB below full scale.
    """

    text: str
    phonemes: str
    phrase: tuple[int, int]
    voice: str
    speed: float = 1.0
    change: Change = field(default_factory=Change)
    around: tuple[float, float] = (0.0, 0.0)
    level: float = -6.0
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON values, `change` without what it leaves as it is."""
        return {**asdict(self), "change": self.change.to_json()}


@dataclass(frozen=True)
class Rendered:
    """Samples of a clip, and where the phrase begins and ends in it, in seconds."""

    samples: npt.NDArray[np.int16]
    start: float
    end: float


def render(clip: Clip) -> Rendered | None:
    """The clip; None where the engine gave no sound, or too little to be speech."""
    speech = speak(clip.text, clip.phonemes, clip.voice, clip.speed, clip.seed)
    speech = changed(speech, clip.change, clip.seed)
    first, last = 0.0, speech.seconds
    if speech.bounds is not None and clip.phrase[1]:
        first, last = (float(speech.bounds[symbol]) for symbol in clip.phrase)
        # The time of a word's last sound includes the pause after it, that of its first may miss its beginning.
        first = max(0.0, first - EDGE_S) if clip.phrase[0] else 0.0
        last = last if clip.phrase[1] < len(clip.phonemes) else speech.seconds
    span = voiced_span(speech, first, last)
    if span is None or span[1] - span[0] < SHORTEST_S:
        return None
    return _cut(speech, span, clip)


def _cut(speech: Speech, phrase: tuple[float, float], clip: Clip) -> Rendered:
    whole = voiced_span(speech) or phrase
    begin = max(0.0, min(phrase[0], max(whole[0], phrase[0] - clip.around[0])) - EDGE_S)
    end = min(speech.seconds, max(phrase[1], min(whole[1], phrase[1] + clip.around[1])) + EDGE_S)
    audio = speech.audio[round(begin * speech.rate) : round(end * speech.rate)].astype(np.float64)
    fade = np.linspace(0, 1, round(FADE_S * speech.rate))
    audio[: len(fade)] *= fade
    audio[len(audio) - len(fade) :] *= fade[::-1]
    audio = soxr.resample(audio, speech.rate, SAMPLE_RATE, quality="HQ")
    audio *= 10 ** (clip.level / 20) / max(float(np.abs(audio).max()), 1e-9)
    samples = np.clip(np.rint(audio * 32768), -32768, 32767).astype(np.int16)
    return Rendered(samples, round(phrase[0] - begin, 3), round(min(phrase[1], end) - begin, 3))
