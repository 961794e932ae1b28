"""The firmware project as it is checked in, found beside the sources or inside an installed package."""

from __future__ import annotations

from pathlib import Path

import edgewake
from edgewake.errors import EdgewakeError

# What a build in the checkout leaves there, and what is generated anew for each model.
IGNORED = {"build", "managed_components", "generated", "sdkconfig", "sdkconfig.old", "dependencies.lock"}


def template_dir() -> Path:
    """The folder of the ESP-IDF project without generated parts.

    A checkout has it at firmware/esp32s3, a wheel inside the package at edgewake/_firmware/esp32s3. An editable install
    has both, and its copy is as old as the install: the checkout comes first.

    Raises:
        EdgewakeError: it is in neither place.
    """
    packages = [Path(folder).resolve() for folder in edgewake.__path__]
    candidates = [package.parents[1] / "firmware" / "esp32s3" for package in packages]
    candidates += [package / "_firmware" / "esp32s3" for package in packages]
    for candidate in candidates:
        if (candidate / "main" / "memory.h").is_file():
            return candidate
    raise EdgewakeError(f"the firmware project is not at {candidates[0]}: reinstall edgewake")


def template_files() -> list[Path]:
    """All files of the project, relative to `template_dir`, sorted."""
    root = template_dir()
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(path for path in files if not IGNORED.intersection(path.parts))
