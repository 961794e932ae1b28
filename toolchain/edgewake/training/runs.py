"""The record of a run: what it was made of (settings, code, data, seed), how it ended, with which figures."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from edgewake import __version__
from edgewake.config import WakewordConfig
from edgewake.data.manifest import CorpusManifest
from edgewake.data.reading import file_of
from edgewake.errors import EdgewakeError
from edgewake.fingerprint import code_fingerprint
from edgewake.io import is_running, read_json, write_json

Status = Literal["running", "finished", "failed", "interrupted"]
RECORD = "run.json"
# A folder with one of these is a run's: begun earlier, or only checked.
RUN_FILES = (RECORD, "check.json")
# What decides a run's figures; the command line, conversion and the user interface do not.
TRAINS = "edgewake.training.run"
_BLOCK = 4096
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass
class Run:
    """What `run.json` holds.

    Attributes:
        name: of its folder.
        status: "running", "finished", "failed", "interrupted"; as read also "stopped", for a record of a
            running run whose process is gone, and in lists "unreadable".
        created, updated: UTC, ISO 8601.
        command: what made it: train, teacher, ablate, sweep.
        config: hash of the settings, `WakewordConfig.hash`.
        seed: `training.seed`.
        versions: of edgewake; "commit" where the package lies in a checkout; "code", a hash of all that
            trains.
        data: see `data_hash`; "" as long as the recordings were not looked at.
        process: id, start and machine of the process that wrote it last.
        figures: JSON values by name.
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
    """Write, or bring up to date, `out`/run.json.

    Call it when a run begins and when it ends. A later call keeps what an earlier one found (creation, hash
    of the data, figures) and adds to it.

    Args:
        out: the run's folder.
        manifest: the recordings it uses, or None where they are not known (yet).
        status: how the run stands.
        command: what makes the run.
        figures: JSON values to keep by name.

    Raises:
        EdgewakeError: the folder cannot be written.
    """
    if status not in get_args(Status):
        raise EdgewakeError(f"status {status!r} of a run: must be one of {', '.join(get_args(Status))}")
    out = Path(out)
    before = _read(out / RECORD)
    process = this_process()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    data = ""
    if before is not None and (manifest is None or before.process == process):
        data = before.data
    if manifest is not None and not data:
        data = data_hash(manifest)
    run = Run(
        name=out.resolve().name,
        status=status,
        created=before.created if before is not None else now,
        updated=now,
        command=command,
        config=config.hash(),
        seed=config.training.seed,
        versions=dict(code_version()),
        data=data,
        process=process,
        figures={**(before.figures if before is not None else {}), **figures},
    )
    write_json(out / RECORD, asdict(run))
    return run


@dataclass
class Recorded:
    """A run while it goes on; see `recorded_run`."""

    out: Path
    config: WakewordConfig
    command: str
    write: bool
    manifest: CorpusManifest | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    data: str = ""

    def update(self, status: Status) -> None:
        """Write run.json anew."""
        if self.write:
            figures = {name: value for name, value in self.figures.items() if not isinstance(value, list)}
            self.data = record_run(self.out, self.config, self.manifest, status, command=self.command, **figures).data


@contextmanager
def recorded_run(
    out: Path, config: WakewordConfig, *, command: str = "train", write: bool = True
) -> Iterator[Recorded]:
    """Keep `out`/run.json up to date: running within, and how it ended afterwards, with the `figures` it was given.

    Args:
        command: what makes the run.
        write: False in processes that write no files.
    """
    run = Recorded(out, config, command, write)
    run.update("running")
    try:
        yield run
    except KeyboardInterrupt:
        run.update("interrupted")
        raise
    except BaseException:
        run.update("failed")
        raise
    run.update("finished")


# ---- what a run was made of ----------------------------------------------------------------------


@cache
def code_version() -> Mapping[str, str]:
    """The version of edgewake, a hash of what trains ("code"), and the commit where there is a checkout."""
    versions = {"edgewake": __version__, "code": code_fingerprint(TRAINS)[:16]}
    commit = _commit()
    return versions | ({"commit": commit} if commit else {})


