"""Keys of the release before: they act under their new names for one release, each with one line of warning."""

from __future__ import annotations

import functools
from typing import Any

from edgewake.console import error_console

# Old path: (new path, what else a user of the old one must know). An entry is removed one release after it was added.
RENAMED: dict[str, tuple[str, str]] = {
    "training.cache": ("cache.folder", ""),
    "training.mining_threshold": ("training.mining_cutoff", ""),
    "distillation.cache_gb": ("cache.limit_gb", ""),
    "distillation.cache": ("distillation.store_outputs", "; where outputs are stored is cache.folder"),
}


@functools.cache
def warn(old: str) -> None:
    """One line on stderr, once in a process for each key."""
    new, note = RENAMED[old]
    error_console.print(f"warning: {old} is now {new}{note}; the old name ends with the next release", soft_wrap=True)


def replaced(path: str, value: Any) -> tuple[str, Any]:
    """The path and value of today for a path and value of the release before; others as they are."""
    if path in RENAMED:
        warn(path)
        # This one was a folder, and empty where outputs were not to be stored.
        path, value = RENAMED[path][0], bool(value) if path == "distillation.cache" else value
    return path, value


def replaced_in(values: dict[str, Any]) -> dict[str, Any]:
    """Sections of keys with the old keys replaced; where a section has the new one too, that one counts."""
    sections = {name: dict(keys) if isinstance(keys, dict) else keys for name, keys in values.items()}
    for old in RENAMED:
        section, _, key = old.partition(".")
        if isinstance(sections.get(section), dict) and key in sections[section]:
            new, value = replaced(old, sections[section].pop(key))
            section, _, key = new.partition(".")
            sections[section] = sections.get(section) or {}
            if isinstance(sections[section], dict):
                sections[section].setdefault(key, value)
    return sections
