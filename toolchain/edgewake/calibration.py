"""Calibration features and golden vectors are read whole and checked against their hashes, or not at all."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewake.errors import EdgewakeError
from edgewake.io import read_json

MANIFEST = "manifest.json"
VERSION = 1


def array_sha256(array: NDArray[Any]) -> str:
    """SHA-256 of an array's values, little endian in C order, as 64 hex digits."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.tobytes()).hexdigest()


def default_folder() -> Path:
    """The checkout's `calibration/` where the package lies in one, else the copy installed with the package."""
    package = Path(__file__).resolve().parent
    candidates = (package.parent.parent / "calibration", package / "_calibration")
    for folder in candidates:
        if (folder / MANIFEST).is_file():
            return folder
    places = " or ".join(map(str, candidates))
    raise EdgewakeError(f"no calibration data in {places}: reinstall edgewake, or name a folder")


def load_manifest(path: Path | None = None) -> dict[str, Any]:
    """The description of a calibration folder: frontend hash, hashes of the arrays, and the scenes in order."""
    file = Path(path or default_folder()) / MANIFEST
    manifest = read_json(file, "calibration manifest")
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        raise EdgewakeError(f"calibration manifest {file} is not version {VERSION}: run calibration/make.py")
    return manifest


def load_features(path: Path | None = None) -> NDArray[np.uint16]:
    """Features of the calibration audio, one stream from reset, in the default frontend: uint16 (frames, channels).

    10 ms a frame; the real value is uint16 * 0.0390625.
    """
    return _arrays(path, "features", "features")[0].astype(np.uint16, copy=False)


def load_golden(path: Path | None = None) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """The golden vectors that host and board must both reproduce.

    Audio, int16 (samples,) at 16 kHz, and its features from reset, uint16 (frames, channels).
    """
    audio, features = _arrays(path, "golden", "audio", "features")
    return audio.astype(np.int16, copy=False), features.astype(np.uint16, copy=False)


def _arrays(path: Path | None, name: str, *keys: str) -> list[NDArray[Any]]:
    folder = Path(path or default_folder())
    file, expected = folder / f"{name}.npz", load_manifest(folder).get(name)
    if not isinstance(expected, dict):
        raise EdgewakeError(f"calibration manifest {folder / MANIFEST} lacks {name}: run calibration/make.py")
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as archive:
            arrays = [archive[key] for key in keys]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EdgewakeError(f"calibration file {file} cannot be read ({error}): run calibration/make.py") from error
    for key, array in zip(keys, arrays, strict=True):
        found, wanted = array_sha256(array)[:16], str(expected.get(f"{key}_sha256"))[:16]
        if found != wanted:
            what = f"{key} has SHA-256 {found}, its manifest has {wanted}"
            raise EdgewakeError(f"calibration file {file}: {what}: run calibration/make.py")
    return arrays
