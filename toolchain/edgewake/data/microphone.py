"""Microphone audio as `read_audio` gives files: int16 mono at 16 kHz, in blocks, and what was lost is counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import soxr

from edgewake.data.reading import SAMPLE_RATE, Samples, stderr_dropped, to_float, to_int16
from edgewake.errors import AudioError

BLOCK_S = 0.03
# The sound system keeps so much while the program is busy with something else.
LATENCY_S = 0.5
LOWEST_DBFS = -96.0


def level_dbfs(samples: Samples) -> float:
    """Root mean square of (n,) int16 in dB of full scale, from -96 (silence, or no samples) to 0."""
    mean = float(np.mean(np.square(to_float(samples)))) if len(samples) else 0.0
    return max(LOWEST_DBFS, 10 * float(np.log10(mean + 1e-12)))


def microphones() -> list[str]:
    """Names of the input devices, each after the number that names it too; the default one is marked."""
    sound = _sounddevice()
    found = [each for each in sound.query_devices() if each["max_input_channels"] > 0]
    default = sound.query_devices(kind="input")["index"] if found else None
    return [f"{one['index']}: {one['name']}" + (" (default)" if one["index"] == default else "") for one in found]


class Microphone:
    """Iterates over blocks of audio from now on, (n,) int16 at 16 kHz, for ever; use it as a context manager.

    What the device gives is converted where it has no 16 kHz mono: channels are averaged, then resampled by soxr.

    Args:
        device: number or part of the name of an input device, by default the system's.

    Attributes:
        overflows: how many times the device had to drop audio, since it was not fetched in time.

    Raises:
        AudioError: there is no such device, or it cannot be opened or read.
    """

    def __init__(self, device: str | None = None) -> None:
        self._sound, self.overflows = _sounddevice(), 0
        with _devices_named(self._sound):
            about = self._sound.query_devices(int(device) if device and device.isdecimal() else device, "input")
            self._stream, self._rate = self._open(about)

    def _open(self, about: Any) -> tuple[Any, int]:
        own, most = round(about["default_samplerate"]), about["max_input_channels"]
        # Sound servers convert; a bare device may have its own rate and channel count alone.
        for rate, channels in ((SAMPLE_RATE, 1), (own, 1), (own, most)):
            options = {"device": about["index"], "samplerate": rate, "channels": channels, "dtype": "int16"}
            try:
                with stderr_dropped():
                    stream = self._sound.InputStream(**options, blocksize=round(rate * BLOCK_S), latency=LATENCY_S)
                return stream, rate
            except self._sound.PortAudioError as error:
                failure = error
        raise failure

    def __enter__(self) -> Microphone:
        with _devices_named(self._sound):
            self._stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        # What is read is complete; a device that was pulled out cannot be closed in order.
        with suppress(self._sound.PortAudioError):
            self._stream.close()

    def __iter__(self) -> Iterator[Samples]:
        resampler = None if self._rate == SAMPLE_RATE else soxr.ResampleStream(self._rate, SAMPLE_RATE, 1, "float32")
        while True:
            with _devices_named(self._sound):
                block, overflowed = self._stream.read(self._stream.blocksize)
            self.overflows += bool(overflowed)
            if block.shape[1] == 1 and resampler is None:
                yield block[:, 0]
                continue
            mono = to_float(block).mean(axis=1)
            yield to_int16(mono if resampler is None else resampler.resample_chunk(mono))


def _sounddevice() -> Any:
    """The module; importing it starts PortAudio."""
    try:
        # PortAudio and ALSA complain there of each device that they do not find.
        with stderr_dropped():
            import sounddevice
    except OSError as error:
        remedy = "on Debian: apt-get install libportaudio2"
        raise AudioError(f"sounddevice finds no PortAudio library ({error}); install it, {remedy}") from error
    return sounddevice


@contextmanager
def _devices_named(sound: Any) -> Iterator[None]:
    """Failures of a device become an AudioError that lists the input devices."""
    try:
        yield
    except (sound.PortAudioError, ValueError) as error:
        found = "; ".join(microphones())
        remedy = f"name another with --device: {found}" if found else "connect a microphone; a container needs /dev/snd"
        raise AudioError(f"microphone: {error.args[0]}; {remedy}") from error
