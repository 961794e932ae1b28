"""The record of a run: what it was made of (settings, code, data, seed), how it ended, with which figures."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from edgewake import __version__
from edgewake.config import WakewordConfig
from edgewake.data.manifest import CorpusManifest
from edgewake.data.reading import file_of
from edgewake.errors import EdgewakeError
from edgewake.fingerprint import code_fingerprint
from edgewake.io import is_running, known_sha256, read_json, write_json

Status = Literal["running", "finished", "failed", "interrupted"]
RECORD = "run.json"
# A folder with one of these is a run's: begun earlier, or only checked.
RUN_FILES = (RECORD, "check.json")
# What decides a run's figures; the command line, conversion and the user interface do not.
TRAINS = "edgewake.training.run"


@dataclass
class Run:
    """What `run.json` holds: made by `command`, from the settings with hash `config`, recordings with hash `data`.

    `status` is running, finished, failed or interrupted; as read also "stopped", for a record of a running run whose
    `process` (which wrote it last) is gone, and in lists "unreadable". Times are UTC, ISO 8601; `data` is "" as long
    as the recordings were not looked at.
    """

    name: str
    status: str
    created: str
    updated: str
    command: str = "train"
    config: str = ""
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    data: str = ""
    process: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


def record_run(
    out: Path,
    config: WakewordConfig,
    manifest: CorpusManifest | None,
    status: Status,
    *,
    command: str = "train",
    **figures: Any,
) -> Run:
    """Write `out`/run.json, when a run begins, when its recordings are known, and when it ends.

    A later call keeps what an earlier one found (creation, hash of the data, figures) and adds `figures` to it;
    `manifest` is None where the recordings are not known yet, or as before.
    """
    out, now = Path(out), _utc(time.time())
    before = _read(out / RECORD) if (out / RECORD).exists() else Run("", "", now, now)
    run = Run(
        name=out.resolve().name,
        status=status,
        created=before.created,
        updated=now,
        command=command,
        config=config.hash(),
        seed=config.training.seed,
        versions=dict(code_version()),
        data=before.data if manifest is None else data_hash(manifest),
        process=identity(os.getpid()),
        figures=before.figures | figures,
    )
    write_json(out / RECORD, asdict(run))
    return run


@contextmanager
def recorded_run(
    out: Path, config: WakewordConfig, *, command: str = "train", write: bool = True
) -> Iterator[dict[str, Any]]:
    """Keep `out`/run.json up to date (if `write`): running within, and how it ended afterwards.

    Yields the figures to record, a dictionary to be filled; lists are left out.
    """
    figures: dict[str, Any] = {}

    def record(status: Status) -> None:
        if write:
            kept = {name: value for name, value in figures.items() if not isinstance(value, list)}
            record_run(out, config, None, status, command=command, **kept)

    record("running")
    try:
        yield figures
    except BaseException as error:
        record("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    record("finished")


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


@cache
def code_version() -> Mapping[str, str]:
    """The version of edgewake, a hash of what trains ("code"), and the commit where there is a checkout."""
    versions = {"edgewake": __version__, "code": code_fingerprint(TRAINS)[:16]}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    # A package that is installed belongs to no checkout.
    with suppress(OSError, subprocess.SubprocessError):
        git("ls-files", "--error-unmatch", "__init__.py")
        changes = "+changes" if git("status", "--porcelain", "--", ".") else ""
        versions["commit"] = git("rev-parse", "HEAD")[:12] + changes
    return versions


def data_hash(manifest: CorpusManifest) -> str:
    """First 16 hex digits of the SHA-256 of what a run learns from: entries and content of files, wherever they lie."""
    digest = hashlib.sha256(manifest.phrase.encode())
    for entry in manifest.entries:
        file = file_of(manifest.path_of(entry))
        content = known_sha256(file) if file.exists() else "missing"
        digest.update(json.dumps([entry.model_dump(mode="json"), content], sort_keys=True).encode())
    return digest.hexdigest()[:16]


def identity(process: int) -> dict[str, Any]:
    """What identifies a process of this machine: id, start (ids come again; "" where it is unknown) and machine."""
    try:
        # The name, in parentheses, may hold blanks; the start is the 20th field after it.
        start = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        start = ""
    return {"id": process, "start": start, "machine": socket.gethostname()}


def is_alive(process: Mapping[str, Any]) -> bool:
    """Whether the process of a run is still there; a process of another machine counts as there."""
    if process.get("machine") != socket.gethostname():
        return True
    number = process.get("id")
    return isinstance(number, int) and is_running(number) and process == identity(number)


def _read(path: Path) -> Run:
    raw = read_json(path, "run record")
    try:
        return Run(**raw)
    except TypeError as error:
        raise EdgewakeError(f"run record {path} is not one of this edgewake: {error}; delete it") from None


def load_run(folder: Path) -> Run:
    """The run in a folder; an error where there is none."""
    if not (Path(folder) / RECORD).exists():
        raise EdgewakeError(f"{folder} holds no run (no {RECORD}); edgewake runs lists them")
    run = _read(Path(folder) / RECORD)
    if run.status == "running" and not is_alive(run.process):
        run.status = "stopped"
    return run


def list_runs(root: Path) -> list[Run]:
    """All runs directly in `root`, the newest last; one that is damaged does not hide the others."""
    found = []
    for path in sorted(Path(root).glob(f"*/{RECORD}")):
        try:
            found.append(load_run(path.parent))
        except EdgewakeError as error:
            made = _utc(path.stat().st_mtime)
            found.append(Run(path.parent.name, "unreadable", made, made, figures={"error": str(error)}))
    return sorted(found, key=lambda run: run.created)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
