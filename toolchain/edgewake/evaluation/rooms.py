"""Recall by distance: a phrase as from near and from far in a room; which rooms, its recording and the seed decide."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np

from edgewake.data.manifest import CorpusManifest, Entry, Split
from edgewake.data.mixing import Audio
from edgewake.data.reading import SAMPLE_RATE, to_float
from edgewake.data.rooms import simulate

# Conditions, and their direct-to-reverberant ratios, dB: about the medians of simulated rooms at 0.5 m and at 3 m.
ROOMS = {"near_room": 3.0, "far_room": -9.0}
# Fewer measured ones than this are joined by simulated ones, whose numbers are beyond those of training.
LEAST_ROOMS, FIRST_NUMBER = 16, 1_000_000
RT60_S = (0.2, 0.8)
DIRECT, LONGEST = SAMPLE_RATE // 400, SAMPLE_RATE


def rooms_of(corpus: CorpusManifest, split: Split) -> tuple[tuple[Entry, ...], int]:
    """Measured rooms of a split, and how many simulated ones join them: none without pyroomacoustics."""
    measured = corpus.select(split=split, kind="rir")
    return measured, max(0, LEAST_ROOMS - len(measured)) if find_spec("pyroomacoustics") else 0


def responses_of(corpus: CorpusManifest, split: Split) -> list[Audio]:
    """Responses of `rooms_of`, from the direct path on, of at most 1 s: float32, (samples,)."""
    measured, simulated = rooms_of(corpus, split)
    responses = [to_float(corpus.read(entry)) for entry in measured]
    responses += [simulate(FIRST_NUMBER + number, RT60_S) for number in range(simulated)]
    return [_from_onset(response) for response in responses]


def _from_onset(response: Audio) -> Audio:
    loud = np.abs(response)
    return response[int(np.argmax(loud > 0.5 * loud.max())) :][:LONGEST]


def in_room(audio: Audio, response: Audio, condition: str) -> Audio:
    """Audio, (samples,), at a condition's distance in the room of a response, without what rings after its end.

    The direct path is scaled to the condition's ratio, the reverberation stays: far is softer, as for a board that
    stands still. Near has the energy of the dry audio.
    """
    early, late = response[:DIRECT].astype(np.float64), response[DIRECT:].astype(np.float64)
    direct, tail = (float(np.square(part).sum()) for part in (early, late))
    if tail == 0:
        return audio
    near, here = (10 ** (decibel / 10) for decibel in (ROOMS["near_room"], ROOMS[condition]))
    scaled = np.concatenate([early * np.sqrt(here * tail / direct), late]) / np.sqrt(tail * (1 + near))
    length = 1 << (len(audio) + len(scaled) - 1).bit_length()
    mixed = np.fft.irfft(np.fft.rfft(audio.astype(np.float64), length) * np.fft.rfft(scaled, length), length)
    return np.asarray(mixed[: len(audio)], np.float32)


def rooms_text(rooms: Mapping[str, int]) -> str:
    """What the conditions are, for reports; `rooms` counts those that are measured and simulated."""
    near, far = ROOMS.values()
    number = f"{rooms['measured']} measured and {rooms['simulated']} simulated rooms"
    ratios = f"direct sound {near:g} and {far:g} dB over the reverberation"
    return f"Near and far room: as from 0.5 m and from 3 m in {number} ({ratios}), without noise."
