"""Speakers beyond the voices: pitch, formants, duration and whisper changed by Praat, the same for one change.

The method is Praat's "Change gender" (pitch-synchronous overlap-add after resampling), through praat-parselmouth.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgewake.synthesis.speech import Audio, Speech
from edgewake.synthesis.words import package

# Pitch is looked for between these, in Hz.
LOWEST, HIGHEST = 60.0, 700.0


@dataclass(frozen=True)
class Change:
    """Factors; formants 1.2 is a vocal tract a fifth shorter, as children have.

    Attributes:
        pitch: of the median.
        intonation: of the distance from the median.
        duration: of the time that everything takes.
        tilt: added to the spectrum, in dB for each octave above 500 Hz: a raised voice has more.
        whispered: the voice is replaced by noise with its spectrum.
    """

    pitch: float = 1.0
    formants: float = 1.0
    intonation: float = 1.0
    duration: float = 1.0
    tilt: float = 0.0
    whispered: bool = False

    def to_json(self) -> dict[str, Any]:
        """What differs from no change."""
        return {name: value for name, value in asdict(self).items() if value != getattr(Change(), name)}


def draw_change(rng: np.random.Generator, *, child_share: float = 0.25) -> Change:
    """Another speaker: an adult, or a child of 4 to 12 years in `child_share` of the draws.

    Children's vocal tracts are 10 to 35 % shorter than a woman's, their pitch is 20 to 70 % higher; the wide overlap
    stands for voices of men and women, which both are changed.
    """
    if rng.random() < child_share:
        formants = float(rng.uniform(1.12, 1.32))
        pitch = float(formants ** rng.uniform(1.2, 2.2))
    else:
        formants = float(np.exp(rng.normal(0, 0.07)).clip(0.84, 1.18))
        pitch = float((formants ** rng.uniform(0.5, 2.0) * np.exp(rng.normal(0, 0.12))).clip(0.7, 1.5))
    intonation = float(np.exp(rng.normal(0, 0.25)).clip(0.5, 1.7))
    duration = float(np.exp(rng.normal(0, 0.08)).clip(0.8, 1.25))
    return Change(round(pitch, 3), round(formants, 3), round(intonation, 3), round(duration, 3))


def changed(speech: Speech, change: Change, seed: int = 0) -> Speech:
    """The speech by another speaker; `bounds` follow its duration. `seed` is that of whispers and of unvoiced noise."""
    if change == Change():
        return speech
    parselmouth, praat = package("parselmouth"), package("parselmouth.praat")
    # Praat lays unvoiced sound anew from random pieces of it.
    praat.run(f"random_initializeWithSeedUnsafelyButPredictably ({seed + 1})")
    sound = parselmouth.Sound(speech.audio.astype(np.float64), float(speech.rate))
    factors = (change.pitch, change.formants, change.intonation, change.duration)
    if factors != (1.0, 1.0, 1.0, 1.0):
        pitch = sound.to_pitch(0.01, LOWEST, HIGHEST)
        median = praat.call(pitch, "Get quantile", 0.0, 0.0, 0.5, "Hertz")
        # Without any voiced frame there is no median; 0 leaves the pitch as it is.
        wanted = 0.0 if np.isnan(median) else min(median * change.pitch, HIGHEST)
        lowest = praat.call(pitch, "Get minimum", 0.0, 0.0, "Hertz", "none")
        intonation = usable_intonation(change.intonation, median, lowest)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", parselmouth.PraatWarning)  # that nothing is voiced
            sound = praat.call([sound, pitch], "Change gender", change.formants, wanted, intonation, change.duration)
    if change.whispered:
        sound = _whisper(sound, seed)
    audio = _tilted(sound.values[0], speech.rate, change.tilt)
    bounds = None if speech.bounds is None else speech.bounds * (len(audio) / len(speech.audio))
    return Speech(audio, speech.rate, bounds)


def usable_intonation(intonation: float, median: float, lowest: float) -> float:
    """The factor, or the largest that keeps the lowest pitch at a fifth of the median.

    Praat does not end, or fails, where a frame's pitch would be 0 or less. Without voiced frames both are NaN.
    """
    return min(intonation, 0.8 * median / (median - lowest)) if lowest < median else intonation


def _whisper(sound: Any, seed: int) -> Any:
    """Noise through the linear prediction filter of the sound, whose gain keeps the loudness of each frame."""
    parselmouth, praat = package("parselmouth"), package("parselmouth.praat")
    rate = sound.sampling_frequency
    filters = praat.call(sound, "To LPC (burg)", round(rate / 1000) + 2, 0.025, 0.005, 50.0)
    noise = np.random.default_rng(seed).standard_normal(sound.n_samples)
    return praat.call([filters, parselmouth.Sound(noise, rate)], "Filter", "yes")


def _tilted(audio: Any, rate: int, tilt: float) -> Audio:
    if tilt:
        spectrum = np.fft.rfft(audio)
        octaves = np.log2(np.maximum(np.fft.rfftfreq(len(audio), 1 / rate), 500.0) / 500.0)
        audio = np.fft.irfft(spectrum * 10 ** (tilt * octaves / 20), len(audio))
    return np.asarray(audio, np.float32)
