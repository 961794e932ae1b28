"""Files are written whole or not at all: every write goes to a neighbour first and is renamed into place."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgewake.errors import EdgewakeError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on a failure it is removed."""
    temporary = temporary_beside(path)
    try:
        temporary.touch()
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise EdgewakeError(f"cannot write {path}: {reason}; free space or choose another folder") from error
        raise


def temporary_beside(path: Path) -> Path:
    """An unused name in the folder of `path`, hidden and with its suffix; nothing is made but the folder.

    What earlier processes of this machine left under such names of `path`, and are gone, is removed first.
    """
    make_folder(path.parent)
    owner = f".{path.name}.{socket.gethostname()}-"
    for left in path.parent.glob(glob.escape(owner) + "*"):
        process = left.name.removeprefix(owner).partition(".")[0]
        if process.isdigit() and not is_running(int(process)):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return path.with_name(f"{owner}{os.getpid()}.{secrets.token_hex(4)}{path.suffix}")


def is_running(process: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise EdgewakeError(f"cannot make the folder {path}: {reason}; choose another one") from error


def printable(path: Path | str) -> str:
    """A file name as text that every stream and JSON can hold: bytes that are not UTF-8 become `\\xNN`."""
    return os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_output_folder(folder: Path, marks: tuple[str, ...], what: str) -> None:
    """Refuse an output folder with files that something else wrote: a mistyped --out must not cost any work.

    An earlier result of the same command, called `what`, has at least one of `marks`. Hidden files do not count.
    """
    if folder.exists() and not folder.is_dir():
        raise EdgewakeError(f"--out {folder} is a file: choose a folder")
    found = [path.name for path in folder.iterdir() if path.name[0] != "."] if folder.exists() else []
    if found and not any((folder / mark).exists() for mark in marks):
        raise EdgewakeError(f"--out {folder} holds other files than a {what} (no {marks[0]}): choose another folder")


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path` atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def usual_recursion_limit() -> Iterator[None]:
    """Within, deep recursion is a RecursionError; onnx2tf lifts the limit, and a parser in C would crash."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(min(before, 2000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file; `what` names it in errors."""
    try:
        with usual_recursion_limit():
            return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        reason = "does not exist: check the path"
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}; check path and permissions"
    except UnicodeDecodeError:
        reason = "is not JSON: it is not even text; check the path"
    except json.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg} at line {error.lineno}; check the path"
    except (RecursionError, ValueError):
        reason = "nests too deeply or holds too long a number: check the path"
    raise EdgewakeError(f"{what} {path} {reason}")


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """`sha256_file`, computed once in a process for a file whose place, inode, size and time stay the same."""
    status = Path(path).stat()
    return _known_sha256(Path(path).absolute(), status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _known_sha256(path: Path, inode: int, size: int, changed_ns: int) -> str:
    return sha256_file(path)
