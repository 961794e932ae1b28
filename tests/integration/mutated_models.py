"""Run with MODEL SEED COUNT: damaged copies of a model are refused with EdgewakeError, or run in TFLM.

Prints how many were refused and how many ran. A crash or another exception ends the process.
"""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

import numpy as np

from edgewake.errors import EdgewakeError
from edgewake.runtime.streaming import verify
from edgewake.runtime.tflite_file import read_tflite
from edgewake.runtime.tflm import TflmModel


def structure(data: bytes) -> list[int]:
    """Places of 4-byte words that belong to no larger constant: offsets, vectors, tables, strings."""
    free = bytearray(b"\1" * len(data))
    for graph in read_tflite(data):
        for tensor in graph.tensors:
            if tensor.data and len(tensor.data) > 64:
                start = data.find(tensor.data)
                free[start : start + len(tensor.data)] = bytes(len(tensor.data))
    return [place for place in range(0, len(data) - 3, 4) if all(free[place : place + 4])]


def mutated(data: bytes, words: list[int], rng: random.Random) -> bytes:
    """A copy with one fault: flipped bits, another number, swapped words, or bytes cut off, put in or overwritten."""
    found = bytearray(data)
    place, other = rng.choice(words), rng.choice(words)
    kind = rng.randrange(7)
    if kind == 0:
        for _ in range(rng.choice((1, 1, 2, 8))):
            found[rng.choice(words) + rng.randrange(4)] ^= 1 << rng.randrange(8)
    elif kind == 1:
        value = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(2**32), rng.randrange(len(data))))
        struct.pack_into("<I", found, place, value)
    elif kind == 2:
        near = (struct.unpack_from("<I", data, place)[0] + rng.choice((-256, -8, -4, -1, 1, 4, 8, 256))) % 2**32
        struct.pack_into("<I", found, place, near)
    elif kind == 3:
        found[place : place + 4], found[other : other + 4] = data[other : other + 4], data[place : place + 4]
    elif kind == 4:
        del found[rng.randrange(1, len(data)) :]
    elif kind == 5:
        found[place:place] = bytes(rng.randrange(1, 64))
    else:
        length = min(rng.randrange(1, 64), len(data) - place)
        found[place : place + length] = rng.randbytes(length)
    return bytes(found)


def main(model: Path, seed: int, count: int) -> None:
    """Try `count` damaged copies."""
    data, rng = model.read_bytes(), random.Random(seed)
    words, refused, ran = structure(data), 0, 0
    while refused + ran < count:
        damaged = mutated(data, words, rng)
        try:
            verify(damaged)
        except EdgewakeError as error:
            refused += "\n" not in str(error)
            continue
        tflm = TflmModel(damaged)
        tflm.run(np.random.default_rng(seed).integers(-128, 128, (3, tflm.width)).astype(np.int8))
        ran += 1
    print(refused, ran)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
