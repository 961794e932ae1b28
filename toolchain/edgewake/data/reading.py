"""Any audio file becomes int16 mono at 16 kHz, or one error that names the file and its fault."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from edgewake.data.shards import open_member
from edgewake.errors import AudioError
from edgewake.io import atomic_path

SAMPLE_RATE = 16_000
DEFAULT_MAX_SECONDS = 3600.0
Samples = npt.NDArray[np.int16]
Fault = Literal["missing", "corrupt", "empty", "silent", "too long", "wrong length"]

_BLOCK_FRAMES = 1 << 18
# Encoders pad to whole MPEG frames, and a header's length may count that padding.
_MP3_SLACK_FRAMES = 2 * 1152
# A writer that could not seek back leaves a size near 2^31 or 2^32: the data ends where the file does.
_UNKNOWN_SIZE = 0x7FFF_0000
_SHORT_CHUNK = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)


class MissingAudioError(AudioError):
    """The file does not exist or cannot be opened."""

    fault: ClassVar[Fault] = "missing"


class CorruptAudioError(AudioError):
    """The file is not audio, is cut off, or holds values that are not numbers."""

    fault: ClassVar[Fault] = "corrupt"


class EmptyAudioError(AudioError):
    """The file is well formed and holds no sample."""

    fault: ClassVar[Fault] = "empty"


class SilentAudioError(AudioError):
    """Every sample is 0."""

    fault: ClassVar[Fault] = "silent"


class TooLongAudioError(AudioError):
    """The file is longer than the limit."""

    fault: ClassVar[Fault] = "too long"


AudioFault = MissingAudioError | CorruptAudioError | EmptyAudioError | SilentAudioError | TooLongAudioError
AUDIO_FAULTS = (MissingAudioError, CorruptAudioError, EmptyAudioError, SilentAudioError, TooLongAudioError)


def read_audio(
    path: Path | str,
    *,
    data: io.BytesIO | None = None,
    max_seconds: float | None = DEFAULT_MAX_SECONDS,
    allow_silent: bool = True,
) -> Samples:
    """Read any file that libsndfile knows, at any rate and channel count.

    Channels are averaged, then resampled by soxr (HQ, linear phase, no added delay). A sample is
    `round(32768 * x)` limited to [-32768, 32767], so 16-bit mono files at 16 kHz come back bit for bit, and
    floats that pass 1.0 (lossy codecs do) are clipped instead of wrapping round.

    Args:
        path: WAV, FLAC, Ogg Vorbis or Opus, MP3, AIFF, ...; or `SHARD.tar::MEMBER`.
        data: the file's bytes, where they have been read already; `path` names them then.
        max_seconds: limit on the duration, None for none.
        allow_silent: when False, a file of zeros only is an error.

    Returns:
        int16, (samples,), 16 kHz; at least one sample.

    Raises:
        AudioError: one of `AUDIO_FAULTS`, each with its own `fault`.
    """
    path = Path(path)
    with _opened(path, data) as file:
        samples = _decode(path, file, max_seconds)
    if not allow_silent:
        check_not_silent(samples, path)
    return samples


def read_duration(path: Path | str) -> float:
    """Seconds that the file's header promises, above 0, without decoding it; errors as in `read_audio`."""
    path = Path(path)
    with _opened(path) as file:
        if file.frames <= 0:
            raise EmptyAudioError(f"{path}: holds no samples; record or export it again")
        return float(file.frames / file.samplerate)


def check_not_silent(samples: Samples, path: Path | str) -> None:
    """Raise `SilentAudioError` when no sample differs from 0."""
    if not samples.any():
        raise SilentAudioError(f"{path}: all {len(samples)} samples are 0; check the microphone or the export")


def write_audio(path: Path | str, samples: Samples, rate: int = SAMPLE_RATE) -> None:
    """Write int16 (samples,) or (samples, channels), atomically; the suffix names the format.

    Raises:
        AudioError: `samples` is not int16.
    """
    if samples.dtype != np.int16:
        raise AudioError(f"{path}: samples are {samples.dtype}, but must be int16; convert with `to_int16`")
    with atomic_path(Path(path)) as temporary:
        sf.write(temporary, samples, rate)


def to_int16(audio: npt.NDArray[np.floating]) -> Samples:
    """Floats with full scale 1.0 to int16, rounded to nearest even and clipped; the inverse of `to_float`."""
    scaled = np.rint(np.asarray(audio, np.float32) * np.float32(32768))
    return np.asarray(np.clip(scaled, -32768, 32767), np.int16)


