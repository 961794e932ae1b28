"""Results kept by content: made once, whole or not at all, checked when found again, and bounded in size."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock, Timeout

from edgewake.console import error_console
from edgewake.errors import EdgewakeError
from edgewake.fingerprint import code_fingerprint
from edgewake.io import known_sha256, make_folder, sha256_file, write_json

RECORD, LOCKS = "entry.json", ".locks"
# Unfinished entries: of no use once their process is gone; and those that a later call goes on with.
MAKING, RESUMABLE = ".making-", ".resume-"
# Of a larger file the size and evenly spaced blocks are checked: to hash gigabytes would cost more than it saves.
WHOLE_BYTES = 64 << 20
BLOCK_BYTES, BLOCKS = 1 << 20, 16
Make = Callable[[Path], Mapping[str, Any] | None]


@dataclass(frozen=True)
class CacheEntry:
    """One kept result: its files, read only; the JSON value that `make` returned; whether it was found, not made."""

    folder: Path
    record: dict[str, Any]
    reused: bool


def content_key(kind: str, parameters: Mapping[str, Any], *, code: Sequence[str], inputs: Iterable[Path] = ()) -> str:
    """What names a result: 64 hex digits over its kind, parameters (JSON values), code and inputs.

    Of `code`, modules, the `code_fingerprint` counts; of `inputs`, in this order, names and contents.
    """
    digest = hashlib.sha256(json.dumps([kind, parameters, code_fingerprint(*code)], sort_keys=True).encode())
    for path in inputs:
        try:
            digest.update(f"\0{Path(path).name}\0{known_sha256(path)}".encode())
        except OSError as error:
            raise EdgewakeError(f"{kind}: input {path} cannot be read: {error.strerror}; check the path") from error
    return digest.hexdigest()


class Cache:
    """A folder of results, shared by any number of processes: `<folder>/<kind>/<key>/`.

    The default is $EDGEWAKE_CACHE, or build/cache below the working folder. The least recently used entries go
    when all together pass `limit_gb` 1e9 bytes, never those of this process. What a killed process left unfinished
    is removed, or gone on with, by the next one that makes something.
    """

    # Of all caches in this process, since each part of it opens its own.
    _used: ClassVar[set[Path]] = set()

    def __init__(self, folder: Path | str | None = None, limit_gb: float = 50.0) -> None:
        self.folder = Path(folder or os.environ.get("EDGEWAKE_CACHE") or "build/cache")
        self.limit_bytes = int(limit_gb * 1e9)

    def get(
        self,
        kind: str,
        parameters: Mapping[str, Any],
        make: Make,
        *,
        code: Sequence[str],
        inputs: Iterable[Path] = (),
        resumable: bool = False,
    ) -> CacheEntry:
        """The stored result of this content (`content_key`), or make and store it; a damaged one is made again.

        While one process makes a result, others that need it wait for it. What `make` raises passes through, and
        nothing is stored.

        Args:
            make: writes files into the folder that it gets, and returns a JSON object of what it did.
            resumable: the folder may hold what an interrupted call left, and `make` goes on from there.
        """
        key = content_key(kind, parameters, code=code, inputs=inputs)
        place = self.folder / kind / key[:32]
        found = self._stored(place, key)
        if found is None:
            with self._locked(kind, key):
                found = self._stored(place, key, tell=True) or self._make(place, key, make, resumable)
            self._prune()
        return found

    def find(
        self, kind: str, parameters: Mapping[str, Any], *, code: Sequence[str], inputs: Iterable[Path] = ()
    ) -> CacheEntry | None:
        """The stored result of this content if it is there and intact; arguments as in `get`."""
        key = content_key(kind, parameters, code=code, inputs=inputs)
        return self._stored(self.folder / kind / key[:32], key)

    def room(self) -> int:
        """Bytes that one result may take: the limit, or what the disk has free."""
        make_folder(self.folder)
        return min(self.limit_bytes, shutil.disk_usage(self.folder).free)

    def check_room(self, what: str, needed: int, remedy: str) -> None:
        """Refuse before long work what passes the cache's limit, or what the disk has free."""
        if needed > self.room():
            free = shutil.disk_usage(self.folder).free / 1e9
            room = f"cache.limit_gb allows {self.limit_bytes / 1e9:.1f}, {self.folder} has {free:.1f} free"
            remedy = f"raise the limit, set cache.folder to another disk, or {remedy}"
            raise EdgewakeError(f"{what} takes {needed / 1e9:.1f} GB, {room}: {remedy}")

    def usage(self) -> dict[str, tuple[int, int]]:
        """How many entries there are of each kind, and their bytes, unfinished ones among them."""
        return {kind: (len(entries), sum(map(_size, entries))) for kind, entries in self._kinds().items()}

    def clear(self, kind: str | None = None) -> int:
        """Remove all entries, or those of a kind, of which none is being made; returns how many bytes that freed."""
        kinds = self._kinds()
        if kind is not None and kind not in kinds:
            raise EdgewakeError(f"the cache {self.folder} holds no {kind!r}: it has {', '.join(kinds) or 'nothing'}")
        freed = 0
        for entry in self._entries() if kind is None else kinds[kind]:
            removed = self._remove(entry)
            if removed is None:
                raise EdgewakeError(f"{entry} is being made by another process: wait for it or stop it")
            freed += removed
        return freed

    # ---- one entry -------------------------------------------------------------------------------

    def _lock(self, kind: str, key: str) -> FileLock:
        make_folder(self.folder / LOCKS)
        return FileLock(self.folder / LOCKS / f"{kind}-{key[:32]}")

    def _locked(self, kind: str, key: str) -> AbstractContextManager[Any]:
        lock = self._lock(kind, key)
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            error_console.print(f"waiting for {kind}, which another process makes")
            return lock.acquire()

    def _stored(self, place: Path, key: str, *, tell: bool = False) -> CacheEntry | None:
        """An intact entry, or None; a damaged one is named once, where it is about to be made again."""
        try:
            kept = json.loads((place / RECORD).read_text(encoding="utf-8"))
            if kept["key"] == key and kept["files"] == _digests(place):
                self._used.add(place)
                os.utime(place / RECORD)
                return CacheEntry(place, dict(kept["record"]), reused=True)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            pass
        if tell:
            error_console.print(f"{place} is damaged and is made again", soft_wrap=True)
        return None

    def _make(self, place: Path, key: str, make: Make, resumable: bool) -> CacheEntry:
        work = place.with_name((RESUMABLE if resumable else MAKING) + place.name)
        if not resumable:
            shutil.rmtree(work, ignore_errors=True)
        try:
            work.mkdir(parents=True, exist_ok=True)
            record = json.loads(json.dumps(make(work) or {}))
            write_json(work / RECORD, {"key": key, "files": _digests(work), "record": record})
            shutil.rmtree(place, ignore_errors=True)
            work.replace(place)
        except BaseException as error:
            if not resumable:
                shutil.rmtree(work, ignore_errors=True)
            if not isinstance(error, OSError):
                raise
            what = f"cannot write {place.parent}: {error.strerror or error}"
            raise EdgewakeError(f"{what}; free space, or set cache.folder to another disk") from error
        self._used.add(place)
        return CacheEntry(place, record, reused=False)

    # ---- all entries -----------------------------------------------------------------------------

    def _entries(self) -> list[Path]:
        """Entries, unfinished ones among them; what else lies below $EDGEWAKE_CACHE (assets) is not the cache's."""
        found = sorted(path for path in self.folder.glob("*/*") if path.is_dir() and path.parent.name != LOCKS)
        return [path for path in found if path.name.startswith((MAKING, RESUMABLE)) or (path / RECORD).exists()]

    def _kinds(self) -> dict[str, list[Path]]:
        kinds = itertools.groupby(self._entries(), lambda path: path.parent.name)
        return {kind: list(entries) for kind, entries in kinds}

    def _prune(self) -> None:
        """Remove what killed processes left and, over the limit, what was not used for longest."""
        found = self._entries()
        total = sum(map(_size, found))
        for path in sorted(set(found) - self._used, key=_last_use):
            if total > self.limit_bytes or path.name.startswith(MAKING):
                total -= self._remove(path) or 0

    def _remove(self, entry: Path) -> int | None:
        """Its bytes; None where another process makes it."""
        key = entry.name.removeprefix(MAKING).removeprefix(RESUMABLE)
        try:
            with self._lock(entry.parent.name, key).acquire(timeout=0):
                size = _size(entry)
                shutil.rmtree(entry, ignore_errors=True)
                return size
        except Timeout:
            return None


def _last_use(entry: Path) -> int:
    with suppress(OSError):
        return max(entry.glob(RECORD), default=entry).stat().st_mtime_ns
    return 0


def _size(folder: Path) -> int:
    total = 0
    with suppress(OSError):  # another process, or thread, may remove or rename it
        for path in folder.rglob("*"):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _digests(folder: Path) -> dict[str, str]:
    """Every file of an entry by its path in it: size and SHA-256, of the whole or, if it is large, of blocks."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / RECORD)
    return {path.relative_to(folder).as_posix(): _digest(path) for path in files}


def _digest(path: Path) -> str:
    size = path.stat().st_size
    if size <= WHOLE_BYTES:
        return f"{size} {sha256_file(path)}"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in range(BLOCKS):
            file.seek((size - BLOCK_BYTES) * block // (BLOCKS - 1))
            digest.update(file.read(BLOCK_BYTES))
    return f"{size} {digest.hexdigest()}"
