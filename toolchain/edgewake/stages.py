"""A stage runs again exactly when its inputs, its parameters, its code or its stored result changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edgewake.errors import EdgewakeError
from edgewake.io import sha256_file, write_json

RECORD = "stage.json"
KEPT_PER_STAGE = 4
_PACKAGE = Path(__file__).parent
_SOURCES = (".py", ".c", ".h", ".j2", ".so")


@dataclass(frozen=True)
class StageResult:
    """What a stage left.

    Attributes:
        folder: its files; read only.
        record: the JSON value that the stage returned.
        reused: the stage did not run, an earlier equal run's result was taken.
    """

    folder: Path
    record: dict[str, Any]
    reused: bool


def code_hash(parts: Iterable[str], distributions: Iterable[str] = ()) -> str:
    """SHA-256 over the sources of parts of this package and the versions of installed distributions.

    Args:
        parts: modules or subpackages, relative to edgewake: "conversion", "runtime/model_manifest.py".
        distributions: names as pip knows them; an absent one counts as absent.
    """
    digest = hashlib.sha256()
    for part in sorted(set(parts)):
        place = _PACKAGE / part
        if not place.exists():
            raise EdgewakeError(f"edgewake has no part {part!r}; the installation is incomplete, reinstall it")
        files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.suffix in _SOURCES)
        for file in files:
            digest.update(f"{file.relative_to(_PACKAGE)}\0{sha256_file(file)}\0".encode())
    for name in sorted(set(distributions)):
        try:
            digest.update(f"{name}=={metadata.version(name)}\0".encode())
        except metadata.PackageNotFoundError:
            digest.update(f"{name} absent\0".encode())
    return digest.hexdigest()


class Stages:
    """Results of stages under one cache folder, found again by content."""

    def __init__(self, cache: Path) -> None:
        self.cache = Path(cache)

    def run(
        self,
        name: str,
        make: Callable[[Path], Mapping[str, Any]],
        *,
        inputs: Iterable[Path] = (),
        parameters: Mapping[str, Any] | None = None,
        code: Iterable[str] = (),
        distributions: Iterable[str] = (),
    ) -> StageResult:
        """Return the stored result for this content, or make and store it.

        Args:
            name: a folder name.
            make: writes its files into the folder it gets and returns a JSON value of what it did.
            inputs: files whose content the result depends on; their order counts, their place does not.
            parameters: JSON values that the result depends on.
            code: see `code_hash`.
            distributions: see `code_hash`.

        Raises:
            EdgewakeError: an input is missing, or the cache cannot be written. Whatever `make` raises passes
                through, and nothing is stored.
        """
        key = self._key(name, inputs, parameters or {}, code_hash(code, distributions))
        place = self.cache / name / key[:32]
        stored = _stored(place, key)
        if stored is not None:
            return StageResult(place, stored, reused=True)
        record = self._make(place, key, make)
        self._prune(name, keep=place)
        return StageResult(place, record, reused=False)

    @staticmethod
    def _key(name: str, inputs: Iterable[Path], parameters: Mapping[str, Any], code: str) -> str:
        digest = hashlib.sha256()
        digest.update(json.dumps([name, parameters, code], sort_keys=True).encode())
        for path in inputs:
            try:
                digest.update(f"\0{Path(path).name}\0{sha256_file(path)}".encode())
            except OSError as error:
                raise EdgewakeError(
                    f"input {path} of stage {name} cannot be read: {error.strerror}; check the path"
                ) from error
        return digest.hexdigest()

    def _make(self, place: Path, key: str, make: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=".making-", dir=place.parent))
        except OSError as error:
            raise EdgewakeError(f"cannot write {place.parent}: {error.strerror}; free space or choose --out") from error
        try:
            record = json.loads(json.dumps(make(work)))
            files = {str(p.relative_to(work)): sha256_file(p) for p in sorted(work.rglob("*")) if p.is_file()}
            write_json(work / RECORD, {"key": key, "files": files, "record": record})
            if place.exists():
                shutil.rmtree(place)
            work.replace(place)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        return dict(record)

    def _prune(self, name: str, keep: Path) -> None:
        """Drop all but the newest few results of a stage, so that the cache stays small."""
        results = [p for p in (self.cache / name).iterdir() if p.is_dir() and not p.name.startswith(".")]
        results.sort(key=lambda p: p.stat().st_mtime, reverse=True)
        for stale in [p for p in results if p != keep][KEPT_PER_STAGE - 1 :]:
            shutil.rmtree(stale, ignore_errors=True)


def _stored(place: Path, key: str) -> dict[str, Any] | None:
    """The record of an intact result, or None: one changed, missing or added file makes it worthless."""
    try:
        kept = json.loads((place / RECORD).read_text(encoding="utf-8"))
        files = {
            str(p.relative_to(place)): sha256_file(p)
            for p in sorted(place.rglob("*"))
            if p.is_file() and p != place / RECORD
        }
        if kept["key"] != key or kept["files"] != files:
            return None
        return dict(kept["record"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def swap_in(made: Path, place: Path, hand_over: Callable[[Path], None] | None = None) -> None:
    """Put a finished folder where an older one may be; the older one goes only when the new one is in place.

    Args:
        made: the finished folder.
        place: where it goes.
        hand_over: called with the older folder, if there was one, before it goes.

    Raises:
        EdgewakeError: the rename failed; the older folder is where it was.
    """
    recover(place)
    aside = _aside(place)
    try:
        if place.exists():
            place.replace(aside)
        made.replace(place)
    except OSError as error:
        recover(place)
        raise EdgewakeError(f"cannot replace {place}: {error.strerror}; close what uses it") from error
    if hand_over is not None and aside.exists():
        hand_over(aside)
    shutil.rmtree(aside, ignore_errors=True)


def recover(place: Path) -> None:
    """Undo a swap that was cut off: the older folder goes back where it was, or away if it was replaced."""
    aside = _aside(place)
    if aside.exists() and not place.exists():
        aside.replace(place)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")
