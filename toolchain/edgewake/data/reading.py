"""Any audio file becomes int16 mono at 16 kHz, or one error that names the file and its fault."""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import IO, Literal

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from edgewake.errors import AudioError
from edgewake.io import atomic_path, printable

SAMPLE_RATE = 16_000
DEFAULT_MAX_SECONDS = 3600.0
Samples = npt.NDArray[np.int16]
Fault = Literal["missing", "corrupt", "empty", "silent", "too long", "wrong length"]

# A day of 16 kHz takes 2.8 GB; where the caller sets no limit, this one protects the machine.
LONGEST_SECONDS = 86_400.0
LOWEST_RATE, HIGHEST_RATE = 4_000, 768_000
# Floats beyond this were scaled as integers, or are damaged; clipped, they would be noise.
LARGEST_LEVEL = 1000.0
_BLOCK_SAMPLES = 1 << 18
# Encoders pad to whole MPEG frames, and a header's length may count that padding.
_MP3_SLACK_FRAMES = 2 * 1152
# A writer that could not seek back leaves a size near 2^31 or 2^32: the data ends where the file does.
_UNKNOWN_SIZE = 0x7FFF_0000
_SHORT_CHUNK = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
# RFC 3533: header of 27 bytes, up to 255 segments of up to 255 bytes; flag 4 marks a stream's last page.
_OGG_HEADER, _OGG_LARGEST_PAGE, _OGG_LAST = 27, 27 + 255 + 255 * 255, 4
# A member of a shard: corpus/train-000000.tar::00000012.flac
SEPARATOR = ".tar::"
_STDERR = threading.RLock()


class RecordingError(AudioError):
    """A recording cannot be used; `fault` says why. Its message can be printed whatever the file's name holds."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(fault, printable(message))  # both, so that it passes between processes
        self.fault = fault

    def __str__(self) -> str:
        return str(self.args[1])


def read_audio(path: Path | str, *, max_seconds: float | None = DEFAULT_MAX_SECONDS) -> Samples:
    """Read any file that libsndfile supports, or `SHARD.tar::MEMBER`: int16, (samples,), 16 kHz, at least one sample.

    Any channel count and any rate from 4 to 768 kHz: channels are averaged, then resampled by soxr (HQ, linear
    phase, no added delay). A sample is `round(32768 * x)` limited to [-32768, 32767], so 16-bit mono files at 16 kHz
    come back bit for bit, and floats that pass 1.0 (lossy codecs do) are clipped instead of wrapping round.

    A `RecordingError` has the fault. The limit on the duration, `max_seconds`, is a day where it is None.
    """
    with _opened(Path(path)) as file:
        return _decode(path, file, LONGEST_SECONDS if max_seconds is None else max_seconds)


def read_duration(path: Path | str) -> float:
    """Seconds that the file's header gives, above 0, without decoding it; errors as in `read_audio`."""
    with _opened(Path(path)) as file:
        return float(file.frames / file.samplerate)


def write_audio(path: Path | str, samples: Samples, rate: int = SAMPLE_RATE) -> None:
    """Write int16 (samples,) or (samples, channels), atomically; the suffix names the format."""
    if samples.dtype != np.int16:
        raise AudioError(f"{path}: samples are {samples.dtype}, but must be int16; convert with `to_int16`")
    with atomic_path(Path(path)) as temporary:
        sf.write(temporary, samples, rate)


def to_int16(audio: npt.NDArray[np.floating]) -> Samples:
    """Floats with full scale 1.0 to int16, rounded to nearest even and clipped; the inverse of `to_float`."""
    scaled = np.rint(np.clip(np.asarray(audio, np.float32), -1, 1) * np.float32(32768))
    return np.asarray(np.minimum(scaled, 32767), np.int16)


def to_float(samples: Samples) -> npt.NDArray[np.float32]:
    """int16 to float32 with full scale 1.0: `samples / 32768`, exact."""
    return np.asarray(samples, np.float32) * np.float32(1 / 32768)


# ---- files and members of shards -----------------------------------------------------------------


def split_path(path: Path | str) -> tuple[Path, str] | None:
    """The shard and the member that a path names; None for the path of a file of its own."""
    shard, separator, member = os.fspath(path).rpartition(SEPARATOR)
    return None if not separator or os.path.lexists(path) else (Path(f"{shard}.tar"), member)


def file_of(path: Path | str) -> Path:
    """The file on disk that holds a recording: its shard, or the file itself."""
    return (split_path(path) or (Path(path),))[0]


