"""Recordings in tar shards of WebDataset's layout: the very bytes, reached one by one or in a stream."""

from __future__ import annotations

import io
import json
import os
import random
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewake.console import track
from edgewake.data.manifest import CorpusManifest, Entry
from edgewake.errors import AudioError, ConfigError, EdgewakeError, MissingDependencyError
from edgewake.io import atomic_path, write_json

# Between a shard and its member in a path: corpus/train-000000.tar::00000012.flac
SEPARATOR = "::"
# Shards that a process keeps open at a time.
OPEN_SHARDS = 32


def split_path(path: Path | str) -> tuple[Path, str] | None:
    """The shard and the member that a path names; None for the path of a file of its own."""
    shard, separator, member = str(path).partition(SEPARATOR)
    return (Path(shard), member) if separator else None


def file_of(path: Path | str) -> Path:
    """The file on disk that holds a recording: its shard, or the file itself."""
    parts = split_path(path)
    return Path(path) if parts is None else parts[0]


# ---- reading one by one --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shard:
    """An open shard: where each member lies in it."""

    descriptor: int
    size: int
    members: dict[str, tuple[int, int]]


def index_path(shard: Path) -> Path:
    """Where the index of a shard's members lies."""
    return shard.with_suffix(".index.json")


class ShardReader:
    """Members of shards by name: each shard is opened once, and a member is one read at its offset.

    Reads do not move a shared position, so that threads and forked workers can use one reader.
    """

    def __init__(self, limit: int = OPEN_SHARDS) -> None:
        self.limit = limit
        self._open: OrderedDict[Path, _Shard] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, shard: Path, member: str) -> bytes:
        """The bytes of a member.

        Raises:
            FileNotFoundError: no such shard, or none such in it.
            EOFError: the shard ends within the member.
            OSError, tarfile.TarError: it cannot be read, or is no tar file.
        """
        with self._lock:
            known = self._open.get(shard)
            if known is None:
                known = self._open[shard] = _open_shard(shard)
            self._open.move_to_end(shard)
            if member not in known.members:
                raise FileNotFoundError(f"{shard} has no member {member}")
            offset, size = known.members[member]
            data = os.pread(known.descriptor, size, offset)
            if len(self._open) > self.limit:
                os.close(self._open.popitem(last=False)[1].descriptor)
        if len(data) < size:
            raise EOFError(f"{shard} ends {size - len(data):,} B before {member} does")
        return data

    def close(self) -> None:
        """Close all shards."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1].descriptor)


def _open_shard(shard: Path) -> _Shard:
    descriptor = os.open(shard, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        return _Shard(descriptor, size, _stored_index(shard, size) or _scan_index(shard))
    except BaseException:
        os.close(descriptor)
        raise


def _stored_index(shard: Path, size: int) -> dict[str, tuple[int, int]] | None:
    """The index beside a shard, if it is of a shard of this size."""
    try:
        stored = json.loads(index_path(shard).read_text(encoding="utf-8"))
        if stored["bytes"] == size:
            return {name: (int(offset), int(length)) for name, (offset, length) in stored["members"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def _scan_index(shard: Path) -> dict[str, tuple[int, int]]:
    with tarfile.open(shard, "r:") as tar:
        return {item.name: (item.offset_data, item.size) for item in tar if item.isreg()}


_reader = ShardReader()


def open_member(path: Path | str) -> io.BytesIO | None:
    """A recording in a shard as a file object in memory; None for the path of a file of its own.

    Errors as in `ShardReader.read`.
    """
    parts = split_path(path)
    return None if parts is None else io.BytesIO(_reader.read(*parts))


# ---- writing -------------------------------------------------------------------------------------


def pack(manifest: CorpusManifest, out: Path, shard_mb: float = 500.0) -> CorpusManifest:
    """Copy all recordings of a manifest into shards in `out`, beside a manifest of them.

    Each recording is a sample of WebDataset's: `<number>.<suffix>` with the very bytes of the file, and
    `<number>.json` with its entry. A shard holds one split. Entries keep their order, on which the seeds of
    rendered clips depend: training from shards gives the same clips.

    Args:
        out: gets `<split>-<number>.tar`, their indexes, and manifest.json.
        shard_mb: a shard is closed when it has this size, 1e6 B.

    Returns:
        the new manifest.

    Raises:
        AudioError: a file cannot be read.
        MissingDependencyError: webdataset is not installed.
    """
    if shard_mb <= 0:
        raise ConfigError(f"--shard-mb {shard_mb}: must be above 0; a few hundred is usual")
    out = Path(out)
    if (out / "manifest.json").exists():
        raise EdgewakeError(f"{out} holds a packed corpus already: delete it, or choose another folder")
    by_split: dict[str, list[int]] = {}
    for number, entry in enumerate(manifest.entries):
        by_split.setdefault(entry.split, []).append(number)
    packed: dict[int, Entry] = {}
    progress = iter(track(range(len(manifest.entries)), "packing"))
    for split, numbers in by_split.items():
        waiting, shard = list(reversed(numbers)), 0
        while waiting:
            name = f"{split}-{shard:06d}.tar"
            for number, member in _write_shard(manifest, out / name, waiting, int(shard_mb * 1e6), progress):
                entry = manifest.entries[number]
                packed[number] = entry.model_copy(update={"path": f"{name}{SEPARATOR}{member}"})
            shard += 1
    next(progress, None)
    made = manifest.build(
        manifest.phrase,
        (packed[number] for number in range(len(manifest.entries))),
        folder=out,
        shared_speakers=manifest.shared_speakers,
    )
    made.save(out / "manifest.json")
    return made


def _write_shard(
    manifest: CorpusManifest, path: Path, waiting: list[int], limit: int, progress: Iterator[int]
) -> list[tuple[int, str]]:
    """Write recordings, taken from the end of `waiting`, until a shard is full; (number, member) of each."""
    webdataset = _webdataset()
    written: list[tuple[int, str]] = []
    with atomic_path(path) as temporary:
        # One time and one owner for all: the same corpus gives the same bytes.
        with (
            temporary.open("wb") as file,
            webdataset.TarWriter(file, user="root", group="root", mtime=0, encoder=False) as tar,
        ):
            while waiting and (not written or file.tell() < limit):
                number = waiting.pop()
                next(progress, None)
                entry = manifest.entries[number]
                key, suffix = f"{number:08d}", Path(entry.path).suffix.lstrip(".").lower() or "audio"
                tar.write(
                    {
                        "__key__": key,
                        suffix: _file_bytes(manifest.path_of(entry)),
                        "json": json.dumps(entry.model_dump(mode="json"), ensure_ascii=False).encode(),
                    }
                )
                written.append((number, f"{key}.{suffix}"))
        index = {"bytes": temporary.stat().st_size, "members": _scan_index(temporary)}
    write_json(index_path(path), index)
    return written


def _file_bytes(path: Path) -> bytes:
    try:
        member = open_member(path)
        return path.read_bytes() if member is None else member.getvalue()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise AudioError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); edgewake corpus scan "
            "names all that cannot"
        ) from error


def _webdataset() -> Any:
    try:
        import webdataset
    except ImportError as error:
        raise MissingDependencyError("shards need webdataset, not installed: pip install 'edgewake[train]'") from error
    return webdataset


# ---- reading in a stream -------------------------------------------------------------------------


def shards_of(manifest: CorpusManifest, split: str) -> list[Path]:
    """The shards of a packed manifest that hold a split, in order.

    Raises:
        ConfigError: a recording of the split is a file of its own.
    """
    found: dict[Path, None] = {}
    for entry in manifest.entries:
        if entry.split == split:
            parts = split_path(manifest.path_of(entry))
            if parts is None:
                raise ConfigError(f"{entry.path} is not in a shard: edgewake corpus pack makes shards of a corpus")
            found[parts[0]] = None
    return list(found)


def _opened(sources: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for source in sources:
        with Path(source["url"]).open("rb") as stream:
            yield {**source, "stream": stream}


def stream_samples(
    shards: list[Path], *, seed: int, epoch: int, buffer: int, shuffle: bool = True
) -> Iterator[tuple[str, str, bytes, dict[str, Any]]]:
    """Recordings of this process and worker, read from shard to shard: (key, suffix, bytes, entry).

    Shards are shuffled by (seed, epoch) and dealt to processes, then to workers of a loader; recordings are
    shuffled within a buffer.

    Raises:
        ConfigError: there are fewer shards than processes.
    """
    webdataset = _webdataset()
    rank, world, worker, _ = webdataset.utils.pytorch_worker_info()
    if len(shards) < world:
        raise ConfigError(f"{len(shards)} shards for {world} processes: pack the corpus with a smaller --shard-mb")
    names = [str(shard) for shard in shards]
    if shuffle:
        random.Random(f"{seed} {epoch}").shuffle(names)
    mixed = random.Random(f"{seed} {epoch} {rank} {worker}")
    stages = [
        webdataset.SimpleShardList(names),
        webdataset.split_by_node,
        webdataset.split_by_worker,
        _opened,
        webdataset.tariterators.tar_file_expander,
        webdataset.tariterators.group_by_keys,
    ]
    if shuffle and buffer > 1:
        stages.append(webdataset.shuffle(buffer, initial=buffer, rng=mixed))
    for sample in webdataset.DataPipeline(*stages):
        suffix = next(name for name in sample if not name.startswith("__") and name != "json")
        yield sample["__key__"], suffix, sample[suffix], json.loads(sample["json"])
