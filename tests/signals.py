"""Every class of signal on which two implementations of the frontend must give the same bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]

RATE = 16_000
STEP = 160


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def clip(x: NDArray[np.floating]) -> Samples:
    return np.clip(np.rint(x), -32768, 32767).astype(np.int16)


def square_wave(period: int) -> Samples:
    return np.where(np.arange(2 * RATE) // (period // 2) % 2 == 0, 32767, -32768).astype(np.int16)


def sweep() -> Samples:
    frequency = np.geomspace(20, 8_000, 4 * RATE)
    return clip(32767 * np.sin(2 * np.pi * np.cumsum(frequency) / RATE))


def impulses(height: int) -> Samples:
    x = np.zeros(4 * RATE, np.int16)
    x[random(1).integers(0, len(x), 40)] = height
    return x


def minimum_runs() -> Samples:
    """Runs of INT16_MIN of all lengths, in silence and in full-scale noise."""
    x = np.concatenate([np.zeros(2 * RATE, np.int16), random(2).integers(-32768, 32768, 2 * RATE, np.int16)])
    for start in range(0, len(x) - 600, 700):
        x[start : start + 1 + start // 110] = -32768
    return x


def levels() -> Samples:
    """Noise whose level jumps from frame to frame over the whole range of int16."""
    level = np.exp(random(3).uniform(0, np.log(32768), 800)).repeat(STEP)
    return clip(random(4).normal(0, level))


def speech_like() -> Samples:
    """Voiced harmonics under moving formants, syllables at 4 Hz, with fricative noise in the gaps."""
    t = np.arange(6 * RATE) / RATE
    pitch = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * t)) / RATE
    first, second = 500 + 250 * np.sin(2 * np.pi * 1.3 * t), 1_600 + 500 * np.sin(2 * np.pi * 0.9 * t)
    voice = np.zeros_like(t)
    for harmonic in range(1, 30):
        frequency = 120 * harmonic
        gain = np.exp(-(((frequency - first) / 150) ** 2)) + 0.5 * np.exp(-(((frequency - second) / 250) ** 2))
        voice += gain * np.sin(harmonic * pitch)
    syllable = np.clip(np.sin(2 * np.pi * 4 * t), 0, None)
    return clip(6_000 * syllable * voice + 700 * (1 - syllable) * random(5).normal(size=len(t)))


SIGNALS: dict[str, Callable[[], Samples]] = {
    "silence": lambda: np.zeros(2 * RATE, np.int16),
    "direct_current": lambda: np.full(2 * RATE, 12_345, np.int16),
    "least_significant_bit": lambda: random(6).integers(-1, 2, 2 * RATE, np.int16),
    "square_wave_full_scale": lambda: square_wave(40),
    "square_wave_nyquist": lambda: square_wave(2),
    "square_wave_slow": lambda: square_wave(3_200),
    "noise_full_scale": lambda: random(7).integers(-32768, 32768, 4 * RATE, np.int16),
    "noise_extremes_only": lambda: random(8).choice(np.array([-32768, 32767], np.int16), 2 * RATE),
    "sweep_full_scale": sweep,
    "impulses": lambda: impulses(32767),
    "impulses_minimum": lambda: impulses(-32768),
    "minimum_only": lambda: np.full(2 * RATE, -32768, np.int16),
    "minimum_runs": minimum_runs,
    "level_jumps": levels,
    "speech_like": speech_like,
    "loud_then_silence": lambda: np.concatenate([sweep()[-RATE:], np.zeros(3 * RATE, np.int16)]),
}