def open_recording(path: Path | str) -> IO[bytes]:
    """The bytes of an audio file, or of a member of a shard; errors as in `read_audio`."""
    try:
        if parts := split_path(path):
            return io.BytesIO(_read_member(*parts))
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
            raise RecordingError("missing", f"{path}: {what}, not an audio file; name the files")
        return Path(path).open("rb", buffering=0)
    except (FileNotFoundError, KeyError) as error:
        raise RecordingError("missing", f"{path}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecordingError("missing", f"{path}: cannot be opened ({reason}); check its permissions") from error
    except (EOFError, tarfile.TarError) as error:
        raise RecordingError("corrupt", f"{path}: the shard is damaged ({error}); pack the corpus again") from error


def _read_member(shard: Path, member: str) -> bytes:
    status = shard.stat()
    offset, size = _members(shard, status.st_size, status.st_mtime_ns)[member]
    with shard.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise EOFError(f"it ends {size - len(data):,} B before {member} does")
    return data


@lru_cache(64)
def _members(shard: Path, size: int, changed_ns: int) -> dict[str, tuple[int, int]]:
    """Where each member lies in a shard: offset and length."""
    with tarfile.open(shard, "r:") as tar:
        return {item.name: (item.offset_data, item.size) for item in tar if item.isreg()}


# ---- decoding ------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[sf.SoundFile]:
    """An audio file whose header and end are sound; faults of decoding become errors of this module."""
    with open_recording(path) as stream:
        if stream.seek(0, io.SEEK_END) == 0:
            raise RecordingError("empty", f"{path}: the file has 0 bytes; record or export it again")
        stream.seek(0)
        head = stream.read(4)
        if head == b"OggS":
            _check_last_page(path, stream)
        stream.seek(0)
        source = stream if isinstance(stream, io.BytesIO) else stream.fileno()
        try:
            with _mpeg_notes_dropped(head), sf.SoundFile(source, closefd=False) as file:
                _check_header(path, file)
                yield file
        except sf.LibsndfileError as error:
            reason = str(error.error_string).strip().rstrip(".")
            remedy = "export it again as WAV, FLAC, Ogg or MP3"
            raise RecordingError("corrupt", f"{path}: not readable as audio ({reason}); {remedy}") from error


@contextmanager
def _mpeg_notes_dropped(head: bytes) -> Iterator[None]:
    """Drop what libmpg123 writes to descriptor 2 on a damaged file; libsndfile has no switch for it."""
    mpeg = head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)
    with stderr_dropped() if mpeg else nullcontext():
        yield


@contextmanager
def stderr_dropped() -> Iterator[None]:
    """Drop what C libraries write to descriptor 2; it is the process's, so that one thread at a time does this."""
    with _STDERR, Path(os.devnull).open("wb") as nothing:
        kept = os.dup(2)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _check_last_page(path: Path, stream: IO[bytes]) -> None:
    """libsndfile takes an Ogg file that was cut off for a shorter one."""
    stream.seek(max(0, stream.seek(0, io.SEEK_END) - 2 * _OGG_LARGEST_PAGE))
    tail = stream.read(2 * _OGG_LARGEST_PAGE)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    segments = page[_OGG_HEADER : _OGG_HEADER + page[_OGG_HEADER - 1]] if len(page) >= _OGG_HEADER else b""
    if not segments or not page[5] & _OGG_LAST or len(page) < _OGG_HEADER + len(segments) + sum(segments):
        raise RecordingError("corrupt", f"{path}: cut off, its last Ogg page is missing; copy or export it again")


def _check_header(path: Path, file: sf.SoundFile) -> None:
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        possible = f"possible are {LOWEST_RATE:,} to {HIGHEST_RATE:,}; export it again"
        raise RecordingError("corrupt", f"{path}: its header says {file.samplerate:,} Hz, {possible}")
    if file.frames <= 0:
        raise RecordingError("empty", f"{path}: holds no samples; record or export it again")
    # libsndfile shortens a cut-off data chunk of a WAV and reports that in its log only.
    found = _SHORT_CHUNK.search(file.extra_info) if file.format in ("WAV", "WAVEX") else None
    if found and int(found[2]) < int(found[1]) < _UNKNOWN_SIZE:
        what = f"has {int(found[2]):,} of {int(found[1]):,} bytes of audio"
        raise RecordingError("corrupt", f"{path}: cut off, {what}; copy or export it again")


def _decode(path: Path | str, file: sf.SoundFile, max_seconds: float) -> Samples:
    rate, limit = file.samplerate, int(max_seconds * file.samplerate)
    # Where the format has no length, libsndfile gives one near 2^63.
    promised = file.frames if file.frames < 1 << 48 else 0
    resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, np.float32, "HQ")
    parts: list[Samples] = []
    frames = 0
    while frames <= limit and promised <= limit:
        # In blocks, so that an hour of 48 kHz stereo does not need gigabytes of floats.
        block = file.read(max(1, _BLOCK_SAMPLES // file.channels), dtype="float32", always_2d=True)
        frames += len(block)
        if len(block) == 0:
            break
        if not (np.abs(block) <= LARGEST_LEVEL).all():
            largest = np.abs(block).max()
            what = f"{largest:.3g} times full scale" if np.isfinite(largest) else "values that are not numbers"
            raise RecordingError("corrupt", f"{path}: holds {what}; export it again, as 16-bit integers for example")
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        parts.append(to_int16(mono if resampler is None else resampler.resample_chunk(mono)))
    else:
        what = f"{max(promised, frames) / rate:,.1f} s or more is over the limit of {max_seconds:,.1f} s"
        raise RecordingError("too long", f"{path}: {what}; cut it up, or raise the limit")
    if frames + (_MP3_SLACK_FRAMES if file.format == "MP3" else 0) < promised:
        what = f"cut off after {frames / rate:.2f} s of {promised / rate:.2f} s"
        raise RecordingError("corrupt", f"{path}: {what}; copy or export it again")
    if resampler is not None:
        parts.append(to_int16(resampler.resample_chunk(np.zeros(0, np.float32), last=True)))
    if not sum(map(len, parts)):
        what = f"holds {frames} samples at {rate} Hz, less than one at 16 kHz"
        raise RecordingError("empty", f"{path}: {what}; record or export it again")
    return np.concatenate(parts)
