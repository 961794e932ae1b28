"""A firmware folder is built by an installed ESP-IDF, and its map file says what flash and RAM it really takes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewake.errors import EdgewakeError, MissingDependencyError

# Of `project(edgewake)` in the firmware's CMakeLists.txt.
MAP = Path("build") / "edgewake.map"
# Components that are this project's or its model's; the registry's have the prefix `espressif__`.
PARTS = ("edgewake", "edgewake_detector", "edgewake_model", "esp-tflite-micro", "esp-nn")
# Lines of the computed memory that no map file has: the model is in flash, and the driver allocates its buffers.
NOT_STATIC = ("model", "I2S DMA")


def require_idf() -> str:
    """The path of idf.py; what lacks is an error before anything takes long."""
    try:
        import esp_idf_size  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("--idf needs esp-idf-size: pip install 'edgewake[idf]'") from error
    tool = shutil.which("idf.py")
    if tool is None:
        raise EdgewakeError("idf.py is not found: source ESP-IDF's export.sh, or build without --idf")
    return tool


def build_with_idf(firmware: Path, memory: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Run `idf.py build` in a firmware folder, its output on standard error; returns `idf_figures` of its map file.

    A folder without sdkconfig gets ESP-IDF's target first.
    """
    actions = ["build"] if (firmware / "sdkconfig").is_file() else ["set-target", "esp32s3", "build"]
    done = subprocess.run([require_idf(), *actions], cwd=firmware, stdout=sys.stderr, check=False)
    if done.returncode:
        raise EdgewakeError(f"idf.py {' '.join(actions)} failed with status {done.returncode} in {firmware}: see above")
    return idf_figures(firmware / MAP, memory)


def idf_figures(path: Path, memory: list[Mapping[str, Any]]) -> dict[str, Any]:
    """What a map file of ESP-IDF says, beside the computed memory.

    Args:
        path: the linker's map file.
        memory: lines with "name" and "bytes", as in report.json.

    Returns:
        "image_bytes"; "parts", each of `PARTS` with its bytes of "flash" and "ram" (code that lies in RAM, initialized
        data and zeroed data; what is not zero at the start is in flash too); and "compared", rows with "name",
        "computed" and "built" in bytes: the model and its tables in flash, and the static RAM.
    """
    from esp_idf_size import memorymap

    try:
        found = memorymap.get(str(path), load_symbols=False)
    except memorymap.MemMapException as error:
        raise EdgewakeError(f"{path} is no map file of ESP-IDF ({error}): build again") from error
    parts = {name: {"flash": 0, "ram": 0} for name in PARTS}
    for kind in found["memory_types"].values():
        for section, content in kind["sections"].items():
            for archive, sizes in content["archives"].items():
                name = Path(archive).stem.removeprefix("lib").removeprefix("espressif__")
                if name in parts:
                    parts[name]["ram"] += 0 if section.startswith(".flash") else sizes["size"]
                    parts[name]["flash"] += 0 if "bss" in section or "noinit" in section else sizes["size"]
    if not any(part["flash"] for part in parts.values()):
        raise EdgewakeError(f"{path} has no component of edgewake: build again")
    computed = {line["name"]: int(line["bytes"]) for line in memory}
    static = sum(size for name, size in computed.items() if name not in NOT_STATIC)
    return {
        "image_bytes": found["image_size"],
        "parts": [{"name": name, **part} for name, part in parts.items()],
        "compared": [
            {"name": "model", "computed": computed["model"], "built": parts["edgewake_model"]["flash"]},
            {"name": "static RAM", "computed": static, "built": sum(part["ram"] for part in parts.values())},
        ],
    }
