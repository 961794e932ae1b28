"""The firmware project as it is checked in: where it lies, its files, and the memory sizes in its memory.h."""

from __future__ import annotations

import re
from pathlib import Path

import edgewake
from edgewake.errors import EdgewakeError

MEMORY_HEADER = Path("components") / "edgewake_detector" / "memory.h"
# What a build in the checkout leaves there, and what is generated anew for each model.
IGNORED = {"build", "managed_components", "generated", "sdkconfig", "sdkconfig.old", "dependencies.lock"}


def template_dir() -> Path:
    """The folder of the ESP-IDF project without generated parts.

    A checkout has it at firmware/esp32s3, a wheel inside the package at edgewake/_firmware/esp32s3. An editable install
    has both, and its copy is as old as the install: the checkout comes first.
    """
    packages = [Path(folder).resolve() for folder in edgewake.__path__]
    candidates = [package.parents[1] / "firmware" / "esp32s3" for package in packages]
    candidates += [package / "_firmware" / "esp32s3" for package in packages]
    for candidate in candidates:
        if (candidate / MEMORY_HEADER).is_file():
            return candidate
    raise EdgewakeError(f"the firmware project is not at {candidates[0]}: reinstall edgewake")


def template_files() -> list[Path]:
    """All files of the project, relative to `template_dir`, sorted."""
    root = template_dir()
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(path for path in files if not IGNORED.intersection(path.parts))


def firmware_sizes(header: Path | None = None) -> dict[str, int]:
    """The constants of the firmware's memory.h, by name; of another one where `header` is given."""
    known, sizes = (
        {
            name: int(value)
            for name, value in re.findall(r"^#define (EW_\w+) (\d+)\b", path.read_text(encoding="utf-8"), re.MULTILINE)
        }
        for path in (template_dir() / MEMORY_HEADER, header or template_dir() / MEMORY_HEADER)
    )
    if lacking := known.keys() - sizes.keys():
        raise EdgewakeError(f"{header} lacks #define {min(lacking)} with a number: restore it")
    return sizes
