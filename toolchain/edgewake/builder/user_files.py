"""A new build replaces the last one whole, and every file in it that edgewake did not write is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from edgewake.builder.firmware import GENERATED
from edgewake.errors import EdgewakeError
from edgewake.io import read_json, sha256_file
from edgewake.targets.firmware import template_files

REPORT, PAGE, FIRMWARE = "report.json", "report.html", Path("firmware")
# Written by idf.py: kept as any other file, but not worth a line in the report.
IDF_FILES = {"build", "managed_components", "sdkconfig", "sdkconfig.old", "dependencies.lock"}


def template_hashes(firmware: Path, files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of a project's files that are not generated, by their path in it; a later build finds edits by it."""
    return {path.as_posix(): sha256_file(firmware / path) for path in files if not path.is_relative_to(GENERATED)}


def users_files(out: Path) -> list[Path]:
    """Files of a build folder that the build did not write, or that were edited since: relative to it, sorted.

    Files that every build writes again do not count: those directly in `out` that its report lists, the reports,
    and the generated folder of the firmware.
    """
    out = Path(out)
    report = read_json(out / REPORT, "report") if (out / REPORT).is_file() else {}
    try:
        template = {(FIRMWARE / path).as_posix(): str(digest) for path, digest in report.get("template", {}).items()}
        products = {item["path"] for item in report.get("files", ())} | {REPORT, PAGE}
    except (AttributeError, KeyError, TypeError) as error:
        raise EdgewakeError(f"{out / REPORT} is not the report of a build: choose another --out") from error
    if not template:
        # There is no record to find edits by: files of today's template count as edgewake's own.
        template = {(FIRMWARE / path).as_posix(): "" for path in template_files()}
    found = []
    for folder, folders, names in os.walk(out):
        here = Path(folder).relative_to(out)
        folders[:] = [name for name in folders if here / name != FIRMWARE / GENERATED]
        links = [name for name in folders if (out / here / name).is_symlink()]
        for path in (here / name for name in (*names, *links)):
            digest = template.get(path.as_posix())
            changed = bool(digest) and sha256_file(out / path) != digest
            if changed or (digest is None and path.as_posix() not in products):
                found.append(path)
    return sorted(found)


def edited_firmware(files: list[Path]) -> list[Path]:
    """Those of `users_files` that a person wrote, relative to the firmware."""
    inside = [path.relative_to(FIRMWARE) for path in files if path.parts[0] == FIRMWARE.name]
    return [path for path in inside if path.parts[0] not in IDF_FILES]


def keep_user_files(old: Path, new: Path) -> None:
    """Put the user's files of the old build into the new one as well, where they replace what is there.

    They are hard links, or copies where the file system has no links: at every moment either folder is
    complete. Files that are equal in both builds get their old times, so that idf.py does not compile them again.
    """
    files = users_files(old)
    for path in files:
        target = new / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(old / path, target, follow_symlinks=False)
        except OSError:
            shutil.copy2(old / path, target, follow_symlinks=False)
    for path in sorted(set(new.rglob("*")) - {new / path for path in files}, reverse=True):
        before = old / path.relative_to(new)
        if before.is_dir() if path.is_dir() else before.is_file() and sha256_file(path) == sha256_file(before):
            shutil.copystat(before, path)


def replace_build(made: Path, out: Path) -> None:
    """Rename a finished folder into the place of the last build, which goes only afterwards."""
    aside = _aside(out)
    try:
        if out.exists():
            out.replace(aside)
        made.replace(out)
    except OSError as error:
        restore_build(out)
        raise EdgewakeError(f"cannot replace {out}: {error.strerror}; close what uses it") from error
    shutil.rmtree(aside, ignore_errors=True)


def restore_build(out: Path) -> None:
    """Undo or finish a `replace_build` that was cut off: call it before anything is written to `out`."""
    aside = _aside(out)
    if aside.exists():
        if not out.exists() or not any(out.iterdir()):
            aside.replace(out)
        else:
            shutil.rmtree(aside, ignore_errors=True)


def _aside(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")
