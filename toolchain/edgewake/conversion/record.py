"""Every stage leaves a JSON record beside its output: what went in, what came out, by which tools."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from edgewake.io import sha256_file, write_json

RECORD_VERSION = 1


def record_path(output: Path) -> Path:
    """Where the record of `output` lies."""
    output = Path(output)
    return output.with_name(f"{output.name}.json")


def write_record(
    output: Path,
    stage: str,
    inputs: Mapping[str, Path],
    details: Mapping[str, Any],
    tools: tuple[str, ...] = (),
) -> None:
    """Write the record of one stage; it holds no time or path, so that equal inputs give equal records.

    Args:
        output: the file that the stage wrote.
        stage: the stage's name.
        inputs: the files it read, by role.
        details: more about the stage, as JSON values.
        tools: installed distributions whose version matters.
    """
    output = Path(output)
    write_json(
        record_path(output),
        {
            "version": RECORD_VERSION,
            "stage": stage,
            "inputs": {role: _file(path) for role, path in inputs.items()},
            "output": _file(output),
            "tools": {name: metadata.version(name) for name in tools},
            "details": dict(details),
        },
    )


def _file(path: Path) -> dict[str, Any]:
    path = Path(path)
    return {"file": path.name, "sha256": sha256_file(path), "bytes": path.stat().st_size}
