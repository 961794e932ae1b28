"""One detection of a measured split, with all that a picture of it shows, as the board's own pipeline computes it."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewake.data.reading import SAMPLE_RATE
from edgewake.evaluation.families import is_synthetic
from edgewake.evaluation.recordings import CLEAN, SplitRecordings
from edgewake.evaluation.tracks import Track
from edgewake.runtime.detector import Detector
from edgewake.runtime.frontend import features

# What is shown before and after the step that detects, s.
BEFORE_S, AFTER_S = 2.0, 0.5
COLUMN_S = 0.01


def example_detection(
    model: Path, recordings: SplitRecordings, tracks: Sequence[Track], cutoff: float
) -> dict[str, Any] | None:
    """A detection in a clean recording, or None where there is none.

    It is neither the best nor the worst: of the recordings that are detected (those of people, where there are any),
    that of the median peak. The detector runs over all of it, from reset.

    Args:
        tracks: of the clean recordings of `recordings`.

    Returns:
        JSON values. Times are in seconds from the start of what is shown, "begin_s" in the recording. "waveform" and
        "mel" hold base64: int8 pairs, the lowest and the highest sample of each 10 ms, the peak as 127; and uint8
        (frames, channels), features scaled to 0 to 255.
    """
    detected = [
        (track, job)
        for track, job in zip(tracks, recordings.jobs[CLEAN], strict=True)
        if track.peak >= np.float32(cutoff)
    ]
    real = [pair for pair in detected if not is_synthetic(pair[0].entry.family)]
    if not detected:
        return None
    ordered = sorted(real or detected, key=lambda pair: (pair[0].peak, pair[0].entry.path))
    track, job = ordered[len(ordered) // 2]
    detector, audio, entry = Detector(model, cutoff=cutoff), recordings.audio(job), track.entry
    steps = detector.steps(audio)
    found = next(step for step in steps if step.detected)
    begin = max(0.0, found.time_s - BEFORE_S)
    end = min(len(audio) / SAMPLE_RATE, found.time_s + AFTER_S)
    frontend = detector.manifest.frontend_config
    values = features(audio, frontend)
    ends = (frontend.window_samples + frontend.step_samples * np.arange(len(values))) / SAMPLE_RATE
    shown = (ends >= begin) & (ends <= end)
    inside = [step for step in steps if begin <= step.time_s <= end]
    phrase = (entry.phrase_start, entry.phrase_end)
    return {
        "of_detected": len(ordered),
        "family": entry.family,
        "speaker": entry.speaker or "",
        "file": PurePath(entry.path).name,
        "begin_s": begin,
        "seconds": end - begin,
        "phrase_s": None if None in phrase else [time - begin for time in phrase if time is not None],
        "time_s": found.time_s - begin,
        "probability": found.probability,
        "cutoff": detector.cutoff,
        "waveform": _waveform(audio[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)]),
        "mel": {
            "first_s": float(ends[shown][0]) - begin,
            "step_s": frontend.step_samples / SAMPLE_RATE,
            "channels": frontend.channels,
            "hz": [frontend.lower_hz, frontend.upper_hz],
            "values": _text(_scaled(values[shown])),
        },
        "steps": {
            "first_s": inside[0].time_s - begin,
            "step_s": detector.step_s,
            "probabilities": [round(step.probability, 6) for step in inside],
        },
    }


def _waveform(samples: npt.NDArray[np.int16]) -> dict[str, Any]:
    """The outline of (n,) samples, scaled to their peak."""
    size = round(COLUMN_S * SAMPLE_RATE)
    columns = samples[: len(samples) // size * size].reshape(-1, size).astype(np.int32)
    peak = max(1, int(np.abs(columns).max()))
    low_high = (np.stack([columns.min(1), columns.max(1)], 1) * 127 // peak).astype(np.int8)
    return {"column_s": COLUMN_S, "peak_dbfs": 20 * math.log10(peak / 32768), "low_high": _text(low_high)}


def _scaled(values: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    low, high = int(values.min()), int(values.max())
    return ((values.astype(np.int64) - low) * 255 // max(1, high - low)).astype(np.uint8)


def _text(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
