"""Simulated rooms: impulse responses of shoeboxes with a talker near or far, made once and kept in the cache."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np

from edgewake.cache import Cache
from edgewake.console import track
from edgewake.data.mixing import Audio
from edgewake.data.reading import SAMPLE_RATE

RESPONSES = "responses.npy"
# What is later, and 45 dB down, is cut when a response is used.
SECONDS = 1.0
FLOOR, CEILING = np.array([2.2, 2.0, 2.2]), np.array([9.0, 7.0, 3.6])
WALL = 0.25
# A talker on the phone, and one across the room.
NEAREST = 0.15
RAYS, IMAGE_ORDER = 2000, 6


def simulated_rooms(count: int, rt60_s: tuple[float, float], cache: Cache) -> Path:
    """File of responses, float32 (count, samples) at 16 kHz, each from its onset; room i is one in any larger count."""
    about = {"count": count, "rt60_s": rt60_s}
    return cache.get("rooms", about, partial(_make, count, rt60_s), code=[__name__]).folder / RESPONSES


def _make(count: int, rt60_s: tuple[float, float], folder: Path) -> None:
    responses = [simulate(number, rt60_s) for number in track(range(count), "simulating rooms")]
    np.save(folder / RESPONSES, np.stack(responses))


def simulate(number: int, rt60_s: tuple[float, float]) -> Audio:
    """Response of a random room: image sources to order 6, then rays (Scheibler et al., arXiv:1710.04196)."""
    import pyroomacoustics

    rng = np.random.default_rng([0x600, number])
    pyroomacoustics.random.seed(number)
    while True:
        size, rt60 = rng.uniform(FLOOR, CEILING), rng.uniform(*rt60_s)
        try:
            absorption, _ = pyroomacoustics.inverse_sabine(rt60, size)
            break
        except ValueError:
            pass  # too large a room for so short a reverberation
    room = pyroomacoustics.ShoeBox(
        size,
        fs=SAMPLE_RATE,
        materials=pyroomacoustics.Material(absorption),
        max_order=IMAGE_ORDER,
        ray_tracing=True,
        air_absorption=True,
    )
    room.set_ray_tracing(n_rays=RAYS)
    microphone, talker = rng.uniform(WALL, size - WALL), rng.uniform(WALL, size - WALL)
    # Distances even in the logarithm, along the line between the two.
    span = float(np.linalg.norm(talker - microphone))
    nearer = math.exp(rng.uniform(math.log(min(NEAREST, span)), math.log(span))) / span
    room.add_source(microphone + (talker - microphone) * nearer)
    room.add_microphone(microphone)
    room.compute_rir()
    response = np.asarray(room.rir[0][0], np.float32)
    # The filters of fractional delays ring before the direct path.
    response = response[int(np.argmax(np.abs(response) > 0.5 * np.abs(response).max())) :]
    length = int(SECONDS * SAMPLE_RATE)
    return np.pad(response, (0, max(0, length - len(response))))[:length]