def to_float(samples: Samples) -> npt.NDArray[np.float32]:
    """int16 to float32 with full scale 1.0: `samples / 32768`, exact."""
    return np.asarray(samples, np.float32) * np.float32(1 / 32768)


@contextmanager
def _opened(path: Path, data: io.BytesIO | None = None) -> Iterator[sf.SoundFile]:
    data = _member(path) if data is None else data
    if data is None and path.is_dir():
        raise MissingAudioError(f"{path}: a folder, not an audio file; name the files in it")
    if data is None and not path.is_file():
        raise MissingAudioError(f"{path}: no such file; check the path")
    if (path.stat().st_size if data is None else data.getbuffer().nbytes) == 0:
        raise EmptyAudioError(f"{path}: the file has 0 bytes; record or export it again")
    if path.suffix.lower() == ".raw":
        # soundfile takes the suffix's word for it and then asks for a rate that the file does not hold.
        raise CorruptAudioError(f"{path}: raw samples say neither rate nor format; wrap them as WAV")
    try:
        with sf.SoundFile(path if data is None else data) as file:
            yield file
    except sf.LibsndfileError as error:
        reason = str(error.error_string).strip().rstrip(".")
        raise CorruptAudioError(
            f"{path}: not readable as audio ({reason}); export it again as WAV, FLAC, Ogg or MP3"
        ) from error
    except OSError as error:
        raise MissingAudioError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error


def _member(path: Path) -> io.BytesIO | None:
    """What a path into a shard names; None for a file of its own."""
    try:
        return open_member(path)
    except (EOFError, tarfile.TarError) as error:
        raise CorruptAudioError(f"{path}: the shard is damaged ({error}); pack the corpus again") from error
    except OSError as error:
        raise MissingAudioError(
            f"{path}: cannot be read ({error.strerror or error}); check the path, or pack the corpus again"
        ) from error


def _decode(path: Path, file: sf.SoundFile, max_seconds: float | None) -> Samples:
    rate, promised = file.samplerate, file.frames
    _check_chunk(path, file)
    limit = None if max_seconds is None else int(max_seconds * rate)
    if limit is not None and promised > limit and promised < 1 << 48:
        raise _too_long(path, promised / rate, max_seconds)
    resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, np.float32, "HQ")
    parts: list[Samples] = []
    frames = 0
    # In blocks, so that an hour of 48 kHz stereo does not need gigabytes of floats.
    while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        frames += len(block)
        if limit is not None and frames > limit:
            raise _too_long(path, frames / rate, max_seconds)
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise CorruptAudioError(f"{path}: holds values that are not numbers (NaN or infinity); export it again")
        parts.append(to_int16(mono if resampler is None else resampler.resample_chunk(mono)))
    if frames == 0:
        raise EmptyAudioError(f"{path}: holds no samples; record or export it again")
    slack = _MP3_SLACK_FRAMES if file.format == "MP3" else 0
    if frames + slack < promised < 1 << 48:
        raise CorruptAudioError(
            f"{path}: cut off after {frames / rate:.2f} s of {promised / rate:.2f} s; copy or export it again"
        )
    if resampler is not None:
        parts.append(to_int16(resampler.resample_chunk(np.zeros(0, np.float32), last=True)))
    samples = np.concatenate(parts)
    if len(samples) == 0:
        raise EmptyAudioError(f"{path}: holds {frames} samples at {rate} Hz, less than one at 16 kHz")
    return samples


def _check_chunk(path: Path, file: sf.SoundFile) -> None:
    """WAV only: libsndfile shortens a cut-off data chunk and says so nowhere but in its log."""
    found = _SHORT_CHUNK.search(file.extra_info) if file.format in ("WAV", "WAVEX") else None
    if found and int(found[2]) < int(found[1]) < _UNKNOWN_SIZE:
        raise CorruptAudioError(
            f"{path}: cut off, has {int(found[2]):,} of {int(found[1]):,} bytes of audio; copy or export it again"
        )


def _too_long(path: Path, seconds: float, limit: float | None) -> TooLongAudioError:
    return TooLongAudioError(
        f"{path}: {seconds:,.1f} s or more is over the limit of {limit:,.1f} s; cut it up, or raise the limit"
    )
