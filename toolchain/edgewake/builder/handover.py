"""What people and idf.py left in a build's firmware lives on in the next; edgewake replaces only its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgewake.builder.firmware import GENERATED
from edgewake.io import sha256_file
from edgewake.targets.template import template_dir, template_files

# What idf.py leaves in the project and would have to make again.
TOOLS_FILES = ("build", "managed_components", "sdkconfig", "sdkconfig.old", "dependencies.lock")


def template_hashes() -> dict[str, str]:
    """SHA-256 of every file that a build copies, by path; the next build knows edits by it."""
    return {path.as_posix(): sha256_file(template_dir() / path) for path in template_files()}


def edited_files(firmware: Path, hashes: dict[str, Any]) -> list[Path]:
    """Files of a firmware folder that its build did not write so, relative to it, sorted.

    Args:
        firmware: of the last build; need not exist.
        hashes: `template_hashes` as that build recorded them; nothing recorded, nothing edited.
    """
    if not hashes:
        return []
    found = []
    for folder, folders, names in os.walk(firmware):
        here = Path(folder).relative_to(firmware)
        folders[:] = [name for name in folders if here / name != GENERATED and not _is_tools(here / name)]
        found += [here / name for name in names if not _is_tools(here / name)]
    return sorted(path for path in found if sha256_file(firmware / path) != hashes.get(path.as_posix()))


def _is_tools(path: Path) -> bool:
    return path.as_posix() in TOOLS_FILES


def hand_over(old: Path, new: Path, edits: Iterable[Path]) -> None:
    """Copy edits from the old firmware to the new, and the times of files that are the same in both.

    idf.py compiles what is newer than its result, so that a file with its old time is not compiled again.
    """
    for path in edits:
        (new / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(old / path, new / path)
    for path in new.rglob("*"):
        before = old / path.relative_to(new)
        if path.is_file() and before.is_file() and sha256_file(path) == sha256_file(before):
            shutil.copystat(before, path)


def move_tools_files(old: Path, new: Path) -> None:
    """Hand over what idf.py made: its settings, and what it compiled."""
    for name in TOOLS_FILES:
        if (old / name).exists() and not (new / name).exists():
            (old / name).replace(new / name)
