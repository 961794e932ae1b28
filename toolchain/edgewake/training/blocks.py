"""Arrays in files that are whole or absent, checked when first read, shared by processes, of bounded size."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from edgewake.console import error_console
from edgewake.errors import EdgewakeError
from edgewake.io import atomic_path, make_folder

try:
    import fcntl
except ImportError:  # not on Windows: there, processes that run at once may compute a block twice
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".safetensors"
CHECKSUM = "blake2b"
# What a killed process was writing; nobody writes one block for longer.
STALE_SECONDS = 3600.0
_DTYPES = {"F16": np.float16, "F32": np.float32, "U8": np.uint8, "I64": np.int64}

Arrays = dict[str, npt.NDArray[Any]]


class BlockStore:
    """Blocks of arrays by name, `<group>/<key>`, each a safetensors file with a checksum of its arrays.

    The folder never outgrows its limit: the blocks that were used least recently go first.

    Args:
        folder: created when something is written.
        limit_bytes: of all blocks together.
        limit_key: the setting that holds the limit, for messages.
    """

    def __init__(self, folder: Path, limit_bytes: int, limit_key: str) -> None:
        self.folder, self.limit_bytes, self.limit_key = Path(folder), limit_bytes, limit_key
        self._open: dict[str, Arrays] = {}

    def path(self, name: str) -> Path:
        """Where a block lies, or would lie."""
        return self.folder / f"{name}{SUFFIX}"

    def names(self, group: str) -> list[str]:
        """The blocks of a group that are there now."""
        return sorted(f"{group}/{path.stem}" for path in _blocks(self.folder / group))

    def size(self, name: str) -> int:
        """Bytes of a block on disk; 0 when it is gone."""
        try:
            return self.path(name).stat().st_size
        except FileNotFoundError:
            return 0

    def write(self, name: str, arrays: Mapping[str, npt.NDArray[Any]], in_use: Collection[str] = ()) -> None:
        """Write a block atomically, after making room for it.

        Args:
            in_use: blocks that must not go for it.

        Raises:
            EdgewakeError: the disk is full, or what is in use leaves no room within the limit.
        """
        self._make_room(sum(array.nbytes for array in arrays.values()), {*in_use, name})
        contents = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        with atomic_path(self.path(name)) as temporary:
            save_file(contents, temporary, metadata={CHECKSUM: _checksum(contents)})

    def peek(self, name: str, array: str) -> npt.NDArray[Any] | None:
        """One array of a block, unchecked; None when the block is gone or is no block."""
        try:
            found: npt.NDArray[Any] = np.array(_mapped(self.path(name))[0][array])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found

    def read(self, name: str) -> Arrays | None:
        """A block's arrays, mapped into memory, or None when it is not there.

        The checksum is compared when this process reads the block for the first time. A damaged block is
        named and deleted: whoever needs it computes it again.
        """
        path = self.path(name)
        if name in self._open:
            _touch(path)
            return self._open[name]
        try:
            arrays, metadata = _mapped(path)
            sound = metadata.get(CHECKSUM) == _checksum(arrays)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            error_console.print(f"{path} is damaged: deleted, it is computed again", soft_wrap=True)
            path.unlink(missing_ok=True)
            return None
        _touch(path)
        self._open[name] = arrays
        return arrays

    @contextmanager
    def lock(self, name: str, *, wait: bool) -> Iterator[bool]:
        """Be the one process that makes a block; see `exclusive`."""
        with exclusive(self.folder / "locks" / name.replace("/", "-"), wait=wait) as mine:
            yield mine

    def _make_room(self, bytes_needed: int, in_use: Collection[str]) -> None:
        kept = {self.path(name) for name in in_use}
        found = []
        for path in self.folder.glob(f"*/*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                if path.name.startswith("."):
                    if time.time() - stat.st_mtime > STALE_SECONDS:
                        path.unlink(missing_ok=True)
                    continue
                found.append((stat.st_mtime_ns, path, stat.st_size))
        total = sum(size for _, _, size in found) + bytes_needed
        for _, path, size in sorted(found):
            if total <= self.limit_bytes:
                return
            if path not in kept:
                path.unlink(missing_ok=True)
                self._open.pop(f"{path.parent.name}/{path.stem}", None)
                total -= size
        if total > self.limit_bytes:
            raise self.too_small(total)

    def too_small(self, bytes_needed: int) -> EdgewakeError:
        """What to raise when `bytes_needed` are in use at once."""
        return EdgewakeError(
            f"{self.folder} needs {bytes_needed / 1e9:.3g} GB at once, {self.limit_key} = "
            f"{self.limit_bytes / 1e9:.3g} allows less: raise {self.limit_key}"
        )


@contextmanager
def exclusive(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock that one process has at a time; yields False when another has it and `wait` is False.

    The lock ends with the process that holds it, however that ends; its file goes with it.
    """
    make_folder(path.parent)
    with path.open("w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
        try:
            yield True
        finally:
            # Who waits for the lock of a deleted file gets it too, and then finds the work done.
            path.unlink(missing_ok=True)


def _blocks(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))


def _touch(path: Path) -> None:
    # Another process may have dropped it, or the folder may be read-only: it is used all the same.
    with contextlib.suppress(OSError):
        os.utime(path)


def _checksum(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(arrays):
        digest.update(f"{key} {arrays[key].dtype} {arrays[key].shape}\0".encode())
        digest.update(np.ascontiguousarray(arrays[key]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _mapped(path: Path) -> tuple[Arrays, dict[str, str]]:
    """A safetensors file's arrays without reading them, and its metadata; any OSError or ValueError."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 0 < size < os.fstat(file.fileno()).st_size:
            raise ValueError("the header is longer than the file")
        header = json.loads(file.read(size))
    metadata: dict[str, str] = header.pop("__metadata__", {})
    data = np.memmap(path, np.uint8, mode="r", offset=8 + size)
    arrays: Arrays = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        arrays[name] = data[begin:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays, metadata
