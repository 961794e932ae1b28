"""An archive's content is in its folder whole and verified, or not at all; a download that broke off goes on."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Self

from edgewake.assets.corpora import Archive, ArchiveFile
from edgewake.console import bar, track
from edgewake.errors import EdgewakeError, MissingDependencyError
from edgewake.io import make_folder, temporary_beside

ARCHIVES = "archives"
_BLOCK = 1 << 20
# Audio and features unpack to a few times their archive at most; what unpacks to more fills a disk.
MOST_TIMES, ALLOWED_BYTES = 100, 1 << 30


def fetch_archive(
    archive: Archive,
    folder: Path,
    known: Mapping[str, str],
    given: Mapping[str, Path],
    page: str,
    note: Callable[[dict[str, str]], None],
) -> None:
    """Unpack an archive into folder/PART, where that is not there yet, and leave nothing else of it.

    Files come from `given`, by name, or are downloaded into folder/archives and removed in the end. `known` are SHA-256
    of an earlier fetch, for files without a published checksum. What is wrong is named, with `page` as the remedy.

    Args:
        note: gets the SHA-256 of the files by name before they are unpacked, so that where the folder PART is, they
            were noted.
    """
    target, mine = folder / archive.part, [file for file in archive.files if file.name not in given]
    if target.is_dir():
        temporary_beside(target)  # removes what a process that was killed after unpacking left
    else:
        paths = [given.get(file.name) or download(file, folder / ARCHIVES, page) for file in archive.files]
        found = {}
        for file, path in zip(archive.files, paths, strict=True):
            try:
                found[file.name] = verify(path, file.checksum, known.get(file.name, ""))
            except EdgewakeError as error:
                if file.name in given:
                    raise EdgewakeError(f"{error}: compare with {page}") from None
                path.unlink()
                raise EdgewakeError(f"{error}; it was removed: try again, or compare with {page}") from None
        note(found)
        unpack(paths, target)
    for file in mine:
        (folder / ARCHIVES / file.name).unlink(missing_ok=True)


def verify(path: Path, checksum: str, known: str = "") -> str:
    """The SHA-256 of a file; an error where it has not the published checksum, or is not `known`."""
    name, _, published = checksum.partition(":")
    sha256, other = hashlib.sha256(), hashlib.new(name or "sha256")
    with path.open("rb") as file:
        for block in iter(partial(file.read, _BLOCK), b""):
            sha256.update(block)
            other.update(block)
    if published and other.hexdigest() != published:
        raise EdgewakeError(f"{path} has {name.upper()} {other.hexdigest()}, published is {published}")
    if not published and known and sha256.hexdigest() != known:
        raise EdgewakeError(f"{path} has SHA-256 {sha256.hexdigest()}, the fetch before had {known}")
    return sha256.hexdigest()


# ---- downloads -----------------------------------------------------------------------------------


class _Bar:
    """The progress bar of edgewake in the place of tqdm's; in MB."""

    def __init__(self, *, total: float | None = None, initial: int = 0, desc: str = "", **options: Any) -> None:
        self._shown = ExitStack()
        about = f"fetching {desc}, MB"
        self._advance = self._shown.enter_context(bar(about, None if total is None else total / 1e6))
        self.update(initial)

    def update(self, size: int) -> None:
        """Count bytes."""
        self._advance(size / 1e6)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._shown.close()


def download(file: ArchiveFile, folder: Path, page: str) -> Path:
    """The file in `folder`, not verified; NAME.part is what an earlier download left, which goes on (HTTP ranges)."""
    path, begun = folder / file.name, folder / f"{file.name}.part"
    if path.is_file():
        return path
    if find_spec("huggingface_hub") is None:
        what = "downloads take huggingface_hub, not installed: pip install 'edgewake[corpora]'"
        raise MissingDependencyError(f"{what}, or fetch {file.url} by other means and name it with --archive")
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get

    make_folder(folder)
    begun.touch()
    try:
        with begun.open("r+b") as out:
            size = out.seek(0, 2)
            options: dict[str, Any] = {"tqdm_class": _Bar, "displayed_filename": file.name}
            http_get(file.url, out, resume_size=size, **options)
    except Exception as error:  # the HTTP library's own errors, which changed with the hub's versions
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
        if status != 416:  # "range not satisfiable": all of it is there
            reason = f"{file.url}: {' '.join(str(error).split())[:200] or type(error).__name__}"
            had = f"{begun.stat().st_size / 1e6:,.1f} MB are kept, and the same command goes on from there"
            by_hand = f"if it fails again, see {page}, download it by hand, and name it with --archive"
            raise EdgewakeError(f"{reason}; {had}; {by_hand}") from error
    return begun.rename(path)


# ---- archives ------------------------------------------------------------------------------------


def unpack(paths: Sequence[Path], target: Path) -> None:
    """Unpack a tar or zip, or a zip in several files, into the folder `target`, which is then new and whole.

    An archive with a path outside the folder is refused; of a tar, links that lead out of it too.
    """
    work = temporary_beside(target)
    try:
        work.mkdir()
        archive = paths[0] if len(paths) == 1 else _joined(paths, work)
        if zipfile.is_zipfile(archive):
            _unzip(archive, work / "unpacked")
        else:
            with tarfile.open(archive) as tar:
                size = 0
                for member in track(tar, f"unpacking {archive.name}"):
                    size += member.size
                    _check_size(archive, size)
                    tar.extract(member, work / "unpacked", filter="data")
        (work / "unpacked").rename(target)
    except tarfile.FilterError as error:
        raise EdgewakeError(f"{paths[-1]} is not unpacked: {error}; compare its source") from error
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise EdgewakeError(f"{paths[-1]} is damaged, or no zip or tar ({reason}): fetch it again") from error
    except OSError as error:
        reason = f"{error.strerror or error}; free space or choose another --out"
        raise EdgewakeError(f"cannot unpack {paths[-1]} into {target}: {reason}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_size(archive: Path, size: int) -> None:
    """Refuse what unpacks to far more than its own size, or more than the disk has free, before it is written."""
    packed, free = archive.stat().st_size, shutil.disk_usage(archive.parent).free
    limit = max(ALLOWED_BYTES, MOST_TIMES * packed)
    if size > limit:
        what = f"{archive} of {packed:,} B unpacks to {size:,} B or more, {limit:,} are allowed"
        raise EdgewakeError(f"{what}: compare its source, or unpack it by hand")
    if size > free:
        what = f"{archive} unpacks to {size:,} B or more, the disk has {free:,} free"
        raise EdgewakeError(f"{what}: free space, or choose another --out")


def _unzip(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            place = PurePosixPath(member.filename)
            if place.is_absolute() or ".." in place.parts:
                what = f"{member.filename!r} would be outside the destination"
                raise EdgewakeError(f"{archive} is not unpacked: {what}; compare its source")
        _check_size(archive, sum(member.file_size for member in content.infolist()))
        for member in track(content.infolist(), f"unpacking {archive.name}"):
            content.extract(member, target)


def _joined(paths: Sequence[Path], folder: Path) -> Path:
    """The zip that several files are; neither Python's zipfile nor libarchive reads those."""
    if not shutil.which("zip"):
        raise MissingDependencyError(f"{paths[-1].name} is a zip in {len(paths)} files, joined by zip: install zip")
    joined = folder / paths[-1].name
    command = ["zip", "-q", "-s", "0", str(paths[-1].absolute()), "--out", str(joined.absolute())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        reason = " ".join((done.stdout + done.stderr).split())[:300]
        raise EdgewakeError(f"{paths[-1]}: zip could not join its {len(paths)} files: {reason}")
    return joined