def _commit() -> str:
    """The commit that this package lies in, or "": a package that is installed belongs to no checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(_PACKAGE), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    head = git("rev-parse", "HEAD")
    if head is None:
        return ""
    return head[:12] + ("+changes" if git("status", "--porcelain", "--", ".") else "")


def data_hash(manifest: CorpusManifest) -> str:
    """First 16 hex digits of the SHA-256 of what a run learns from: entries, sizes, and samples of content.

    Of every file the size and three blocks of 4 KiB (start, middle, end) count, so that a corpus of many
    hours is hashed in seconds, and a copy of it on another machine has the same hash: neither paths before
    the manifest's root nor times of files count. A missing file counts as missing.
    """
    digest = hashlib.sha256(manifest.phrase.encode())
    for entry in manifest.entries:
        digest.update(json.dumps(entry.model_dump(mode="json"), sort_keys=True).encode())
        digest.update(_sample(file_of(manifest.path_of(entry))))
    return digest.hexdigest()[:16]


def _sample(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            parts = [f"\0{size}\0".encode()]
            for at in (0, max(0, size // 2 - _BLOCK // 2), max(0, size - _BLOCK)):
                file.seek(at)
                parts.append(file.read(_BLOCK))
    except OSError:
        return b"\0missing\0"
    return b"".join(parts)


def this_process() -> dict[str, Any]:
    """What identifies this process: id, start (ids come again) and machine."""
    return {"id": os.getpid(), "start": _started(os.getpid()), "machine": socket.gethostname()}


def _started(process: int) -> str:
    """When a process started, in a form that only equality means anything of; "" where that is unknown."""
    try:
        # The name, in parentheses, may hold blanks; the start is the 20th field after it.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_alive(process: Mapping[str, Any]) -> bool:
    """Whether the process of a run is still there; a process of another machine counts as there."""
    if process.get("machine") != socket.gethostname():
        return True
    number = process.get("id")
    if not isinstance(number, int) or not is_running(number):
        return False
    start = _started(number)
    return not start or not process.get("start") or start == process["start"]


# ---- reading -------------------------------------------------------------------------------------


def _read(path: Path) -> Run | None:
    if not path.exists():
        return None
    raw = read_json(path, "run record")
    try:
        return Run(**raw)
    except TypeError as error:
        raise EdgewakeError(f"run record {path} is not one of this edgewake: {error}; delete it") from None


def load_run(folder: Path) -> Run:
    """The run in a folder; one without run.json is read from what else training left.

    Raises:
        EdgewakeError: there is no run.
    """
    folder = Path(folder)
    run = _read(folder / RECORD)
    if run is None:
        return _older(folder)
    if run.status == "running" and not is_alive(run.process):
        run.status = "stopped"
    return run


def _older(folder: Path) -> Run:
    path = folder / "config.yaml"
    if not path.exists():
        raise EdgewakeError(f"{folder} holds no run (neither {RECORD} nor config.yaml); edgewake runs lists them")
    config = WakewordConfig.load(path)
    made = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    result = folder / "result.json"
    figures = read_json(result, "result") if result.exists() else {}
    return Run(
        name=folder.resolve().name,
        status="finished" if result.exists() else "stopped",
        created=made,
        updated=made,
        config=config.hash(),
        seed=config.training.seed,
        figures={name: value for name, value in figures.items() if not isinstance(value, list)},
    )


def list_runs(root: Path) -> list[Run]:
    """All runs directly in `root`, the newest last; folders that hold no run are passed over."""
    root = Path(root)
    folders = [p for p in sorted(root.iterdir()) if p.is_dir()] if root.is_dir() else []
    found = [_listed(p) for p in folders if (p / RECORD).exists() or (p / "config.yaml").exists()]
    return sorted(found, key=lambda run: run.created)


def _listed(folder: Path) -> Run:
    """As `load_run`; one folder that is damaged does not hide the others."""
    try:
        return load_run(folder)
    except EdgewakeError as error:
        made = datetime.fromtimestamp(folder.stat().st_mtime, UTC).isoformat(timespec="seconds")
        return Run(folder.name, "unreadable", made, made, figures={"error": str(error)})


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
