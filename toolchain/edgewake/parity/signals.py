"""Seeded test signals of the classes that a microphone, or a fault of one, can produce."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int16]

RATE = 16000
FULL_SCALE = 32767


def signals(seed: int = 0, seconds: float = 1.0) -> dict[str, Samples]:
    """Named int16 signals at 16 kHz, each of `seconds`; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    count = int(seconds * RATE)
    time = np.arange(count) / RATE
    noise = rng.standard_normal(count)
    syllables = np.clip(np.sin(2 * np.pi * 4 * time + rng.uniform(0, 6)), 0, 1)
    formants = sum(np.sin(2 * np.pi * f * time) for f in rng.uniform(200, 3500, 4))
    clicks = np.zeros(count)
    clicks[rng.integers(0, count, 12)] = rng.choice([-1, 1], 12)
    shapes = {
        "silence": np.zeros(count),
        "constant": np.full(count, 0.2),
        "hiss": noise * 1e-4,
        "noise": noise * 0.1,
        "clipped noise": noise,
        "square": np.sign(np.sin(2 * np.pi * 440 * time)),
        "sweep": 0.5 * np.sin(2 * np.pi * (50 * time + 3900 * time**2 / seconds)),
        "clicks": clicks,
        "speech-like": syllables * (0.15 * formants + 0.02 * noise),
        "onset": np.where(time > seconds / 2, noise * 0.3, 0),
    }
    scaled = {name: np.clip(np.rint(shape * FULL_SCALE), -32768, 32767) for name, shape in shapes.items()}
    return {name: values.astype(np.int16) for name, values in scaled.items()}


def chunks(samples: Samples, seed: int, largest: int = 2000) -> Iterator[Samples]:
    """The signal cut at random, one sample to `largest` at a time."""
    rng = np.random.default_rng(seed)
    start = 0
    while start < len(samples):
        size = int(rng.integers(1, largest + 1)) if rng.random() < 0.9 else 1
        yield samples[start : start + size]
        start += size
