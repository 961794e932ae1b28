"""Any audio file becomes int16 mono at 16 kHz, or one error that names the file and its fault."""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, ClassVar, Literal

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
INDEXED_SHARDS = 64


class RecordingError(AudioError):
    """A recording cannot be used; the subclass, and in words `fault`, gives the reason."""

    fault: ClassVar[Fault]


class MissingAudioError(RecordingError):
    """The file does not exist or cannot be opened."""

    fault = "missing"


class CorruptAudioError(RecordingError):
    """The file is not audio, is cut off, or holds values that are not audio."""

    fault = "corrupt"


class EmptyAudioError(RecordingError):
    """The file is well formed and holds no sample."""

    fault = "empty"


class SilentAudioError(RecordingError):
    """Every sample is 0."""

    fault = "silent"


class TooLongAudioError(RecordingError):
    """The file is longer than the limit."""

    fault = "too long"


def read_audio(
    path: Path | str, *, max_seconds: float | None = DEFAULT_MAX_SECONDS, allow_silent: bool = True
) -> Samples:
    """Read any file that libsndfile supports, at any channel count and any rate from 4 to 768 kHz.

    Channels are averaged, then resampled by soxr (HQ, linear phase, no added delay). A sample is
    `round(32768 * x)` limited to [-32768, 32767], so 16-bit mono files at 16 kHz come back bit for bit, and
    floats that pass 1.0 (lossy codecs do) are clipped instead of wrapping round.

    Args:
        path: WAV, FLAC, Ogg Vorbis or Opus, MP3, AIFF, ...; or `SHARD.tar::MEMBER`.
        max_seconds: limit on the duration; None for a day.
        allow_silent: when False, a file of zeros only is an error.

    Returns:
        int16, (samples,), 16 kHz; at least one sample.

    Raises:
        RecordingError: the subclass names the fault.
    """
    with _opened(Path(path)) as file:
        samples = _decode(printable(path), file, LONGEST_SECONDS if max_seconds is None else max_seconds)
    if not (allow_silent or samples.any()):
        raise SilentAudioError(
            f"{printable(path)}: all {len(samples)} samples are 0; check the microphone or the export"
        )
    return samples


def read_duration(path: Path | str) -> float:
    """Seconds that the file's header gives, above 0, without decoding it; errors as in `read_audio`."""
    with _opened(Path(path)) as file:
        if file.frames <= 0:
            raise EmptyAudioError(f"{printable(path)}: holds no samples; record or export it again")
        return float(file.frames / file.samplerate)


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
    parts = split_path(path)
    return Path(path) if parts is None else parts[0]


def open_recording(path: Path | str) -> IO[bytes]:
    """The bytes of an audio file, or of a member of a shard.

    Raises:
        MissingAudioError: there is no such file or member, or it cannot be opened.
        CorruptAudioError: the shard is damaged.
    """
    name, parts = printable(path), split_path(path)
    try:
        if parts is not None:
            return io.BytesIO(_read_member(*parts))
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
            raise MissingAudioError(f"{name}: {what}, not an audio file; name the files")
        return Path(path).open("rb", buffering=0)
    except FileNotFoundError as error:
        raise MissingAudioError(f"{name}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MissingAudioError(
            f"{name}: cannot be opened ({printable(str(reason))}); check its permissions"
        ) from error
    except (EOFError, tarfile.TarError) as error:
        raise CorruptAudioError(f"{name}: the shard is damaged ({error}); pack the corpus again") from error


def _read_member(shard: Path, member: str) -> bytes:
    status = shard.stat()
    offset, size = _members(shard, status.st_size, status.st_mtime_ns).get(member, (0, -1))
    if size < 0:
        raise FileNotFoundError(member)
    with shard.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise EOFError(f"it ends {size - len(data):,} B before {member} does")
    return data


@lru_cache(INDEXED_SHARDS)
def _members(shard: Path, size: int, changed_ns: int) -> dict[str, tuple[int, int]]:
    """Where each member lies in a shard: offset and length."""
    with tarfile.open(shard, "r:") as tar:
        return {item.name: (item.offset_data, item.size) for item in tar if item.isreg()}


class Decoded:
    """Samples of many recordings in one file, mapped into memory where and when they are first read.

    Args:
        file: int16 samples.
        places: first sample and number of samples of each recording, by name.
    """

    def __init__(self, file: Path, places: Mapping[str, Sequence[int]]) -> None:
        self.file, self.places = file, places
        self._samples: Samples | None = None

    def get(self, name: str) -> Samples | None:
        """The samples of a recording, read only; None where they are not kept."""
        if name not in self.places:
            return None
        if self._samples is None:
            try:
                self._samples = np.asarray(np.memmap(self.file, np.int16, "r"))
            except FileNotFoundError:  # the cache was cleared
                return None
        start, count = self.places[name]
        return self._samples[start : start + count]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_samples": None}


