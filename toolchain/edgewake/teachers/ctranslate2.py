"""Reads the variables of a CTranslate2 model.bin without CTranslate2, or refuses the file as malformed."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgewake.errors import EdgewakeError

# In the order of ctranslate2::DataType; bfloat16 (5) has no type in numpy and no asset uses it.
TYPES = tuple(np.dtype(name) for name in ("<f4", "i1", "<i2", "<i4", "<f2"))
VERSION = 6


class _Reader:
    def __init__(self, data: memoryview, path: Path) -> None:
        self.data, self.path, self.place = data, path, 0

    def check(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise EdgewakeError(
                f"{self.path} is not a CTranslate2 model that edgewake reads: {otherwise}, at byte {self.place:,}; "
                "fetch it again"
            )

    def take(self, size: int) -> memoryview:
        self.check(self.place + size <= len(self.data), f"it ends at byte {len(self.data):,}, within a value")
        self.place += size
        return self.data[self.place - size : self.place]

    def integer(self, form: str) -> int:
        return int(struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0])

    def text(self) -> str:
        raw = bytes(self.take(self.integer("H")))
        self.check(raw.endswith(b"\0"), "a string without its closing zero")
        return raw[:-1].decode(errors="replace")


def read_model(path: Path, prefix: str = "") -> dict[str, NDArray[np.generic]]:
    """Variables of a model.bin of binary version 6 by name, each a read-only view of the mapped file.

    Args:
        prefix: only variables whose names start with it; the names are returned without it.

    Raises:
        EdgewakeError: the file is missing, cut short or of another format.
    """
    try:
        data = np.memmap(path, np.uint8, mode="r").data
    except (OSError, ValueError) as error:
        raise EdgewakeError(f"{path} cannot be read: {error}; check the path") from error
    reader = _Reader(data, path)
    version = reader.integer("I")
    reader.check(version == VERSION, f"binary version {version} is not {VERSION}")
    reader.text()  # the model's class
    reader.integer("I")  # and its revision
    found: dict[str, NDArray[np.generic]] = {}
    for _ in range(reader.integer("I")):
        name = reader.text()
        shape = [reader.integer("I") for _ in range(reader.integer("B"))]
        kind = reader.integer("B")
        reader.check(kind < len(TYPES), f"{name} has type {kind}")
        raw = reader.take(reader.integer("I"))
        expected = TYPES[kind].itemsize * int(np.prod(shape, dtype=np.int64))
        reader.check(len(raw) == expected, f"{name} has {len(raw):,} B for shape {shape}")
        found[name] = np.frombuffer(raw, TYPES[kind]).reshape(shape)
    for _ in range(reader.integer("I")):
        alias, name = reader.text(), reader.text()
        if name in found:
            found[alias] = found[name]
    reader.check(reader.place == len(data), f"{len(data) - reader.place:,} B follow the end")
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
