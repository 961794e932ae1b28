"""Recordings of a phrase: each is checked, trimmed and saved where `edgewake make` takes recordings of people from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgewake.data.importing import AUDIO_SUFFIXES
from edgewake.data.microphone import level_dbfs
from edgewake.data.mixing import FRAME, active_region, frame_powers
from edgewake.data.reading import SAMPLE_RATE, Samples, write_audio
from edgewake.errors import AudioError

# Speech ends more softly than it begins; what lies within 30 dB of its loudest part is kept, with a margin.
SPEECH_BELOW_DB = 30.0
MARGIN_S = 0.2
# The loudest 20 ms over the room's own noise, which the quietest tenth of the recording shows.
LEAST_OVER_NOISE_DB = 12.0
LEAST_DBFS = -60.0
SHORTEST_S = 0.15
CLIPPED_SAMPLES = 16


def speaker_folder(recordings: Path, speaker: str) -> Path:
    """The folder of a speaker; an AudioError where the name cannot be that of a folder."""
    if (
        not speaker.strip()
        or speaker != speaker.strip()
        or speaker.startswith(".")
        or set(speaker) & set('/\\:*?"<>|\0')
    ):
        raise AudioError(f"speaker {speaker!r} cannot name a folder: give letters and digits, such as anna")
    return recordings / speaker


def trimmed(samples: Samples) -> tuple[Samples, str]:
    """The speech of a take, (n,) int16 at 16 kHz, with 0.2 s around it, and why it is no use, or ""."""
    powers = frame_powers(samples)
    if not len(powers):
        return samples, "nothing was recorded"
    decibels = 10 * np.log10(powers / 2.0**30 + 1e-12)
    loudest, noise = float(decibels.max()), float(np.percentile(decibels, 10))
    if loudest < LEAST_DBFS:
        return samples, f"its loudest part has {loudest:.0f} dBFS: speak up, or raise the microphone's level"
    if loudest < noise + LEAST_OVER_NOISE_DB:
        return samples, f"its loudest part is {loudest - noise:.0f} dB over the noise: come nearer, or wait for quiet"
    if np.count_nonzero(np.abs(samples.astype(np.int32)) >= 32767) >= CLIPPED_SAMPLES:
        return samples, "it is clipped: lower the microphone's level, or step back"
    start, end = active_region(samples, below_db=min(SPEECH_BELOW_DB, loudest - noise - 6))
    if end - start < SHORTEST_S * SAMPLE_RATE:
        return samples, f"its sound lasts {(end - start) / SAMPLE_RATE:.2f} s: that was a click, or too short"
    if start < FRAME or end > len(samples) - FRAME:
        return samples, "it is cut off: speak after the countdown and at once, or set more --seconds"
    margin = round(MARGIN_S * SAMPLE_RATE)
    return samples[max(0, start - margin) : end + margin], ""


def save_take(folder: Path, samples: Samples) -> Path:
    """Write a take to the folder of its speaker, under the first number that is free above those in use."""
    used = [path.stem for path in folder.glob("*") if path.suffix.lower() in AUDIO_SUFFIXES]
    number = max((int(name) for name in used if name.isdecimal()), default=0) + 1
    path = folder / f"{number:03}.wav"
    write_audio(path, samples)
    return path


def describe(path: Path, samples: Samples) -> dict[str, Any]:
    """What is told of a take that was saved."""
    seconds, level = round(len(samples) / SAMPLE_RATE, 2), round(level_dbfs(samples), 1)
    return {"file": str(path), "seconds": seconds, "dbfs": level}