# ---- decoding ------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[sf.SoundFile]:
    """An audio file whose header and end are sound; faults of decoding become errors of this module."""
    name = printable(path)
    with open_recording(path) as stream:
        if stream.seek(0, io.SEEK_END) == 0:
            raise EmptyAudioError(f"{name}: the file has 0 bytes; record or export it again")
        stream.seek(0)
        head = stream.read(4)
        if head == b"OggS":
            _check_last_page(name, stream)
        stream.seek(0)
        source = stream if isinstance(stream, io.BytesIO) else stream.fileno()
        try:
            with _mpeg_notes_dropped(head), sf.SoundFile(source, closefd=False) as file:
                _check_header(name, file)
                yield file
        except sf.LibsndfileError as error:
            reason = str(error.error_string).strip().rstrip(".")
            raise CorruptAudioError(
                f"{name}: not readable as audio ({reason}); export it again as WAV, FLAC, Ogg or MP3"
            ) from error


class _NotesDropped:
    """libmpg123 writes notes on damaged files to descriptor 2, and libsndfile has no switch for it.

    The descriptor is the process's, so that threads which decode at once share one redirection.
    """

    def __init__(self) -> None:
        self._lock, self._users, self._stderr = threading.Lock(), 0, -1

    @contextmanager
    def __call__(self, head: bytes) -> Iterator[None]:
        """Drop what is written to stderr meanwhile, if a file that begins with `head` is MPEG audio."""
        if not (head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)):
            yield
            return
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._stderr, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, 2)
                os.close(nothing)
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    os.dup2(self._stderr, 2)
                    os.close(self._stderr)


_mpeg_notes_dropped = _NotesDropped()


def _check_last_page(name: str, stream: IO[bytes]) -> None:
    """libsndfile takes an Ogg file that was cut off for a shorter one."""
    stream.seek(max(0, stream.seek(0, io.SEEK_END) - 2 * _OGG_LARGEST_PAGE))
    tail = stream.read(2 * _OGG_LARGEST_PAGE)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    segments = page[_OGG_HEADER : _OGG_HEADER + page[_OGG_HEADER - 1]] if len(page) >= _OGG_HEADER else b""
    if not segments or not page[5] & _OGG_LAST or len(page) < _OGG_HEADER + len(segments) + sum(segments):
        raise CorruptAudioError(f"{name}: cut off, its last Ogg page is missing; copy or export it again")


def _check_header(name: str, file: sf.SoundFile) -> None:
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        raise CorruptAudioError(
            f"{name}: its header says {file.samplerate:,} Hz, possible are {LOWEST_RATE:,} to {HIGHEST_RATE:,}; "
            "export it again"
        )
    # libsndfile shortens a cut-off data chunk of a WAV and reports that in its log only.
    found = _SHORT_CHUNK.search(file.extra_info) if file.format in ("WAV", "WAVEX") else None
    if found and int(found[2]) < int(found[1]) < _UNKNOWN_SIZE:
        raise CorruptAudioError(
            f"{name}: cut off, has {int(found[2]):,} of {int(found[1]):,} bytes of audio; copy or export it again"
        )


def _decode(name: str, file: sf.SoundFile, max_seconds: float) -> Samples:
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
            raise CorruptAudioError(f"{name}: holds {what}; export it again, as 16-bit integers for example")
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        parts.append(to_int16(mono if resampler is None else resampler.resample_chunk(mono)))
    else:
        raise TooLongAudioError(
            f"{name}: {max(promised, frames) / rate:,.1f} s or more is over the limit of {max_seconds:,.1f} s; "
            "cut it up, or raise the limit"
        )
    if frames == 0:
        raise EmptyAudioError(f"{name}: holds no samples; record or export it again")
    if frames + (_MP3_SLACK_FRAMES if file.format == "MP3" else 0) < promised:
        raise CorruptAudioError(
            f"{name}: cut off after {frames / rate:.2f} s of {promised / rate:.2f} s; copy or export it again"
        )
    if resampler is not None:
        parts.append(to_int16(resampler.resample_chunk(np.zeros(0, np.float32), last=True)))
    samples = np.concatenate(parts)
    if len(samples) == 0:
        raise EmptyAudioError(f"{name}: holds {frames} samples at {rate} Hz, less than one at 16 kHz")
    return samples
